import Foundation
import ICHModel
import Ledger
import WorkerProtocol

/// Writes an evaluation into a folder: figures, one row a study, one row an image, two charts.
struct EvaluationFiles {
    let report: EvaluationReport
    let studies: [EvaluatedStudy]
    let sliceLabels: SliceLabels?
    let classes: [String]
    let readers: [String]

    static func makeFolder(_ folder: URL) throws {
        do { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) } catch {
            throw CommandFailure(.failed, "cannot make \(folder.path): name a folder that can be written")
        }
    }

    /// - Returns: paths of the files.
    func write(to folder: URL) throws -> [String] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        let files = [
            ("evaluation.json", try encoder.encode(report) + Data("\n".utf8)),
            ("predictions.csv", Data(CSVTable.write(predictions).utf8)),
            ("slices.csv", Data(CSVTable.write(slices).utf8)),
            ("roc.png", try rocChart?.png()), ("reliability.png", try reliabilityChart?.png()),
        ]
        return try files.compactMap { name, bytes in try Self.write(bytes, to: folder.appendingPathComponent(name)) }
    }

    /// A chart that there is none of may not stay from an earlier evaluation.
    private static func write(_ bytes: Data?, to file: URL) throws -> String? {
        do {
            if let bytes {
                try bytes.write(to: file)
                return file.path
            }
            if FileManager.default.fileExists(atPath: file.path) { try FileManager.default.removeItem(at: file) }
            return nil
        } catch {
            throw CommandFailure(.failed, "cannot write \(file.path): \(error.localizedDescription)")
        }
    }

    // MARK: Tables

    private var predictions: [[String]] {
        let subtypes = StudyLabels.subtypes.filter { name in studies.contains { $0.label.subtypes[name] != nil } }
        let points = report.operatingPoints.map(\.threshold)
        let header =
            ["study", "study_instance_uid", "any"] + subtypes + readers + ["outcome", "reason", "probability"]
            + classes.filter { $0 != "any" }.map { "probability_\($0)" } + points.map { "flagged_\($0.name)" }
            + ["top_slice_sop_instance_uid", "top_slice_probability", "images", "slabs", "seconds"]
        let rows = studies.map { study -> [String] in
            let top = study.finding?.slices.max { $0.logit < $1.logit }
            let truths: [String] = subtypes.map { flag(study.label.subtypes[$0]) }
            let opinions: [String] = readers.map { flag(study.label.readers[$0]) }
            let named = [study.label.key, study.studyInstanceUID.string, flag(study.label.any)]
            let said = [study.outcome.rawValue, study.reason, number(study.finding?.probability)]
            let others = classes.enumerated().filter { $0.element != "any" }.map { place, _ in
                number(study.finding?.classProbabilities[place])
            }
            let flagged = points.map { study.finding == nil ? "" : flag(study.isFlagged(at: $0)) }
            let measures = [
                top.map { storedUID($0.representative, study) } ?? "", number(top?.probability), "\(study.imageCount)",
                "\(study.finding?.slices.count ?? 0)", String(format: "%.3f", study.seconds),
            ]
            return named + truths + opinions + said + others + flagged + measures
        }
        return [header] + rows
    }

    /// Scores are of slabs: all images of a slab have the same.
    private var slices: [[String]] {
        let header = [
            "study_instance_uid", "sop_instance_uid", "slab", "position_mm", "probability", "logit", "attention", "any",
            "frame",
        ]
        let rows = studies.flatMap { study in
            (study.finding?.slices ?? []).enumerated().flatMap { place, slab in
                slab.instances.map { uid in
                    [
                        study.studyInstanceUID.string, storedUID(uid, study), "\(place + 1)",
                        String(format: "%.3f", slab.positionMillimetres), number(slab.probability),
                        number(slab.logit), number(slab.attention), flag(sliceLabels?.any[uid.string]),
                        study.frames[uid].map { "\($0.number)" } ?? "",
                    ]
                }
            }
        }
        return [header] + rows
    }

    private func storedUID(_ image: UID, _ study: EvaluatedStudy) -> String {
        (study.frames[image]?.sopInstanceUID ?? image).string
    }

    private func flag(_ value: Bool?) -> String { value.map { $0 ? "1" : "0" } ?? "" }
    private func number(_ value: Double?) -> String { value.map { String(format: "%.6f", $0) } ?? "" }

    // MARK: Charts

    private var measure: String {
        "n = \(report.analysedStudies) studies, \(report.analysedPositives) positive, \(report.model.name) "
            + report.model.version
    }

    /// nil where there is no curve.
    private var rocChart: UnitChart? {
        guard !report.curve.isEmpty, let area = report.studyArea.estimate else { return nil }
        let interval = area.interval.map { String(format: " (95 %% interval %.3f-%.3f)", $0.low, $0.high) } ?? ""
        var chart = UnitChart(
            heading: [String(format: "ROC, study: AUC %.3f", area.value) + interval, measure],
            xTitle: "1 - specificity", yTitle: "sensitivity")
        let diagonal = [UnitChart.Point(x: 0, y: 0), UnitChart.Point(x: 1, y: 1)]
        chart.line(diagonal, UnitChart.Ink.reference, width: 2, isDashed: true)
        chart.line(
            report.curve.map { .init(x: $0.falsePositiveRate, y: $0.truePositiveRate) }, UnitChart.Ink.curve)
        let points = report.operatingPoints.compactMap { point -> (String, UnitChart.Point)? in
            guard let sensitivity = point.analysed.sensitivity.value,
                let specificity = point.analysed.specificity.value
            else { return nil }
            return (point.threshold.name, .init(x: 1 - specificity, y: sensitivity))
        }
        chart.named(points, UnitChart.Ink.mark)
        chart.legend([
            (text: "model", colour: UnitChart.Ink.curve, isDashed: false),
            (text: "chance", colour: UnitChart.Ink.reference, isDashed: true),
        ])
        return chart
    }

    private var reliabilityChart: UnitChart? {
        guard let calibration = report.calibration else { return nil }
        var chart = UnitChart(
            heading: [
                String(
                    format: "Reliability: Brier %.3f, calibration error %.3f", calibration.brierScore,
                    calibration.expectedCalibrationError),
                measure,
            ], xTitle: "mean probability of a bin", yTitle: "share truly positive")
        let diagonal = [UnitChart.Point(x: 0, y: 0), UnitChart.Point(x: 1, y: 1)]
        chart.line(diagonal, UnitChart.Ink.reference, width: 2, isDashed: true)
        for bin in calibration.bins {
            guard let estimate = bin.observed.estimate, let interval = estimate.interval else { continue }
            chart.interval(x: bin.meanProbability, low: interval.low, high: interval.high, UnitChart.Ink.mark)
        }
        chart.line(
            calibration.bins.map { .init(x: $0.meanProbability, y: $0.observed.value ?? 0) }, UnitChart.Ink.curve,
            width: 2)
        for bin in calibration.bins {
            chart.dot(.init(x: bin.meanProbability, y: bin.observed.value ?? 0), UnitChart.Ink.curve)
        }
        chart.legend([
            (text: "\(calibration.bins.count) bins", colour: UnitChart.Ink.curve, isDashed: false),
            (text: "Wilson 95 %", colour: UnitChart.Ink.mark, isDashed: false),
            (text: "perfect", colour: UnitChart.Ink.reference, isDashed: true),
        ])
        return chart
    }
}
