import ArgumentParser
import Foundation
import Ledger
import WorkerProtocol

struct OutboxCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "outbox", abstract: "See and steer the deliveries of the running node.",
        subcommands: [List.self, Retry.self, Discard.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List deliveries that wait or were given up, the newest first.")
        @OptionGroup var node: StudyCommand.NodeOptions
        @Flag(name: .long, help: "Also those that were taken or withdrawn.")
        var all = false
        @Option(name: .long, help: "At most so many.")
        var limit = 50

        func run() async throws {
            try await Terminal.run {
                let request = ControlRequest.listDeliveries(all: all, limit: limit)
                let response = try ControlClient.ask(request, runDirectory: node.runDirectory)
                guard case .deliveries(let deliveries) = response else { return }
                try node.print(deliveries) { OutboxText.table(deliveries) }
            }
        }
    }

    struct Retry: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Try a delivery again now, also one that was given up.",
            discussion: "What the destination has taken already is not sent again.")
        @OptionGroup var delivery: ActedOn
        func run() async throws { try await delivery.act { .retryDelivery($0) } }
    }

    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Withdraw a delivery for good.",
            discussion: "What the destination has taken already stays there.")
        @OptionGroup var delivery: ActedOn
        func run() async throws { try await delivery.act { .discardDelivery($0) } }
    }

    /// A delivery that the running node is told to do something about.
    struct ActedOn: ParsableArguments {
        @Option(name: .long, help: "The node's run directory.")
        var runDirectory = "/run/ichnode"
        @Argument(help: "Number of the delivery, as `ichnode outbox list` shows it.")
        var id: Int64

        func act(_ request: (Int64) -> ControlRequest) async throws {
            try await Terminal.run {
                let response = try ControlClient.ask(request(id), runDirectory: runDirectory)
                if case .done(let text) = response { Terminal.say(text) }
            }
        }
    }
}

/// Deliveries as text.
enum OutboxText {
    static func table(_ deliveries: [DeliveryEntry]) -> String {
        let header = ["NO", "CREATED", "TO", "STATE", "TAKEN", "TRIES", "NEXT", "STUDY INSTANCE UID", "LAST ERROR"]
        let rows = deliveries.map { delivery in
            [
                "\(delivery.id)", StudyText.time(delivery.createdAt), delivery.destination, delivery.state.rawValue,
                taken(delivery),
                "\(delivery.attempts)", delivery.state == .pending ? StudyText.time(delivery.nextAttemptAt) : "-",
                delivery.studyInstanceUID?.string ?? "-", delivery.lastError ?? "",
            ]
        }
        return StudyText.columns([header] + rows)
    }

    private static func taken(_ delivery: DeliveryEntry) -> String {
        if delivery.message != nil { return "message" }
        let count = delivery.objects.count { [.accepted, .delivered].contains($0.state) }
        return "\(count) of \(delivery.objects.count)"
    }
}
