import AlertDispatcher
import ArgumentParser
import Foundation
import ICHModel
import Ledger
import Logging
import StoreSCP
import WorkerProtocol

struct AnalyzeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "analyze", abstract: "Analyse a folder of DICOM files as the node would.",
        discussion: """
            Reads all files below the folder, analyses every study in it, and writes report and pictures of each \
            into a folder of its own below the output folder. Nothing is sent.
            """)

    @Argument(help: "Folder of DICOM files.")
    var folder: String

    @Option(name: .long, help: "Folder for the results.")
    var output: String

    @Option(name: .long, help: "Model package.")
    var model = "/usr/share/ichnode/model"

    @Option(name: .long, help: "Threshold of the model package by name, or a number from 0 to 1.")
    var threshold = "balanced"

    @Option(
        name: .customLong("sr-class"), help: "enhanced, comprehensive or comprehensive3d.",
        transform: { text in
            guard let known = ReportClass(rawValue: text) else { throw ValidationError("no SR class is named \(text)") }
            return known
        })
    var reportClass = ReportClass.enhanced

    @Flag(inversion: .prefixedNo, help: "One picture of the most suspicious slices of a positive study.")
    var summary = true

    @Flag(inversion: .prefixedNo, help: "A Key Object Selection Document for a positive study.")
    var keyObjects = false

    func run() async throws {
        try await Terminal.run {
            let logger = Logger.node(level: "warning")
            try await FolderAnalysis(
                folder: URL(fileURLWithPath: folder).standardizedFileURL,
                output: URL(fileURLWithPath: output).standardizedFileURL,
                package: try ModelPackage(directory: model),
                route: Route(
                    name: "folder", destinations: [], reportClass: reportClass, summary: summary,
                    keyObjects: keyObjects, threshold: threshold), logger: logger
            ).run()
        }
    }
}

/// The analysis of all studies in a folder, without a network and without a ledger.
struct FolderAnalysis {
    let folder: URL
    let output: URL
    let package: ModelPackage
    let route: Route
    let logger: Logger

    func run() async throws {
        try FileManager.default.createDirectory(at: output, withIntermediateDirectories: true)
        let studies = FolderStudies(folder: folder, package: package, logger: logger)
        let programs = WorkerPrograms(spool: folder, results: output)
        let composer = ReportComposer(
            program: programs.compose, results: output, installation: "folder", stationName: "ICHNODE",
            softwareVersion: NodeVersion.string,
            algorithm: .init(name: package.name, version: package.version, digest: package.modelDigest),
            hasAlternatives: false, logger: logger)
        try await studies.whileRunning {
            let found = try await studies.read().map(\.assembled)
            for (number, study) in found.enumerated() {
                Terminal.say(
                    "study \(number + 1) of \(found.count): \(study.studyInstanceUID), \(study.instances.count) files")
                try await analyse(study, studies, composer)
            }
        }
    }

    private func analyse(_ study: AssembledStudy, _ studies: FolderStudies, _ composer: ReportComposer) async throws {
        let started = ContinuousClock.now
        let point = try package.operatingPoint(route.threshold)
        let analyzer = studies.analyzer()
        for start in stride(from: 0, to: study.instances.count, by: 32) {
            Terminal.complain("  \(start) of \(study.instances.count) images")
            await analyzer.encodeAhead(Array(study.instances[start..<min(start + 32, study.instances.count)]))
        }
        let analysis = try await analyzer.analyse(study, threshold: point)
        var objects: [ComposedObject] = []
        if let report = analysis.report {
            objects = try await composer.compose(report, route: route).objects
        }
        let seconds = (ContinuousClock.now - started) / .seconds(1)
        Terminal.say(Self.summary(analysis, objects, seconds: seconds))
    }

    private static func summary(_ analysis: StudyAnalyzer.Analysis, _ objects: [ComposedObject], seconds: Double)
        -> String
    {
        var lines = ["  \(analysis.outcome.rawValue)\(analysis.reason.isEmpty ? "" : ": \(analysis.reason)")"]
        if let finding = analysis.finding {
            lines.append(
                String(
                    format: "  probability %.3f, threshold %.3f, %d of %d slices flagged", finding.probability,
                    finding.threshold.value, finding.flaggedSlices.count, finding.slices.count))
        }
        for series in analysis.verdicts {
            lines.append("  series \(series.number.map(String.init) ?? "?") \(series.verdict): \(series.reason)")
        }
        lines += objects.map { "  wrote \($0.path)" }
        lines.append(String(format: "  %.1f s", seconds))
        return lines.joined(separator: "\n")
    }
}
