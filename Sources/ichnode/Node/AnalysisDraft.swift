import AlertDispatcher
import Foundation
import ICHModel
import Ledger
import StoreSCP
import WorkerProtocol

/// Puts into words what an analysis found: outcome, reasons, report.
struct AnalysisDraft {
    let study: AssembledStudy
    let known: [UID: StoredInstance]
    let selection: SeriesSelection
    let threshold: ModelPackage.Threshold
    let startedAt: Date
    /// With which the selection was made.
    var brainless: [UID: Bool] = [:]
    /// Instances that the analysis saw, feet → head.
    var analysed: [UID] = []
    /// Of their data sets.
    var digests: [UID: String] = [:]
    /// What keeps a study without a finding from being negative.
    var defects: [String] = []
    var encoderCalls = (all: 0, early: 0)

    init(
        study: AssembledStudy, known: [UID: StoredInstance], selection: SeriesSelection,
        threshold: ModelPackage.Threshold, startedAt: Date
    ) {
        self.study = study
        self.known = known
        self.selection = selection
        self.threshold = threshold
        self.startedAt = startedAt
        var isPurgeKnown = false
        if case .incomplete(_, let reasons) = study.decision {
            defects = ["incomplete: " + reasons.map(\.description).joined(separator: ", ")]
            isPurgeKnown = reasons.contains(where: \.isPurged)
        }
        if case .chosen(let uid) = selection.conclusion, let series = selection.assessment(of: uid) {
            defects += series.leftOut
            // Another series may have been chosen, or the files removed, since it was decided.
            let purged = series.instances.count { known[$0]?.isPurged == true }
            if purged > 0, !isPurgeKnown { defects.append(CompletionReason.purged(purged).description) }
        }
    }

    // MARK: Endings

    func concluded(_ finding: Finding, flagged: [StudyReport.Flagged]) -> StudyAnalyzer.Analysis {
        let ends = finding.endsWithinBrain.map { CompletionReason.cutOff(end: $0.rawValue).description }
        let reason = (defects + ends).joined(separator: "; ")
        if finding.isPositive { return analysis(.positive, reason, .present, finding, flagged) }
        // An incomplete study is never negative.
        guard reason.isEmpty else { return analysis(.undetermined, reason, .undetermined, finding) }
        return analysis(.negative, "", .absent, finding)
    }

    func undetermined(_ reason: String) -> StudyAnalyzer.Analysis {
        analysis(.undetermined, ([reason] + defects).joined(separator: "; "), .undetermined)
    }

    /// Nothing is sent: an operator has to look.
    func held(_ reason: String) -> StudyAnalyzer.Analysis { analysis(.undetermined, reason, nil) }

    func refused(_ conclusion: SeriesSelection.Conclusion) -> StudyAnalyzer.Analysis {
        switch conclusion {
        case .notHeadCT(let reason):
            // Headers say it of the study; pixels only of those that are here and can be read.
            if case .chosen = selection.conclusion, !defects.isEmpty {
                undetermined(reason.description)
            } else {
                analysis(.notHeadCT, reason.description, nil)
            }
        case .notAnalysable(let reason): undetermined(reason.description)
        case .chosen: preconditionFailure("a chosen series is no refusal")
        }
    }

    // MARK: Parts

    private func analysis(
        _ outcome: Outcome, _ reason: String, _ presence: Presence?, _ finding: Finding? = nil,
        _ flagged: [StudyReport.Flagged] = []
    ) -> StudyAnalyzer.Analysis {
        let images = reportedImages
        var analysis = StudyAnalyzer.Analysis(
            outcome: outcome, reason: reason, revisionDigest: revisionDigest(reason),
            verdicts: SeriesExplanation.verdicts(selection, known.values.map(\.record)), finding: finding)
        analysis.seriesInstanceUID = analysed.isEmpty ? nil : known[analysed[0]]?.record.seriesInstanceUID
        analysis.basis = StudyAnalyzer.basis(selection, known)
        analysis.brainless = brainless
        (analysis.encoderCalls, analysis.earlyEncoderCalls) = encoderCalls
        analysis.record = finding.flatMap { FindingRecord($0, known) }
        if let presence, !images.isEmpty {
            analysis.report = StudyReport(
                studyInstanceUID: study.studyInstanceUID, revisionDigest: revisionDigest(reason), presence: presence,
                // An undetermined study has no probability that anybody could take for a negative.
                reason: reason, studyProbability: presence == .undetermined ? nil : finding?.probability,
                thresholdName: threshold.name,
                threshold: threshold.value, images: images, flagged: flagged, seriesText: seriesText,
                completionText: study.decision.description, startedAt: startedAt)
        }
        return analysis
    }

    /// The analysed instances; where there are none, one that shows whose study it is: a CT image, of the head where
    /// there is one, before dose reports and presentation states. None where no file is left.
    private var reportedImages: [StoredInstance] {
        if !analysed.isEmpty { return analysed.compactMap { known[$0] } }
        let inOrder = known.values.filter { !$0.isPurged }
            .sorted { $0.record.sopInstanceUID < $1.record.sopInstanceUID }
        let images = inOrder.filter(\.record.image.hasPixelData)
        let ofCT = images.filter { ($0.record.series.modality ?? "CT") == "CT" }
        let heads = Set(selection.series.filter { $0.region == .head }.map(\.seriesInstanceUID))
        let shown =
            ofCT.first { heads.contains($0.record.seriesInstanceUID) } ?? ofCT.first ?? images.first ?? inOrder.first
        // All its frames.
        return inOrder.filter { $0.record.storedSOPInstanceUID == shown?.record.storedSOPInstanceUID }
    }

    /// Over the data sets that the analysis saw, and what was missing. Where it saw none, over the reason and whose
    /// study it is: what comes later and leaves these as they are gives no second report.
    private func revisionDigest(_ reason: String) -> String {
        let seen = analysed.sorted().flatMap { [$0.string, digests[$0] ?? ""] }
        return SHA256Digest.hex(of: (seen.isEmpty ? [reason] + identity : seen) + ["defects"] + defects)
    }

    /// Of the image from which a report takes it, or would have taken it before the files were removed.
    private var identity: [String] {
        let first = known.values.min(by: { $0.record.sopInstanceUID < $1.record.sopInstanceUID })
        guard let record = (reportedImages.first ?? first)?.record else { return [] }
        let patient = record.patient
        return [patient.id, patient.issuerOfID, patient.name, patient.birthDate, record.study.accessionNumber]
            .map { $0 ?? "" }
    }

    private var seriesText: String {
        SeriesExplanation.verdicts(selection, known.values.map(\.record)).map { series in
            "\(series.number.map { "\($0)" } ?? "?") \(series.verdict) (\(series.reason))"
        }.joined(separator: "; ")
    }
}

/// Why each series of a study was taken or left.
enum SeriesExplanation {
    static func verdicts(_ selection: SeriesSelection, _ all: [InstanceRecord]) -> [SeriesVerdictEntry] {
        let series = Dictionary(grouping: all, by: \.seriesInstanceUID)
        return selection.series.map { assessment in
            let records = series[assessment.seriesInstanceUID] ?? []
            let first = records.min { $0.sopInstanceUID < $1.sopInstanceUID }
            let (verdict, reason) = words(assessment)
            return SeriesVerdictEntry(
                seriesInstanceUID: assessment.seriesInstanceUID, number: first?.series.number,
                description: first?.series.description,
                instanceCount: Set(records.map(\.storedSOPInstanceUID)).count, verdict: verdict,
                reason: reason)
        }
    }

    private static func words(_ assessment: SeriesSelection.Assessment) -> (verdict: String, reason: String) {
        let thickness = assessment.thicknessMillimetres.map { "\($0) mm" } ?? "unknown thickness"
        let measure =
            "\(assessment.instances.count) axial images, \(thickness), covers \(Int(assessment.coverageMillimetres)) mm"
        switch assessment.verdict {
        case .chosen: return ("chosen", measure)
        case .candidate(let preference): return ("candidate", "\(measure); \(preference)")
        case .refused(let reason): return ("refused", reason.description)
        }
    }
}
