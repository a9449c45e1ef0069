public import WorkerProtocol

/// Which series of a study is analysed, judged by the headers alone: a pure function of the instances that are known.
///
/// Called again as instances arrive. A reason with `mayPass` may be lifted by more instances of the series.
public struct SeriesSelection: Sendable, Equatable {
    public enum Verdict: Sendable, Equatable {
        case chosen
        /// Usable, but another is better.
        case candidate
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

    /// Bounds on what is analysed.
    public struct Limits: Sendable {
        /// A head has 15 slices of 10 mm.
        public var leastSlices: Int
        /// A head is 130 mm from base to vertex; less shows only a part of the brain.
        public var leastCoverageMillimetres: Double

        public init(leastSlices: Int = 8, leastCoverageMillimetres: Double = 80) {
            self.leastSlices = leastSlices
            self.leastCoverageMillimetres = leastCoverageMillimetres
        }
    }

    /// Ordered by UID.
    public let series: [Assessment]
    public let conclusion: Conclusion

    /// - Parameter records: the instances of one study, any order, without the node's own objects.
    public init(_ records: some Sequence<InstanceRecord>, limits: Limits = .init()) {
        let groups = Dictionary(grouping: records, by: \.seriesInstanceUID)
        var series = groups.sorted { $0.key < $1.key }.map {
            SeriesJudge(uid: $0, records: $1, limits: limits).assess()
        }
        let usable = series.indices.filter { series[$0].assessment.verdict == .candidate }
        if let best = Self.best(of: usable.map { series[$0] }) {
            for index in usable where series[index].assessment.seriesInstanceUID == best {
                series[index].assessment.verdict = .chosen
            }
            conclusion = .chosen(seriesInstanceUID: best)
        } else {
            conclusion = Self.conclusion(without: series.map(\.assessment))
        }
        self.series = series.map(\.assessment)
    }

    public func assessment(of seriesInstanceUID: UID) -> Assessment? {
        series.first { $0.seriesInstanceUID == seriesInstanceUID }
    }

    /// What a study comes to when the chosen series turns out to show no brain.
    public func conclusionWithoutBrain() -> Conclusion {
        guard case .chosen(let uid) = conclusion, assessment(of: uid)?.region == .unspecified else {
            return .notAnalysable(.noBrainTissue)
        }
        return .notHeadCT(.noBrainInPixels)
    }

    /// Head before unspecified, coverage before thickness, thickness before the rest.
    private static func best(of judged: [SeriesJudge.Judgement]) -> UID? {
        let heads = judged.filter { $0.assessment.region == .head }
        let eligible = heads.isEmpty ? judged : heads
        let widest = eligible.map(\.assessment.coverageMillimetres).max() ?? 0
        // A duplicate of a part of the head loses whatever its thickness.
        let complete = eligible.filter { $0.assessment.coverageMillimetres >= 0.8 * widest }
        return complete.min { $0.order < $1.order }?.assessment.seriesInstanceUID
    }

    private static func conclusion(without assessments: [Assessment]) -> Conclusion {
        func reason(_ of: [Assessment]) -> SelectionReason? {
            of.compactMap { if case .refused(let reason) = $0.verdict { reason } else { nil } }.min {
                $0.rank < $1.rank
            }
        }
        let isImageOfCT = assessments.filter { $0.verdict != .refused(.notCT) && $0.verdict != .refused(.partOfHead) }
        if let why = reason(isImageOfCT.filter { $0.region == .head }) { return .notAnalysable(why) }
        return .notHeadCT(reason(assessments) ?? .noImages)
    }
}
