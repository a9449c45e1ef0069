import ArgumentParser
import Foundation
import WorkerProtocol

struct AuditCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit", abstract: "Look at the audit trail of the running node.", subcommands: [Show.self])

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the latest audit messages, oldest first, one XML document a line.",
            discussion: "They name patients. That somebody read them becomes a message too.")

        @Option(name: .long, help: "The node's run directory.")
        var runDirectory = "/run/ichnode"

        @Option(name: .long, help: "At most so many.")
        var limit = 100

        func run() async throws {
            try await Terminal.run {
                let response = try ControlClient.ask(.showAudit(limit: limit), runDirectory: runDirectory)
                guard case .auditMessages(let messages) = response else { return }
                for message in messages { Terminal.say(message) }
            }
        }
    }
}
