import ArgumentParser
import Foundation
import Ledger
import WorkerProtocol

struct StudyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "study", abstract: "See and steer the studies of the running node.",
        subcommands: [List.self, Show.self, Complete.self])

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

    struct Complete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say that nothing more will come of a study that waits.",
            discussion: "A study with missing slices is then reported as incomplete, never as negative.")
        @OptionGroup var node: NodeOptions
        @Argument(help: "Study Instance UID.")
        var uid: String

        func run() async throws {
            try await Terminal.run {
                let response = try ControlClient.ask(.completeStudy(try studyUID(uid)), runDirectory: node.runDirectory)
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
        if !detail.series.isEmpty {
            lines.append("\nSeries")
            lines.append(
                columns(
                    detail.series.map {
                        ["  \($0.number.map(String.init) ?? "?")", $0.verdict, $0.reason, $0.description ?? ""]
                    }))
        }
        for analysis in detail.analyses {
            let probability = analysis.studyProbability.map { String(format: ", probability %.3f", $0) } ?? ""
            lines.append(
                "\nAnalysis \(time(analysis.completedAt)): \(analysis.outcome.rawValue)\(probability), "
                    + "\(analysis.flaggedSlices) slices flagged, route \(analysis.route)")
        }
        for delivery in detail.deliveries {
            lines.append(
                "Delivery to \(delivery.destination): \(delivery.state.rawValue), \(delivery.objects.count) objects, "
                    + "\(delivery.attempts) attempts\(delivery.lastError.map { ", last error: \($0)" } ?? "")")
        }
        lines.append("\nHistory")
        lines.append(columns(detail.events.map { ["  \(time($0.at))", $0.kind, $0.text] }))
        return lines.joined(separator: "\n")
    }

    private static func columns(_ rows: [[String]]) -> String {
        let count = rows.map(\.count).max() ?? 0
        let widths = (0..<count).map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }
            return cells.joined(separator: "  ").replacingOccurrences(
                of: "\\s+$", with: "", options: .regularExpression)
        }.joined(separator: "\n")
    }

    private static func time(_ date: Date) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.dateFormat = "yyyy-MM-dd HH:mm:ss"
        return formatter.string(from: date)
    }
}
