import ArgumentParser
import Foundation
import Ledger
import WorkerProtocol

struct StudyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "study", abstract: "See and steer the studies of the running node.",
        subcommands: [
            List.self, Show.self, Explain.self, Complete.self, Reprocess.self, Ignore.self, Release.self, Resend.self,
        ])

    /// Options of all that ask the running node.
    struct NodeOptions: ParsableArguments {
        @Option(name: .long, help: "The node's run directory.")
        var runDirectory = "/run/ichnode"

        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func print(_ value: some Encodable, _ text: () -> String) throws {
            guard json else { return Terminal.say(text()) }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            encoder.dateEncodingStrategy = .iso8601
            Terminal.say(String(decoding: try encoder.encode(value), as: UTF8.self))
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List studies, the latest first.")
        @OptionGroup var node: NodeOptions
        @Option(name: .long, help: "At most so many.")
        var limit = 50

        func run() async throws {
            try await Terminal.run {
                let response = try ControlClient.ask(.listStudies(limit: limit), runDirectory: node.runDirectory)
                guard case .studies(let studies) = response else { return }
                try node.print(studies) { StudyText.table(studies) }
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what happened to a study, and why: series, analyses, deliveries, history.")
        @OptionGroup var node: NodeOptions
        @Argument(help: "Study Instance UID.")
        var uid: String

        func run() async throws {
            try await Terminal.run {
                let response = try ControlClient.ask(.showStudy(try studyUID(uid)), runDirectory: node.runDirectory)
                guard case .study(let study) = response else { return }
                try node.print(study) { StudyText.detail(study) }
            }
        }
    }

    struct Explain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what a study waits for, and why each of its series is analysed or not.")
        @OptionGroup var node: NodeOptions
        @Argument(help: "Study Instance UID.")
        var uid: String

        func run() async throws {
            try await Terminal.run {
                let response = try ControlClient.ask(.explainStudy(try studyUID(uid)), runDirectory: node.runDirectory)
                guard case .explanation(let explanation) = response else { return }
                try node.print(explanation) { StudyText.explanation(explanation) }
            }
        }
    }

    struct Complete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say that nothing more will come of a study that waits.",
            discussion: "A study with missing slices is then reported as incomplete, never as negative.")
        @OptionGroup var study: ActedOn
        func run() async throws { try await study.act { .completeStudy($0) } }
    }

    struct Reprocess: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Analyse a study again, with the model and configuration of now.",
            discussion:
                "Where the result differs, or the model or its settings do, a new report supersedes the earlier.")
        @OptionGroup var study: ActedOn
        func run() async throws { try await study.act { .reprocessStudy($0) } }
    }

    struct Ignore: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Neither analyse nor report a study, whatever arrives of it.",
            discussion: "What was reported already stays where it is, and what is owed is still delivered.")
        @OptionGroup var study: ActedOn
        func run() async throws { try await study.act { .ignoreStudy($0) } }
    }

    struct Release: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Analyse a study that was ignored, or that is held because its identity is in conflict.",
            discussion: """
                A conflict of identity is two patients under one Study Instance UID, or one image in two series. Look \
                at the study first: its report carries the identity of the series that is analysed.
                """)
        @OptionGroup var study: ActedOn
        func run() async throws { try await study.act { .releaseStudy($0) } }
    }

    struct Resend: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Send the results of a study's latest analysis once more, to where they went.",
            discussion: """
                The same objects under the same UIDs, for a destination that has lost them. What is still owed of them \
                is withdrawn for it. Alerts are not sent again.
                """)
        @OptionGroup var study: ActedOn
        func run() async throws { try await study.act { .resendStudy($0) } }
    }

    /// A study that the running node is told to do something about.
    struct ActedOn: ParsableArguments {
        @Option(name: .long, help: "The node's run directory.")
        var runDirectory = "/run/ichnode"
        @Argument(help: "Study Instance UID.")
        var uid: String

        func act(_ request: (UID) -> ControlRequest) async throws {
            try await Terminal.run {
                let response = try ControlClient.ask(request(try studyUID(uid)), runDirectory: runDirectory)
                if case .done(let text) = response { Terminal.say(text) }
            }
        }
    }

    private static func studyUID(_ text: String) throws -> UID {
        guard let uid = UID(text) else { throw ValidationError("\"\(text)\" is not a UID") }
        return uid
    }
}

/// Studies as text.
enum StudyText {
    static func table(_ studies: [StudyEntry]) -> String {
        let header = ["RECEIVED", "STATE", "OUTCOME", "PROB", "IMAGES", "OWED", "FROM", "STUDY INSTANCE UID"]
        let rows = studies.map { study in
            [
                time(study.firstReceivedAt), study.state.rawValue, study.outcome?.rawValue ?? "-",
                study.studyProbability.map { String(format: "%.3f", $0) } ?? "-", "\(study.instanceCount)",
                "\(study.pendingDeliveries)", study.callingAETitle ?? "-", study.studyInstanceUID.string,
            ]
        }
        return columns([header] + rows)
    }

    static func detail(_ detail: StudyDetail) -> String {
        var lines = ["Study \(detail.study.studyInstanceUID)", table([detail.study])]
        if let reason = detail.study.reason, !reason.isEmpty { lines.append("Reason: \(reason)") }
        if let decision = detail.study.decision { lines.append("By an operator: \(decision.rawValue)") }
        if detail.study.purgedCount > 0 { lines.append("Removed by retention: \(detail.study.purgedCount) images") }
        lines += series(detail.series)
        for analysis in detail.analyses {
            let probability = analysis.studyProbability.map { String(format: ", probability %.3f", $0) } ?? ""
            lines.append(
                "\nAnalysis \(time(analysis.completedAt)): \(analysis.outcome.rawValue)\(probability), "
                    + "\(analysis.flaggedSlices) slices flagged, route \(analysis.route); \(analysis.completion)")
        }
        for delivery in detail.deliveries {
            lines.append(
                "Delivery to \(delivery.destination): \(delivery.state.rawValue), "
                    + (delivery.message.map { "message \($0.id), " } ?? "\(delivery.objects.count) objects, ")
                    + "\(delivery.attempts) attempts\(delivery.lastError.map { ", last error: \($0)" } ?? "")")
        }
        lines.append("\nHistory")
        lines.append(columns(detail.events.map { ["  \(time($0.at))", $0.kind, $0.text] }))
        return lines.joined(separator: "\n")
    }

    static func explanation(_ explanation: StudyExplanation) -> String {
        (["Study \(explanation.studyInstanceUID): \(explanation.standing)"] + series(explanation.series))
            .joined(separator: "\n")
    }

    private static func series(_ entries: [SeriesVerdictEntry]) -> [String] {
        guard !entries.isEmpty else { return [] }
        let rows = entries.map {
            ["  \($0.number.map(String.init) ?? "?")", $0.verdict, $0.reason, $0.description ?? ""]
        }
        return ["\nSeries", columns(rows)]
    }

    static func columns(_ rows: [[String]]) -> String {
        let count = rows.map(\.count).max() ?? 0
        let widths = (0..<count).map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }
            return cells.joined(separator: "  ").replacingOccurrences(
                of: "\\s+$", with: "", options: .regularExpression)
        }.joined(separator: "\n")
    }

    static func time(_ date: Date) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.dateFormat = "yyyy-MM-dd HH:mm:ss"
        return formatter.string(from: date)
    }
}
