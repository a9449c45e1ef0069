import Foundation
import Testing

@testable import ICHModel

/// Reference values: Python 3.11, SciPy 1.17.1, unless another source is named.
@Suite struct EvaluationTests {
    private func scores(_ positive: [Double], _ negative: [Double]) -> RankedScores {
        let items = positive.map { ($0, true) } + negative.map { ($0, false) }
        return RankedScores(
            items.enumerated().map { .init(score: $1.0, isPositive: $1.1, group: "patient \($0)") })
    }

    private func isNear(_ left: Double?, _ right: Double, _ tolerance: Double = 1e-9) -> Bool {
        left.map { abs($0 - right) < tolerance } ?? false
    }

    // MARK: Area under the curve

    /// scipy.stats.mannwhitneyu(positive, negative).statistic / 42
    @Test func areaCountsTiesHalf() {
        let ranked = scores([0.9, 0.8, 0.8, 0.5, 0.3, 0.3], [0.8, 0.5, 0.4, 0.3, 0.3, 0.2, 0.1])
        #expect(ranked.areaUnderCurve == 0.75)
        #expect(scores([1, 1], [1, 1, 1]).areaUnderCurve == 0.5)
        #expect(scores([2, 3], [0, 1]).areaUnderCurve == 1)
        #expect(scores([0, 1], [2, 3]).areaUnderCurve == 0)
    }

    @Test func thereIsNoAreaOfOneKind() {
        #expect(scores([1, 2], []).areaUnderCurve == nil)
        #expect(scores([], [1, 2]).areaWithInterval() == nil)
        #expect(scores([], []).curve.isEmpty)
    }

    @Test func areaIsTheAreaBelowTheCurve() throws {
        let ranked = scores([0.9, 0.8, 0.8, 0.5, 0.3, 0.3], [0.8, 0.5, 0.4, 0.3, 0.3, 0.2, 0.1])
        let curve = ranked.curve
        #expect(curve.first.map { [$0.falsePositiveRate, $0.truePositiveRate] } == [0, 0])
        #expect(curve.last.map { [$0.falsePositiveRate, $0.truePositiveRate] } == [1, 1])
        let area = zip(curve, curve.dropFirst()).reduce(0.0) { sum, pair in
            sum + (pair.1.falsePositiveRate - pair.0.falsePositiveRate)
                * (pair.1.truePositiveRate + pair.0.truePositiveRate) / 2
        }
        #expect(isNear(area, 0.75))
        #expect(curve.contains { $0.threshold == 0.8 && $0.truePositiveRate == 0.5 && $0.falsePositiveRate == 1.0 / 7 })
    }

    @Test func theBootstrapIsTheSameEveryTimeAndInEveryOrder() throws {
        var generator = SeededGenerator(seed: 5)
        let items = (0..<60).map { index in
            RankedScores.Item(
                score: Double(generator.below(100)) / 100 + (index % 3 == 0 ? 0.3 : 0), isPositive: index % 3 == 0,
                group: "p\(index / 2)")
        }
        let first = try #require(RankedScores(items).areaWithInterval())
        #expect(RankedScores(items).areaWithInterval() == first)
        #expect(RankedScores(items.reversed()).areaWithInterval() == first)
        #expect(RankedScores(items).areaWithInterval(seed: 2) != first)
        let interval = try #require(first.interval)
        #expect(interval.low < first.value && first.value < interval.high)
    }

    /// Drawn study by study the same 8 patients would give an interval that is too narrow.
    @Test func studiesOfAPatientAreDrawnTogether() throws {
        let base: [(Double, Bool)] = [
            (0.9, true), (0.7, true), (0.6, true), (0.2, true), (0.8, false), (0.5, false), (0.3, false), (0.1, false),
        ]
        func width(_ group: (Int, Int) -> String) throws -> Double {
            let items = base.enumerated().flatMap { patient, study in
                (0..<10).map { copy in
                    RankedScores.Item(score: study.0, isPositive: study.1, group: group(patient, copy))
                }
            }
            let interval = try #require(RankedScores(items).areaWithInterval()?.interval)
            return interval.high - interval.low
        }
        let (together, apart) = (try width { patient, _ in "\(patient)" }, try width { "\($0) \($1)" })
        #expect(together > 2 * apart)
    }

    @Test func onePatientHasNoInterval() throws {
        let items = [(0.9, true), (0.1, false)].map { RankedScores.Item(score: $0.0, isPositive: $0.1, group: "one") }
        let estimate = try #require(RankedScores(items).areaWithInterval())
        #expect(estimate == Estimate(value: 1, interval: nil))
    }

    /// First numbers of SplitMix64 with seed 1234567, as its author publishes them.
    @Test func theGeneratorIsSplitMix64() {
        var generator = SeededGenerator(seed: 1_234_567)
        #expect(generator.next() == 6_457_827_717_110_365_317)
        #expect(generator.next() == 3_203_168_211_198_807_973)
        #expect((0..<1000).allSatisfy { _ in (0..<7).contains(generator.below(7)) })
    }

    // MARK: Proportions

    /// Newcombe, Statistics in Medicine 1998;17:857, table I, method 3; digits by scipy's proportion_ci("wilson").
    @Test(arguments: [
        (81, 263, 0.2552885198782742, 0.36620957698280004), (15, 148, 0.06238639953073629, 0.16048724172330803),
        (0, 20, 0.0, 0.16112515805281935), (1, 29, 0.006113214292762667, 0.17175521879320282),
        (29, 29, 0.8830302015002592, 1.0),
    ]) func wilsonIntervalIsThePublishedOne(count: Int, total: Int, low: Double, high: Double) throws {
        let estimate = try #require(Proportion(count, of: total).estimate)
        #expect(isNear(estimate.value, Double(count) / Double(total)))
        #expect(isNear(estimate.interval?.low, low))
        #expect(isNear(estimate.interval?.high, high))
    }

    @Test func nothingOfNothingHasNoValue() {
        #expect(Proportion(0, of: 0).value == nil)
        #expect(Proportion(0, of: 0).estimate == nil)
        #expect(Proportion([true, false, true]) == Proportion(2, of: 3))
    }

    // MARK: Decisions

    @Test func decisionsAreCounted() {
        let counts = DecisionCounts([(true, true), (true, true), (false, true), (true, false), (false, false)])
        #expect(counts.sensitivity == Proportion(2, of: 3))
        #expect(counts.specificity == Proportion(1, of: 2))
        #expect(counts.positivePredictiveValue == Proportion(2, of: 3))
        #expect(counts.negativePredictiveValue == Proportion(1, of: 2))
    }

    /// Bayes' rule over 90/100 and 190/200 and their Wilson limits by scipy, at 6 %.
    @Test func predictiveValuesFollowThePrevalence() throws {
        var counts = DecisionCounts()
        (counts.truePositives, counts.falseNegatives) = (90, 10)
        (counts.trueNegatives, counts.falsePositives) = (190, 10)
        let values = try #require(counts.predictiveValues(atPrevalence: 0.06))
        #expect(isNear(values.positive?.value, 0.5346534653465345))
        #expect(isNear(values.positive?.interval?.low, 0.37040150637307395))
        #expect(isNear(values.positive?.interval?.high, 0.6877234607324145))
        #expect(isNear(values.negative?.value, 0.9933259176863182))
        #expect(isNear(values.negative?.interval?.low, 0.9879228429775571))
        #expect(isNear(values.negative?.interval?.high, 0.9963885768318986))
        // At the set's own prevalence it is the plain share.
        let own = try #require(counts.predictiveValues(atPrevalence: 1.0 / 3))
        #expect(isNear(own.positive?.value, 0.9))
    }

    @Test func predictiveValuesOfAPerfectSetStayInBounds() throws {
        let counts = DecisionCounts([(true, true), (false, false)])
        let values = try #require(counts.predictiveValues(atPrevalence: 0.06))
        #expect(values.positive?.value == 1)
        #expect(values.positive?.interval?.high == 1)
        #expect((values.positive?.interval?.low ?? 0) > 0)
        #expect(DecisionCounts([(true, true)]).predictiveValues(atPrevalence: 0.06) == nil)
        let silent = DecisionCounts([(false, true), (false, false)])
        #expect(silent.predictiveValues(atPrevalence: 0.06)?.positive == nil)
    }

    // MARK: McNemar

    /// scipy.stats.binomtest(b, b + c, 0.5).pvalue and chi2.sf((|b − c| − 1)² / (b + c), 1)
    @Test(arguments: [
        (5, 15, 0.04138946533203125, 4.05, 0.04417134490844271),
        (1, 9, 0.021484375, 4.9, 0.02685669550752441),
        (0, 3, 0.25, 1.3333333333333333, 0.24821307898992026),
        (40, 60, 0.05688793364098089, 3.61, 0.05743311963200335),
        (7, 7, 1.0, 0.0, 1.0),
        (121, 59, 4.4344492637551645e-06, 20.67222222222222, 5.450094825427117e-06),
    ]) func mcNemar(first: Int, second: Int, exact: Double, chiSquare: Double, p: Double) {
        let pairs =
            [(first: Bool, second: Bool)](repeating: (true, false), count: first)
            + [(first: Bool, second: Bool)](repeating: (false, true), count: second)
            + [(true, true), (false, false)]
        let test = McNemarTest(pairs)
        #expect(test.onlyFirstRight == first && test.onlySecondRight == second && test.studies == first + second + 2)
        #expect(isNear(test.exactP, exact, 1e-10))
        #expect(isNear(test.chiSquare, chiSquare))
        #expect(isNear(test.chiSquareP, p))
    }

    @Test func mcNemarOfTwoThatNeverDiffer() {
        let test = McNemarTest([(true, true), (false, false)])
        #expect(test.exactP == 1)
        #expect(test.chiSquare == nil)
    }

    // MARK: Calibration

    private static let probabilities = [0.05, 0.1, 0.15, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    private static let truths = [0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 1, 0, 1]

    /// numpy.array_split into 10 bins; scipy.optimize.minimize (BFGS) of the logistic loss.
    @Test func reliabilityAgreesWithNumPyAndSciPy() throws {
        let pairs = zip(Self.probabilities, Self.truths).map { (probability: $0, isPositive: $1 == 1) }
        let reliability = try #require(Reliability(Array(pairs.reversed())))
        #expect(isNear(reliability.brierScore, 0.23076923076923078))
        #expect(isNear(reliability.expectedCalibrationError, 0.3153846153846154))
        #expect(reliability.bins.map(\.observed.of) == [2, 2, 2, 1, 1, 1, 1, 1, 1, 1])
        #expect(reliability.bins[1].observed == Proportion(1, of: 2))
        #expect(isNear(reliability.line?.slope, 0.49058157, 1e-6))
        #expect(isNear(reliability.line?.intercept, -0.07977723, 1e-6))
    }

    @Test func separatedStudiesHaveNoLine() throws {
        let separated = try #require(Reliability([(0.1, false), (0.2, false), (0.7, true), (1.0, true)]))
        #expect(separated.line == nil)
        #expect(separated.bins.count == 4)
        let oneKind = try #require(Reliability([(0.1, false), (0.2, false)]))
        #expect(oneKind.line == nil)
        #expect(Reliability([]) == nil)
    }
}
