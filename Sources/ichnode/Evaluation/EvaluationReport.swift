import Foundation
import ICHModel
import Ledger
import WorkerProtocol

/// All figures of an evaluation. Pure: computed from labels and findings alone.
struct EvaluationReport: Encodable {
    struct Model: Encodable {
        let name: String
        let version: String
        let digest: String
    }

    /// A study that is not, or not wholly, analysed.
    struct Note: Encodable {
        let line: Int
        let study: String
        let isPositive: Bool
        let outcome: String
        let reason: String
    }

    /// An area under the ROC curve, of how many.
    struct Area: Encodable {
        let estimate: Estimate?
        let count: Int
        let positives: Int
        /// Groups that the bootstrap draws.
        let patients: Int

        init(_ scores: RankedScores) {
            (count, positives, patients) = (scores.count, scores.positives, scores.groupCount)
            estimate = scores.areaWithInterval()
        }
    }

    struct Decisions: Encodable {
        let counts: DecisionCounts
        let sensitivity: Proportion
        let specificity: Proportion
        let positivePredictiveValue: Proportion
        let negativePredictiveValue: Proportion

        init(_ counts: DecisionCounts) {
            self.counts = counts
            sensitivity = counts.sensitivity
            specificity = counts.specificity
            positivePredictiveValue = counts.positivePredictiveValue
            negativePredictiveValue = counts.negativePredictiveValue
        }
    }

    /// A second reader against the model, on the analysed studies that the reader read.
    struct Comparison: Encodable {
        let reader: String
        let readerDecisions: Decisions
        let modelDecisions: Decisions
        /// The first is the model.
        let all: McNemarTest
        let positives: McNemarTest
        let negatives: McNemarTest
    }

    struct OperatingPoint: Encodable {
        let threshold: ModelPackage.Threshold
        let analysed: Decisions
        /// With the studies that were not analysed counted as not flagged.
        let all: Decisions
        let atPrevalence: [PredictiveValues]
        let readers: [Comparison]
    }

    struct Slices: Encodable {
        let area: Area
        /// Positive studies whose highest slab holds a slice labelled positive, of those with a label in that slab.
        let topSliceIsPositive: Proportion
        /// Labels of slices that no analysis saw, and analysed slices without a label.
        let labelsNotAnalysed: Int
        let analysedWithoutLabel: Int
    }

    struct Seconds: Encodable {
        let median: Double
        let highest: Double
        let studies: Int
    }

    let model: Model
    let nodeVersion: String
    let labelledStudies: Int
    let labelledPositives: Int
    let analysedStudies: Int
    let analysedPositives: Int
    let notAnalysed: [Note]
    let withDefects: [Note]
    let warnings: [String]
    let bootstrapDraws = RankedScores.draws
    let bootstrapSeed = RankedScores.seed
    let studyArea: Area
    let subtypeAreas: [String: Area]
    let slices: Slices?
    let operatingPoints: [OperatingPoint]
    let calibration: Reliability?
    let secondsPerStudy: Seconds?

    /// For plots.
    let curve: [RankedScores.Corner]

    enum CodingKeys: String, CodingKey {
        case model, nodeVersion, labelledStudies, labelledPositives, analysedStudies, analysedPositives, notAnalysed
        case withDefects, warnings, bootstrapDraws, bootstrapSeed, studyArea, subtypeAreas, slices, operatingPoints
        case calibration, secondsPerStudy
    }

    /// What is asked of the set.
    struct Questions {
        let thresholds: [ModelPackage.Threshold]
        let readers: [String]
        let prevalences: [Double]
    }

    init(
        _ studies: [EvaluatedStudy], package: ModelPackage, sliceLabels: SliceLabels?, questions: Questions,
        warnings: [String]
    ) {
        model = Model(name: package.name, version: package.version, digest: package.modelDigest)
        nodeVersion = NodeVersion.string
        let analysed = studies.filter { $0.finding != nil }
        (labelledStudies, labelledPositives) = (studies.count, studies.count { $0.label.any })
        (analysedStudies, analysedPositives) = (analysed.count, analysed.count { $0.label.any })
        notAnalysed = studies.filter { $0.finding == nil }.map(Self.note)
        withDefects = studies.filter(\.hasDefects).map(Self.note)
        let scores = RankedScores(
            analysed.map { .init(score: $0.finding?.probability ?? 0, isPositive: $0.label.any, group: $0.patient) })
        studyArea = Area(scores)
        curve = scores.curve
        subtypeAreas = Self.subtypeAreas(analysed, package)
        slices = sliceLabels.map { Self.slices(analysed, $0) }
        operatingPoints = questions.thresholds.map { Self.operatingPoint($0, studies, questions) }
        calibration = Reliability(analysed.map { ($0.finding?.probability ?? 0, $0.label.any) })
        secondsPerStudy = Self.seconds(analysed)
        self.warnings = warnings + (sliceLabels.map { Self.contradictions(analysed, $0) } ?? [])
    }

    private static func note(_ study: EvaluatedStudy) -> Note {
        Note(
            line: study.label.line, study: study.studyInstanceUID.string, isPositive: study.label.any,
            outcome: study.outcome.rawValue, reason: study.reason)
    }

    private static func subtypeAreas(_ studies: [EvaluatedStudy], _ package: ModelPackage) -> [String: Area] {
        var areas: [String: Area] = [:]
        for subtype in StudyLabels.subtypes {
            guard let place = package.classes.firstIndex(of: subtype) else { continue }
            let items = studies.compactMap { study -> RankedScores.Item? in
                guard let truth = study.label.subtypes[subtype], let finding = study.finding else { return nil }
                return .init(score: finding.classProbabilities[place], isPositive: truth, group: study.patient)
            }
            if !items.isEmpty { areas[subtype] = Area(RankedScores(items)) }
        }
        return areas
    }

    private static func operatingPoint(
        _ threshold: ModelPackage.Threshold, _ studies: [EvaluatedStudy], _ questions: Questions
    ) -> OperatingPoint {
        func decisions(_ studies: [EvaluatedStudy]) -> DecisionCounts {
            DecisionCounts(studies.map { ($0.isFlagged(at: threshold), $0.label.any) })
        }
        // Not by probability 0: a threshold may be 0.
        let analysed = studies.filter { $0.finding != nil }
        let all = DecisionCounts(studies.map { ($0.finding != nil && $0.isFlagged(at: threshold), $0.label.any) })
        let counts = decisions(analysed)
        return OperatingPoint(
            threshold: threshold, analysed: Decisions(counts), all: Decisions(all),
            atPrevalence: questions.prevalences.compactMap(counts.predictiveValues),
            readers: questions.readers.map { compare(threshold, $0, analysed) })
    }

    private static func compare(
        _ threshold: ModelPackage.Threshold, _ reader: String, _ analysed: [EvaluatedStudy]
    ) -> Comparison {
        let read = analysed.compactMap { study -> (model: Bool, reader: Bool, truth: Bool)? in
            study.label.readers[reader].map { (study.isFlagged(at: threshold), $0, study.label.any) }
        }
        func test(_ studies: [(model: Bool, reader: Bool, truth: Bool)]) -> McNemarTest {
            McNemarTest(studies.map { ($0.model == $0.truth, $0.reader == $0.truth) })
        }
        return Comparison(
            reader: reader, readerDecisions: Decisions(DecisionCounts(read.map { ($0.reader, $0.truth) })),
            modelDecisions: Decisions(DecisionCounts(read.map { ($0.model, $0.truth) })), all: test(read),
            positives: test(read.filter(\.truth)), negatives: test(read.filter { !$0.truth }))
    }

    private static func slices(_ studies: [EvaluatedStudy], _ labels: SliceLabels) -> Slices {
        var items: [RankedScores.Item] = []
        var unlabelled = 0
        for study in studies {
            for slab in study.finding?.slices ?? [] {
                for uid in slab.instances {
                    guard let truth = labels.any[uid.string] else {
                        unlabelled += 1
                        continue
                    }
                    items.append(.init(score: slab.logit, isPositive: truth, group: study.patient))
                }
            }
        }
        let tops = studies.filter(\.label.any).compactMap { study -> Bool? in
            let top = study.finding?.slices.max { $0.logit < $1.logit }
            let truths = top?.instances.compactMap { labels.any[$0.string] } ?? []
            return truths.isEmpty ? nil : truths.contains(true)
        }
        return Slices(
            area: Area(RankedScores(items)), topSliceIsPositive: Proportion(tops),
            labelsNotAnalysed: labels.any.count - items.count, analysedWithoutLabel: unlabelled)
    }

    /// Where the two files of labels disagree.
    private static func contradictions(_ studies: [EvaluatedStudy], _ labels: SliceLabels) -> [String] {
        let disagreeing = studies.filter { study in
            let truths = (study.finding?.slices ?? []).flatMap(\.instances).map { labels.any[$0.string] }
            if !study.label.any { return truths.contains(true) }
            // Without a label a slice may be positive.
            return !truths.isEmpty && truths.allSatisfy { $0 == false }
        }
        guard !disagreeing.isEmpty else { return [] }
        let lines = disagreeing.map { "\($0.label.line)" }.joined(separator: ", ")
        return [
            "of \(disagreeing.count) studies the slice labels say otherwise than the study label (lines \(lines)): "
                + "correct one of them"
        ]
    }

    private static func seconds(_ studies: [EvaluatedStudy]) -> Seconds? {
        let seconds = studies.map(\.seconds)
        guard let highest = seconds.max() else { return nil }
        return Seconds(median: Percentile.linear(seconds, 50), highest: highest, studies: seconds.count)
    }
}
