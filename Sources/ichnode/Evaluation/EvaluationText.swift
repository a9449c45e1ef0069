import Foundation
import ICHModel

/// An evaluation as text for a terminal.
struct EvaluationText {
    let report: EvaluationReport

    var string: String {
        ([studies, warnings, areas] + report.operatingPoints.map(operatingPoint) + [calibration, besideThePaper])
            .filter { !$0.isEmpty }.map { $0.joined(separator: "\n") }.joined(separator: "\n\n")
    }

    // MARK: Sections

    private var studies: [String] {
        let report = report
        var lines = [
            "Model \(report.model.name) \(report.model.version), digest \(report.model.digest.prefix(12))",
            "\(report.labelledStudies) labelled studies (\(report.labelledPositives) positive); analysed "
                + "\(report.analysedStudies) of \(report.labelledStudies) (\(report.analysedPositives) positive)",
        ]
        if !report.notAnalysed.isEmpty {
            lines.append("Not analysed: \(report.notAnalysed.count)")
            lines += report.notAnalysed.map(note)
        }
        if !report.withDefects.isEmpty {
            lines.append(
                "Analysed with defects: \(report.withDefects.count). Below the threshold the node says undetermined of "
                    + "them, not negative; here they count as not flagged")
            lines += report.withDefects.map(note)
        }
        return lines
    }

    private func note(_ note: EvaluationReport.Note) -> String {
        "  line \(note.line), \(note.isPositive ? "positive" : "negative"), study \(note.study): \(note.outcome): "
            + note.reason
    }

    private var warnings: [String] { report.warnings.map { "Warning: \($0)" } }

    private var areas: [String] {
        var lines = [
            "Area under the ROC curve, 95 % interval by bootstrap over patients (\(report.bootstrapDraws) draws, seed "
                + "\(report.bootstrapSeed))",
            "  \(Self.padded("study"))\(area(report.studyArea, "studies"))",
        ]
        if let slices = report.slices {
            lines.append("  \(Self.padded("slice"))\(area(slices.area, "slices"))")
            lines.append(
                "  The highest slice of a positive study is truly positive in \(Self.share(slices.topSliceIsPositive))")
            lines.append(
                "  \(slices.labelsNotAnalysed) slice labels are of images that were not analysed; "
                    + "\(slices.analysedWithoutLabel) analysed images have no label")
        }
        for (name, value) in report.subtypeAreas.sorted(by: { $0.key < $1.key }) {
            lines.append("  \(Self.padded(name))\(area(value, "studies"))")
        }
        return lines
    }

    private func area(_ area: EvaluationReport.Area, _ what: String) -> String {
        let measure = "\(area.count) \(what), \(area.positives) positive, \(area.patients) patients"
        guard let estimate = area.estimate else { return "cannot be computed: needs both kinds (\(measure))" }
        return "\(Self.number(estimate)) (\(measure))"
    }

    private func operatingPoint(_ point: EvaluationReport.OperatingPoint) -> [String] {
        var lines = [String(format: "Threshold %@ (%.4f)", point.threshold.name, point.threshold.value)]
        lines += decisions(point.analysed, "analysed studies")
        if !report.notAnalysed.isEmpty {
            lines += decisions(point.all, "all studies, those not analysed as not flagged")
        }
        if !point.atPrevalence.isEmpty {
            lines.append("  at another prevalence, interval by the Wilson limits of sensitivity and specificity")
        }
        for values in point.atPrevalence {
            lines.append(
                String(
                    format: "    %5.1f %%   PPV %@   NPV %@", 100 * values.prevalence,
                    values.positive.map(Self.percent) ?? "nothing flagged",
                    values.negative.map(Self.percent) ?? "everything flagged"))
        }
        return lines + point.readers.flatMap(comparison)
    }

    private func decisions(_ decisions: EvaluationReport.Decisions, _ title: String) -> [String] {
        [
            "  \(title), Wilson 95 % interval", "    sensitivity  \(Self.share(decisions.sensitivity))",
            "    specificity  \(Self.share(decisions.specificity))",
            "    PPV          \(Self.share(decisions.positivePredictiveValue))",
            "    NPV          \(Self.share(decisions.negativePredictiveValue))",
        ]
    }

    private func comparison(_ comparison: EvaluationReport.Comparison) -> [String] {
        func test(_ name: String, _ test: McNemarTest) -> String {
            let chiSquare =
                if let statistic = test.chiSquare, let p = test.chiSquareP {
                    String(format: "; chi-square with continuity correction %.3f, p %@", statistic, Self.p(p))
                } else { "" }
            return "    \(name) \(test.studies) studies: model alone right \(test.onlyFirstRight), reader alone right "
                + "\(test.onlySecondRight), exact p \(Self.p(test.exactP))\(chiSquare)"
        }
        return [
            "  against reader \(comparison.reader), on the same studies",
            "    reader sensitivity  \(Self.share(comparison.readerDecisions.sensitivity))",
            "    reader specificity  \(Self.share(comparison.readerDecisions.specificity))",
            test("McNemar, all", comparison.all), test("McNemar, positive", comparison.positives),
            test("McNemar, negative", comparison.negatives),
        ]
    }

    private var calibration: [String] {
        guard let calibration = report.calibration else { return [] }
        let line =
            if let line = calibration.line {
                String(format: "slope %.3f, intercept %.3f", line.slope, line.intercept)
            } else { "no slope: needs both kinds of studies, and probabilities that do not separate them" }
        var lines = [
            String(
                format: "Calibration: Brier score %.4f, expected calibration error %.4f over %d bins of equal size, ",
                calibration.brierScore, calibration.expectedCalibrationError, calibration.bins.count) + line,
            "  probabilities      mean    truly positive",
        ]
        for bin in calibration.bins {
            lines.append(
                String(format: "  %.3f to %.3f   %.3f   ", bin.lowest, bin.highest, bin.meanProbability)
                    + Self.share(bin.observed))
        }
        return lines
    }

    private var besideThePaper: [String] {
        let first = report.operatingPoints.first
        let rows: [(String, String, String, String)] = [
            ("", "this set", "paper, local", "paper, external"),
            (
                "studies", "\(report.analysedStudies) of \(report.labelledStudies)", "\(Paper.local.studies)",
                "\(Paper.external.studies)"
            ),
            ("AUC", report.studyArea.estimate.map(Self.number) ?? "-", Paper.local.area, Paper.external.area),
            (
                "PPV", first.map { Self.brief($0.analysed.positivePredictiveValue) } ?? "-",
                Paper.local.positivePredictiveValue, Paper.external.positivePredictiveValue
            ),
            ("sensitivity", first.map { Self.brief($0.analysed.sensitivity) } ?? "-", "-", "-"),
            ("specificity", first.map { Self.brief($0.analysed.specificity) } ?? "-", "-", "-"),
            (
                "seconds a scan", report.secondsPerStudy.map { String(format: "%.2f (median)", $0.median) } ?? "-",
                Paper.secondsPerScan, "-"
            ),
        ]
        let title =
            "Beside the paper (\(Paper.reference))"
            + (first.map { ", this set at threshold \($0.threshold.name)" } ?? "")
        let share = report.labelledStudies > 0 ? Double(report.labelledPositives) / Double(report.labelledStudies) : 0
        return [title] + rows.map(Self.columns) + [
            String(
                format:
                    "  PPV depends on the share of positive studies, here %.1f %%. Seconds are from files to result, "
                    + "without starting the model.", 100 * share)
        ]
    }

    /// What the paper that the model follows reports.
    private enum Paper {
        static let reference = "Radiology: Artificial Intelligence 2024, e230296"
        static let local = (studies: 7243, area: "0.96 (0.96–0.97)", positivePredictiveValue: "85.7 %")
        static let external = (studies: 491, area: "0.96", positivePredictiveValue: "89.3 %")
        static let secondsPerScan = "5.04"
    }

    // MARK: Numbers

    private static func columns(_ row: (String, String, String, String)) -> String {
        let cells = zip([row.0, row.1, row.2, row.3], [16, 24, 20, 16]).map { text, width in
            text + String(repeating: " ", count: max(0, width - text.count))
        }
        return "  " + cells.joined().replacingOccurrences(of: "\\s+$", with: "", options: .regularExpression)
    }

    private static func padded(_ name: String) -> String {
        name + String(repeating: " ", count: max(1, 18 - name.count))
    }

    private static func number(_ estimate: Estimate) -> String {
        let interval = estimate.interval.map { String(format: " (%.3f–%.3f)", $0.low, $0.high) } ?? " (no interval)"
        return String(format: "%.3f", estimate.value) + interval
    }

    private static func percent(_ estimate: Estimate) -> String {
        let interval = estimate.interval.map { String(format: " (%.1f–%.1f)", 100 * $0.low, 100 * $0.high) } ?? ""
        return String(format: "%.1f %%", 100 * estimate.value) + interval
    }

    private static func share(_ proportion: Proportion) -> String {
        guard let estimate = proportion.estimate else { return "none (0 of 0)" }
        return "\(percent(estimate)), \(proportion.count) of \(proportion.of)"
    }

    private static func brief(_ proportion: Proportion) -> String { proportion.estimate.map(percent) ?? "-" }

    private static func p(_ value: Double) -> String {
        value < 0.0001 ? "< 0.0001" : String(format: "%.4f", value)
    }
}
