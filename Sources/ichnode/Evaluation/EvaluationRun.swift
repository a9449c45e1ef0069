import Foundation
import ICHModel
import Ledger
import StoreSCP
import WorkerProtocol

/// Analyses the labelled studies of a folder.
struct EvaluationRun {
    let studies: FolderStudies
    let labels: StudyLabels
    let threshold: ModelPackage.Threshold

    /// Attempts at one study, as in the node.
    private static let attempts = 3

    struct Result {
        var evaluated: [EvaluatedStudy] = []
        /// Things that a reader of the figures should know.
        var warnings: [String] = []
    }

    func run() async throws -> Result {
        try await studies.engine.prepare()
        let found = try await studies.read()
        let join = try LabelJoin(labels, found.map { LabelJoin.Candidate($0.assembled, below: studies.folder.path) })
        var result = Result(warnings: warnings(join))
        for warning in result.warnings { Terminal.complain("warning: \(warning)") }
        let labelled = found.filter { join.rows[$0.assembled.studyInstanceUID] != nil }
        for (number, study) in labelled.enumerated() {
            guard let row = join.rows[study.assembled.studyInstanceUID] else { continue }
            let evaluated = try await evaluate(study, row)
            result.evaluated.append(evaluated)
            Terminal.complain(
                String(
                    format: "study %d of %d: %@ in %.1f s", number + 1, labelled.count, evaluated.outcome.rawValue,
                    evaluated.seconds))
        }
        return result
    }

    private func warnings(_ join: LabelJoin) -> [String] {
        var warnings: [String] = []
        if !join.unmatched.isEmpty {
            warnings.append(
                "\(join.unmatched.count) rows of \(labels.file) match no study of the folder and count nowhere (lines "
                    + join.unmatched.map { "\($0.line)" }.joined(separator: ", ")
                    + "): correct their \"study\", or add the files")
        }
        if !join.unlabelled.isEmpty {
            warnings.append(
                "\(join.unlabelled.count) studies of the folder have no row in \(labels.file) and are left out ("
                    + join.unlabelled.map(\.string).joined(separator: ", ") + "): add rows for them")
        }
        return warnings
    }

    private func evaluate(_ study: FolderStudies.Study, _ row: StudyLabels.Row) async throws -> EvaluatedStudy {
        let started = ContinuousClock.now
        let analysis = try await analyse(study)
        let seconds = study.readingSeconds + (ContinuousClock.now - started) / .seconds(1)
        let records = study.assembled.instances.map(\.record)
        let frames = records.flatMap(\.images).compactMap { image in image.frame.map { (image.sopInstanceUID, $0) } }
        let patient = records.compactMap(\.patient.id).first { !$0.isEmpty }
        return EvaluatedStudy(
            label: row, studyInstanceUID: study.assembled.studyInstanceUID,
            patient: patient ?? study.assembled.studyInstanceUID.string, imageCount: records.count,
            outcome: analysis.outcome, reason: analysis.reason, finding: analysis.finding, seconds: seconds,
            frames: Dictionary(frames) { first, _ in first })
    }

    /// A study whose analysis fails may neither end the evaluation nor go missing in it.
    private func analyse(
        _ study: FolderStudies.Study
    ) async throws -> (outcome: Outcome, reason: String, finding: Finding?) {
        var reason = ""
        for _ in 0..<Self.attempts {
            do {
                let analysis = try await studies.analyzer().analyse(study.assembled, threshold: threshold)
                var finding = analysis.finding
                // Thousands of studies are held at once.
                for index in finding?.slices.indices ?? 0..<0 { finding?.slices[index].lesionMap = nil }
                return (analysis.outcome, analysis.reason, finding)
            } catch is CancellationError { throw CancellationError() } catch { reason = "\(error)" }
        }
        return (.undetermined, "the analysis failed: \(reason)", nil)
    }
}
