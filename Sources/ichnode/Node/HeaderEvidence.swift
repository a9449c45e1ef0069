import Foundation
import ICHModel
import Ledger
import StoreSCP
import WorkerProtocol

/// What the headers say of the series that would be analysed: is it there?
struct HeaderEvidence: Sendable {
    var rules = SelectionRules()

    /// Spacing, in slice thicknesses, from which every second slice may be under way: only a count or time tells.
    static let wideFrom = 1.1

    /// - Parameter settled: see `SeriesSelection`.
    @Sendable func find(_ all: [StoredInstance], settled: UID? = nil) -> SeriesEvidence {
        let known = StudyAnalyzer.newest(all)
        let records = known.mapValues(\.record)
        let selection = SeriesSelection(records.values, rules: rules, settled: settled)
        guard case .chosen(let uid) = selection.conclusion, let series = selection.assessment(of: uid) else {
            return Self.withoutSeries(selection)
        }
        let positions = series.instances.compactMap { instance in
            records[instance].flatMap { try? SliceGeometry($0.image) }?.positionMillimetres
        }
        let contiguity = SliceContiguity(positions: positions)
        var evidence = SeriesEvidence(
            seriesInstanceUID: uid,
            imageCount: Set(records.values.filter { $0.seriesInstanceUID == uid }.map(\.storedSOPInstanceUID)).count,
            missing: contiguity.missingPositions.prefix(SliceContiguity.mostListed).map { .slice(atMillimetres: $0) })
        if contiguity.missingCount > evidence.missing.count {
            evidence.missing.append(.more(contiguity.missingCount - evidence.missing.count))
        }
        let purged = series.instances.count { known[$0]?.isPurged == true }
        if purged > 0 { evidence.missing.append(.purged(purged)) }
        if let spacing = contiguity.stretches.map(\.spacing).min(), let thickness = series.thicknessMillimetres,
            spacing > Self.wideFrom * thickness
        {
            evidence.doubts.append(.wideSpacing(millimetres: spacing, thickness: thickness))
        }
        Self.compareWithDeclared(series: uid, in: records.values.map(\.self), &evidence)
        Self.compareWithConcatenations(
            records.values.filter { $0.seriesInstanceUID == uid && $0.multiFrame != nil }, &evidence)
        return evidence
    }

    /// Images in Acquisition (0020,1002) is the number of images "that resulted from this acquisition of data": some
    /// scanners count one series, others all that were reconstructed. Fewer may mean that the sender sends some series
    /// only, so that it is a doubt and no more.
    private static func compareWithDeclared(
        series uid: UID, in records: [InstanceRecord], _ evidence: inout SeriesEvidence
    ) {
        let series = records.filter { $0.seriesInstanceUID == uid }
        let acquisitions = Dictionary(grouping: series, by: \.image.acquisitionNumber)
        var counted: [Int] = []
        for images in acquisitions.values {
            let counts = Set(images.map(\.series.imagesInAcquisition))
            guard counts.count == 1, let count = counts.first ?? nil, count > 0 else { return }
            counted.append(count)
        }
        guard let declared = sum(counted) else { return }
        let reconstructed = records.count { acquisitions[$0.image.acquisitionNumber] != nil }
        if declared == series.count || declared == reconstructed {
            evidence.isAsDeclared = true
        } else if declared > reconstructed {
            evidence.doubts.append(.fewerThanDeclared(present: reconstructed, declared))
        }
    }

    /// Nothing to analyse yet. What is no head at all needs no waiting: nobody is told of it.
    private static func withoutSeries(_ selection: SeriesSelection) -> SeriesEvidence {
        var evidence = SeriesEvidence(
            seriesInstanceUID: selection.series.first { partial($0) != nil }?.seriesInstanceUID,
            missing: selection.series.compactMap(partial))
        if evidence.missing.isEmpty, case .notAnalysable(let reason) = selection.conclusion {
            if reason == .localizer {
                evidence.missing = [.localizersOnly]
            } else {
                evidence.doubts = [.noSeries("\(reason)")]
            }
        }
        return evidence
    }

    /// In-concatenation Total Number (PS3.3 C.7.6.16.2.2.4), which is the number of instances.
    private static func compareWithConcatenations(_ images: [InstanceRecord], _ evidence: inout SeriesEvidence) {
        let parts = Dictionary(images.map { ($0.storedSOPInstanceUID, $0.multiFrame?.concatenation) }) { first, _ in
            first
        }.compactMap(\.value)
        let concatenations = Dictionary(grouping: parts, by: \.uid).values
        let totals = concatenations.compactMap { $0.compactMap(\.total).max() }
        let present = concatenations.reduce(0) { $0 + Set($1.compactMap(\.number)).count }
        let declared = sum(totals) ?? .max
        guard !totals.isEmpty, totals.count == concatenations.count else { return }
        if present < declared { evidence.missing.append(.concatenation(present: present, declared)) }
        if present == declared, parts.count == evidence.imageCount { evidence.isAsDeclared = true }
    }

    /// - Returns: nil where they come to more than an integer holds: headers, and ledgers, may say anything.
    private static func sum(_ counts: [Int]) -> Int? {
        var total = 0
        for count in counts {
            let (more, isOverflow) = total.addingReportingOverflow(count)
            if isOverflow { return nil }
            total = more
        }
        return total
    }

    /// A series that would be analysed if more of it came.
    private static func partial(_ series: SeriesSelection.Assessment) -> CompletionReason? {
        guard case .refused(let reason) = series.verdict, series.mayBeChosen else { return nil }
        if case .other = series.region { return nil }
        return .partialSeries("\(reason)")
    }
}
