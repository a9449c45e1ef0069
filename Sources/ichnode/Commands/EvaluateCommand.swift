import ArgumentParser
import Foundation
import ICHModel
import Logging

struct EvaluateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evaluate", abstract: "Measure the model on your own labelled studies.",
        discussion: """
            Analyses every labelled study below a folder as the node would, and compares with what you know of them. \
            Nothing is sent, no report is made.

            The labels are a CSV file with a header line and one row a study. Columns:
              study   Study Instance UID, Accession Number, Patient ID, or the
                      study's folder below --studies: the first of these that
                      means one study alone
              any     1 with haemorrhage, 0 without
              epidural, intraparenchymal, intraventricular, subarachnoid, subdural
                      optional; 1 or 0, blank where it is not known
              others  a second reader's opinion, 1 or 0; see --reader

            A study that cannot be analysed is listed with the reason and stays in the count. Intervals are of 95 %.

            Example:
              ichnode evaluate --studies /data/ct --labels labels.csv \\
                --prevalence 0.06 --output evaluation

            Exit code 0 when done, 78 when a file of labels has to be corrected; it says which line.
            """)

    @Option(name: .long, help: "Folder of DICOM files.")
    var studies: String

    @Option(name: .long, help: "CSV file, one row a study.")
    var labels: String

    @Option(name: .long, help: "CSV file, one row an image: sop_instance_uid, any.")
    var sliceLabels: String?

    @Option(name: .long, parsing: .upToNextOption, help: "Columns of the labels that hold second readers' opinions.")
    var reader: [String] = []

    @Option(
        name: .long, parsing: .upToNextOption,
        help: "Shares of positive studies, above 0 and below 1, to reckon predictive values at.")
    var prevalence: [Double] = []

    @Option(name: .long, help: "Model package.")
    var model = "/usr/share/ichnode/model"

    @Option(name: .long, help: "Folder for evaluation.json, predictions.csv, slices.csv, roc.png, reliability.png.")
    var output: String?

    @Option(
        name: .long, parsing: .upToNextOption,
        help: """
            Thresholds of the model package by name, or numbers from 0 to 1; the first decides the outcomes listed. \
            All of the package when none is named.
            """)
    var threshold: [String] = []

    func validate() throws {
        if let wrong = prevalence.first(where: { !($0 > 0 && $0 < 1) }) {
            throw ValidationError("a prevalence is above 0 and below 1: \(wrong) is not")
        }
    }

    func run() async throws {
        try await Terminal.run {
            let package = try ModelCommand.load(model)
            let thresholds: [ModelPackage.Threshold]
            do { thresholds = try Self.thresholds(threshold, package) } catch let error as ModelError {
                throw ValidationError(error.reason)
            }
            // Whatever is wrong with the labels is said before hours of analysis.
            let labels = try StudyLabels(CSVTable(path: labels), readers: reader)
            let sliceLabels = try sliceLabels.map { try SliceLabels(CSVTable(path: $0)) }
            let folder = output.map { URL(fileURLWithPath: $0).standardizedFileURL }
            if let folder { try EvaluationFiles.makeFolder(folder) }
            let found = FolderStudies(
                folder: URL(fileURLWithPath: studies).standardizedFileURL, package: package,
                logger: Logger.node(level: "warning"))
            let result = try await found.whileRunning {
                try await EvaluationRun(studies: found, labels: labels, threshold: thresholds[0]).run()
            }
            let report = EvaluationReport(
                result.evaluated, package: package, sliceLabels: sliceLabels,
                questions: .init(thresholds: thresholds, readers: reader, prevalences: prevalence),
                warnings: result.warnings)
            Terminal.say(EvaluationText(report: report).string)
            guard let folder else { return }
            let files = EvaluationFiles(
                report: report, studies: result.evaluated, sliceLabels: sliceLabels, classes: package.classes,
                readers: reader)
            for file in try files.write(to: folder) { Terminal.complain("wrote \(file)") }
        }
    }

    /// - Returns: at least one.
    static func thresholds(_ names: [String], _ package: ModelPackage) throws -> [ModelPackage.Threshold] {
        guard !names.isEmpty else { return package.thresholds }
        return try names.map { name in
            let point = try package.operatingPoint(name)
            return .init(name: name, value: point.value)
        }
    }
}
