internal import Foundation

/// Scores with their truth, in groups that are drawn together (all studies of a patient). Sorted once, so that every
/// bootstrap draw is one pass.
public struct RankedScores: Sendable {
    public struct Item: Sendable {
        public let score: Double
        public let isPositive: Bool
        public let group: String

        public init(score: Double, isPositive: Bool, group: String) {
            self.score = score
            self.isPositive = isPositive
            self.group = group
        }
    }

    /// A corner of the ROC curve.
    public struct Corner: Sendable, Equatable {
        /// Everything from this score on is flagged.
        public let threshold: Double
        public let falsePositiveRate: Double
        public let truePositiveRate: Double
    }

    /// Draws of the bootstrap.
    public static let draws = 2000
    public static let seed: UInt64 = 1

    /// Ascending by score; `group` is a place among the groups in the order of their names.
    private let ranked: [(score: Double, isPositive: Bool, group: Int)]
    public let groupCount: Int
    public let positives: Int
    public var count: Int { ranked.count }

    public init(_ items: some Sequence<Item>) {
        let items = Array(items)
        let names = Set(items.map(\.group)).sorted()
        let places = Dictionary(uniqueKeysWithValues: zip(names, names.indices))
        ranked = items.map { ($0.score, $0.isPositive, places[$0.group] ?? 0) }.sorted { $0.score < $1.score }
        groupCount = names.count
        positives = items.count { $0.isPositive }
    }

    /// Probability that a positive has a higher score than a negative, ties counted half (Mann–Whitney); nil where one
    /// kind is missing.
    public var areaUnderCurve: Double? { area(weights: [Int](repeating: 1, count: groupCount)) }

    /// The area with the percentile interval over draws of whole groups with replacement. Draws that hold one kind
    /// alone are left out.
    public func areaWithInterval(draws: Int = draws, seed: UInt64 = seed) -> Estimate? {
        guard let value = areaUnderCurve else { return nil }
        var generator = SeededGenerator(seed: seed)
        var areas: [Double] = []
        for _ in 0..<draws {
            var weights = [Int](repeating: 0, count: groupCount)
            for _ in 0..<groupCount { weights[generator.below(groupCount)] += 1 }
            if let area = area(weights: weights) { areas.append(area) }
        }
        guard groupCount > 1, !areas.isEmpty else { return Estimate(value: value, interval: nil) }
        let (low, high) = (Percentile.linear(areas, 2.5), Percentile.linear(areas, 97.5))
        return Estimate(value: value, interval: Interval(low: low, high: high))
    }

    /// From nothing flagged to everything flagged; empty where one kind is missing.
    public var curve: [Corner] {
        let negatives = count - positives
        guard positives > 0, negatives > 0 else { return [] }
        var corners = [Corner(threshold: .infinity, falsePositiveRate: 0, truePositiveRate: 0)]
        var (flaggedPositives, flaggedNegatives) = (0, 0)
        var place = ranked.count - 1
        while place >= 0 {
            let score = ranked[place].score
            while place >= 0, ranked[place].score == score {
                if ranked[place].isPositive { flaggedPositives += 1 } else { flaggedNegatives += 1 }
                place -= 1
            }
            corners.append(
                Corner(
                    threshold: score, falsePositiveRate: Double(flaggedNegatives) / Double(negatives),
                    truePositiveRate: Double(flaggedPositives) / Double(positives)))
        }
        return corners
    }

    private func area(weights: [Int]) -> Double? {
        // Twice the number of pairs won, as integers: exact.
        var (won, positives, negativesBelow) = (0, 0, 0)
        var place = 0
        while place < ranked.count {
            let score = ranked[place].score
            var (tiedPositives, tiedNegatives) = (0, 0)
            while place < ranked.count, ranked[place].score == score {
                let weight = weights[ranked[place].group]
                if ranked[place].isPositive { tiedPositives += weight } else { tiedNegatives += weight }
                place += 1
            }
            won += tiedPositives * (2 * negativesBelow + tiedNegatives)
            positives += tiedPositives
            negativesBelow += tiedNegatives
        }
        guard positives > 0, negativesBelow > 0 else { return nil }
        return Double(won) / (2 * Double(positives) * Double(negativesBelow))
    }
}
