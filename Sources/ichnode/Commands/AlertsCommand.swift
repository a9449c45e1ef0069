import ArgumentParser
import Ledger

struct AlertsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "alerts", abstract: "List what an operator of the running node should look at, the newest first.")
    @OptionGroup var node: StudyCommand.NodeOptions
    @Flag(name: .long, help: "Also what is over.")
    var all = false
    @Option(name: .long, help: "At most so many.")
    var limit = 50

    func run() async throws {
        try await Terminal.run {
            let request = ControlRequest.listOperatorAlerts(all: all, limit: limit)
            let response = try ControlClient.ask(request, runDirectory: node.runDirectory)
            guard case .operatorAlerts(let alerts) = response else { return }
            try node.print(alerts) { Self.table(alerts) }
        }
    }

    static func table(_ alerts: [OperatorAlertEntry]) -> String {
        guard !alerts.isEmpty else { return "nothing" }
        let header = ["NO", "RAISED", "CLEARED", "KIND", "TIMES", "WHAT"]
        let rows = alerts.map { alert in
            [
                "\(alert.id)", StudyText.time(alert.raisedAt), alert.clearedAt.map(StudyText.time) ?? "-",
                alert.kind.rawValue, "\(alert.occurrence)", alert.text,
            ]
        }
        return StudyText.columns([header] + rows)
    }
}
