public import WorkerProtocol

/// Which series of a study is analysed, judged by the headers alone: a pure function of the instances that are known.
///
/// Called again as instances arrive. A reason with `mayPass` may be lifted by more instances of the series.
public struct SeriesSelection: Sendable, Equatable {
    public enum Verdict: Sendable, Equatable {
        case chosen
        /// Usable, but another is better.
        case candidate(SelectionPreference)
        case refused(SelectionReason)
    }

    /// What the headers say about the region.
    public enum Region: Sendable, Equatable {
        case head
        /// Nothing names a region: the pixels decide.
        case unspecified
        case other(String)
    }

    public struct Assessment: Sendable, Equatable {
        public let seriesInstanceUID: UID
        public internal(set) var verdict: Verdict
        public let region: Region
        /// The instances to analyse, feet → head: without localizers and what else is mixed into the series.
        public let instances: [UID]
        /// What the series has or should have and `instances` lack, in words; empty where nothing is missing. With any
        /// of it, a series without a finding is not negative. Scouts, secondary captures, reformats and repetitions
        /// within the range of `instances` are no loss.
        public let leftOut: [String]
        /// From the first to the last of `instances`, mm along the normal, one slice thickness included.
        public let coverageMillimetres: Double
        /// Median Slice Thickness of `instances`, mm.
        public let thicknessMillimetres: Double?

        var isUsable: Bool {
            switch verdict {
            case .chosen, .candidate: true
            case .refused: false
            }
        }

        /// Whether slices should be decoded and encoded as they arrive: usable now, or with a few more.
        public var mayBeChosen: Bool {
            switch verdict {
            case .chosen, .candidate: true
            case .refused(let reason): reason.mayPass && !instances.isEmpty
            }
        }
    }

    public enum Conclusion: Sendable, Equatable {
        case chosen(seriesInstanceUID: UID)
        /// Nothing is sent to the PACS.
        case notHeadCT(SelectionReason)
        /// A head CT without a series that can be analysed: reported as undetermined.
        case notAnalysable(SelectionReason)
    }

    /// Ordered by UID.
    public let series: [Assessment]
    public let conclusion: Conclusion

    /// A study of more is not analysed: looking at its headers would keep the node from all else. Perfusion has ten
    /// thousand.
    public static let mostImages = 50_000

    /// Frames count, also those of records that `InstanceRecord.images` was not asked of.
    public static func imageCount(of records: some Sequence<InstanceRecord>) -> Int {
        records.reduce(0) { $0 + max(1, $1.multiFrame?.frames.count ?? 1) }
    }

    /// - Parameters:
    ///   - records: the instances of one study, any order, without the node's own objects.
    ///   - settled: a series that was analysed completely; while it is usable no other takes its place.
    ///   - brainless: series that were chosen, of no named region, and whose pixels show no brain; and whether all of
    ///     each was seen: then what lies within it shows none either.
    public init(
        _ records: some Sequence<InstanceRecord>, rules: SelectionRules = .init(), settled: UID? = nil,
        brainless: [UID: Bool] = [:]
    ) {
        let groups = Dictionary(grouping: records, by: \.seriesInstanceUID)
        let isTooLarge = Self.imageCount(of: groups.values.joined()) > Self.mostImages
        var series = groups.sorted { $0.key < $1.key }.map { uid, records in
            let institution = records.min { $0.sopInstanceUID < $1.sopInstanceUID }?.study.institutionName
            return SeriesJudge(
                uid: uid, records: records, rules: rules.rules(ofInstitution: institution),
                isOfTooLargeStudy: isTooLarge && uid != settled
            ).assess()
        }
        let without = series.filter { brainless[$0.uid] == true }.map(\.stack)
        for (index, each) in series.enumerated() where each.assessment.isUsable && each.assessment.region != .head {
            if brainless[each.uid] != nil || without.contains(where: each.stack.lies) {
                series[index].assessment.verdict = .refused(.noBrainTissue)
            }
        }
        let usable = series.indices.filter { series[$0].assessment.isUsable }
        if let best = Self.best(of: usable.map { series[$0] }, settled: settled) {
            for index in usable { series[index].assessment.verdict = Self.verdict(series[index], best, settled) }
            conclusion = .chosen(seriesInstanceUID: best.uid)
        } else {
            conclusion = Self.conclusion(without: series.map(\.assessment))
        }
        self.series = series.map(\.assessment)
    }

    public func assessment(of seriesInstanceUID: UID) -> Assessment? {
        series.first { $0.seriesInstanceUID == seriesInstanceUID }
    }

    /// A duplicate of a part of the head loses whatever its thickness.
    private static let leastShareOfWidest = 0.8

    /// Head before unspecified, coverage before thickness, thickness before the rest.
    private static func best(of judged: [SeriesJudge.Judgement], settled: UID?) -> SeriesJudge.Judgement? {
        if let settled = judged.first(where: { $0.uid == settled }) { return settled }
        let heads = judged.filter { $0.assessment.region == .head }
        let eligible = heads.isEmpty ? judged : heads
        let widest = eligible.map(\.assessment.coverageMillimetres).max() ?? 0
        return eligible.filter { $0.assessment.coverageMillimetres >= leastShareOfWidest * widest }
            .min { $0.order < $1.order }
    }

    private static func verdict(
        _ judged: SeriesJudge.Judgement, _ best: SeriesJudge.Judgement, _ settled: UID?
    ) -> Verdict {
        if judged.uid == best.uid { return .chosen }
        if best.uid == settled { return .candidate(.analysedAlready) }
        let (own, other) = (judged.assessment, best.assessment)
        if own.region != .head && other.region == .head { return .candidate(.namedHead) }
        if own.coverageMillimetres < leastShareOfWidest * other.coverageMillimetres { return .candidate(.wholeHead) }
        return .candidate(judged.order.preference(best.order))
    }

    private static func conclusion(without assessments: [Assessment]) -> Conclusion {
        func reason(_ of: [Assessment]) -> SelectionReason? {
            of.compactMap { if case .refused(let reason) = $0.verdict { reason } else { nil } }.min {
                $0.rank < $1.rank
            }
        }
        let isImageOfCT = assessments.filter { $0.verdict != .refused(.notCT) && $0.verdict != .refused(.partOfHead) }
        if let why = reason(isImageOfCT.filter { $0.region == .head }) { return .notAnalysable(why) }
        // Nobody looked whether there is a brain in it.
        let tooMany = SelectionReason.moreImages(than: mostImages)
        if isImageOfCT.contains(where: { $0.region == .unspecified && $0.verdict == .refused(tooMany) }) {
            return .notAnalysable(tooMany)
        }
        let isLookedAt = assessments.contains { $0.verdict == .refused(.noBrainTissue) }
        return .notHeadCT(isLookedAt ? .noBrainInPixels : reason(assessments) ?? .noImages)
    }
}
