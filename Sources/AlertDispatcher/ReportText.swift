internal import Foundation
internal import Ledger
internal import WorkerProtocol

/// The sentences of a report.
enum ReportText {
    static func comment(_ report: StudyReport, algorithm: ReportComposer.Algorithm, shown: Int) -> String {
        var sentences = [finding(report)]
        if report.predecessor != nil {
            sentences.insert("Revision \(report.revision): supersedes the earlier report.", at: 0)
        }
        if let probability = probability(report) { sentences.append("\(probability).") }
        if !report.flagged.isEmpty {
            let numbers = report.flagged.map { String($0.instanceNumber) }.joined(separator: ", ")
            sentences.append("Flagged \(noun(report))s: \(numbers).")
            if shown < report.flagged.count { sentences.append("The \(shown) most suspicious are shown.") }
        }
        sentences.append("Series: \(report.seriesText).")
        sentences.append("Completeness: \(report.completionText).")
        sentences.append("Model \(algorithm.name) \(algorithm.version).")
        sentences.append("AI triage output for research use. Not for diagnostic use.")
        return clean(sentences.joined(separator: " "))
    }

    /// - Parameter shown: how many of the flagged slices the summary shows.
    static func summary(_ report: StudyReport, algorithm: ReportComposer.Algorithm, shown: Int) -> SummaryText {
        var lines = [probability(report) ?? "", "Model: \(algorithm.name) \(algorithm.version)"]
        lines.append("Completeness: \(report.completionText)")
        if !report.reason.isEmpty { lines.append("Limits: \(report.reason)") }
        let flagged = report.flagged.count
        lines.append(
            shown < flagged
                ? "Shown: the \(shown) most suspicious of \(flagged) flagged \(noun(report))s, in their order"
                : "Shown: all flagged \(noun(report))s (\(flagged))")
        let revised = report.revision > 1 ? " (REVISED \(report.revision))" : ""
        return SummaryText(
            title: "AI: INTRACRANIAL HEMORRHAGE SUSPECTED\(revised)", lines: lines.map(clean), noun: noun(report))
    }

    /// For receivers of alerts: one line without patient identity, the longest part of it last.
    static func alert(_ alert: FindingAlert) -> String {
        let finding =
            switch alert.presence {
            case .present: "Intracranial hemorrhage suspected (unverified)"
            case .absent: "No intracranial hemorrhage found (unverified)"
            case .undetermined: "Not analysed, this is not a negative result"
            }
        let value = alert.probability.map {
            ", probability \(number($0)), operating point \(number(alert.threshold))"
        }
        let reason = alert.reason.isEmpty ? "" : " Limits: \(alert.reason)."
        return clean(
            (alert.kind == .correction ? "Correction: " : "") + finding + (value ?? "")
                + ". AI triage for research use, not for diagnostic use." + reason)
    }

    /// Header attributes find their way into reasons: no control character of theirs goes into ours (PS3.5 §6.1.3).
    static func clean(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { CharacterSet.controlCharacters.contains($0) ? " " : $0 }))
    }

    private static func probability(_ report: StudyReport) -> String? {
        report.studyProbability.map {
            "Study probability \(number($0)), operating point \(number(report.threshold)) (\(report.thresholdName))"
        }
    }

    private static func noun(_ report: StudyReport) -> String {
        report.flagged.contains { $0.instance.record.frame != nil } ? "frame" : "image"
    }

    private static func finding(_ report: StudyReport) -> String {
        switch report.presence {
        case .present:
            "Intracranial hemorrhage suspected." + (report.reason.isEmpty ? "" : " Limits: \(report.reason).")
        case .absent: "No intracranial hemorrhage found."
        case .undetermined: "Not analysed: \(report.reason). This is not a negative result."
        }
    }

    static func number(_ value: Double) -> String { String(format: "%.3f", value) }
}
