import AlertDispatcher
import ArgumentParser
import Foundation
import Logging
import StoreSCP
import WorkerProtocol

struct RouteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "route", abstract: "Look at the routes of a configuration.", subcommands: [Explain.self])

    struct Explain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say which route a study takes, and why it does not take the others.",
            discussion: """
                By the configuration alone, whether the node runs or not. Exit code 1 where no route takes the study.
                """)

        @OptionGroup var options: ConfigurationOptions

        @Option(name: .long, help: "AE title of the sender; by default the one that FILE was received from.")
        var calling: String?

        @Option(
            name: .long,
            help: "AE title that the sender calls; by default the one that FILE was received under, or node.ae_title.")
        var called: String?

        @Option(name: .long, help: "Institution Name; by default that of FILE.")
        var institution: String?

        @Argument(help: "A DICOM file of the study.")
        var file: String?

        func run() async throws {
            var isTaken = false
            try await Terminal.run {
                let configuration = try options.load()
                var origin = try await fileOrigin()
                if let calling { origin.callingAETitle = try aeTitle(calling) }
                if let called { origin.calledAETitle = try aeTitle(called) }
                if let institution { origin.institutionName = institution }
                guard origin.callingAETitle != nil else {
                    throw ValidationError("say who sends: --calling, or a file that the node has received")
                }
                origin.calledAETitle = origin.calledAETitle ?? configuration.node.aeTitle
                let explanation = RouteText.explanation(of: origin, configuration)
                Terminal.say(explanation.text)
                isTaken = explanation.isTaken
            }
            if !isTaken { throw ExitCode(CommandFailure.Code.failed.rawValue) }
        }

        private func aeTitle(_ text: String) throws -> AETitle {
            guard let title = AETitle(text) else { throw ValidationError("\"\(text)\" is not an AE title") }
            return title
        }

        /// Read by a confined worker, like all DICOM.
        private func fileOrigin() async throws -> StudyOrigin {
            guard let file else { return StudyOrigin() }
            let path = URL(fileURLWithPath: file).standardizedFileURL
            let folder = path.deletingLastPathComponent()
            let decoder = DecodeClient(
                program: WorkerPrograms(spool: folder, results: folder).decode, logger: .node(level: "critical"))
            let record = try await decoder.describe([path.path])[path.path]
            await decoder.stop()
            guard let record else { throw CommandFailure(.failed, "\(file) cannot be read as DICOM") }
            return StudyOrigin([record])
        }
    }
}

/// Routes as text.
enum RouteText {
    static func noRoute(_ origin: StudyOrigin) -> String {
        "no route takes \(text(origin)): add one; `ichnode route explain` says why the others do not"
    }

    /// A line for each route: what is asked of it, in order, up to the one that takes the study.
    static func explanation(
        of origin: StudyOrigin, _ configuration: NodeConfiguration
    ) -> (text: String, isTaken: Bool) {
        var lines = ["Study of \(text(origin))"]
        var taken: Route?
        for (number, route) in configuration.routes.enumerated() {
            let said: String
            switch configuration.routeTable.verdict(of: route, on: origin) {
            case _ where taken != nil: said = "not asked: \(taken?.name ?? "") comes before it"
            case .passesOver(let reasons): said = "passed over: \(reasons.joined(separator: "; "))"
            case .takes(let taking):
                taken = taking
                said = "takes the study"
            }
            lines.append("\(number + 1). \(route.name): \(said)")
            if let taken, taken.name == route.name { lines += settings(taken, configuration).map { "   \($0)" } }
        }
        if taken == nil {
            lines.append("No route takes it: undetermined, and nothing is sent. Add a route, or change one of these.")
        }
        return (lines.joined(separator: "\n"), taken != nil)
    }

    private static func text(_ origin: StudyOrigin) -> String {
        "calling AE title \(origin.callingAETitle?.string ?? "unknown"), called AE title "
            + "\(origin.calledAETitle?.string ?? "unknown"), "
            + "institution \(origin.institutionText)"
    }

    private static func settings(_ route: Route, _ configuration: NodeConfiguration) -> [String] {
        let peers = route.destinations.map { name in
            let peer = configuration.peers.first { $0.name == name }?.remote
            return name + (peer.map { " (\($0.aeTitle) at \($0.host):\($0.port))" } ?? "")
        }
        let pictures = (route.summary ? ", summary" : "") + (route.keyObjects ? ", key objects" : "")
        let alerts = route.alerts.isEmpty ? "nobody" : route.alerts.joined(separator: ", ")
        return [
            "destinations: \(peers.joined(separator: ", "))", "report: \(route.reportClass.rawValue)\(pictures)",
            "threshold: \(route.threshold)", "alerts: \(alerts), \(route.urgency.rawValue)",
            "counts from: \(route.countsFrom ?? "nobody"); missing images from: \(route.retrieveFrom ?? "nobody")",
        ]
    }
}
