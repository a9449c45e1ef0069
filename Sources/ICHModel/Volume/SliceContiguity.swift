internal import Foundation

/// Whether the slices of a series follow each other without a gap, where spacing may change from stretch to stretch.
///
/// Three or more neighbouring intervals that are equal within 10 % establish a stretch: none of them is a gap. Another
/// interval is a gap where it exceeds 1.5 times the largest spacing of the established stretches next to it. A series
/// without any established stretch is measured by its median interval. A whole series at a multiple of the true spacing
/// looks regular here: `SliceStack.wideSpacing` and a declared count tell.
public struct SliceContiguity: Sendable, Equatable {
    /// An interval with room for at least one more slice.
    public struct Gap: Sendable, Equatable {
        /// Positions of the slices on both sides, mm along the normal.
        public let lower: Double
        public let upper: Double
        /// How many slices are missing, as far as the spacing next to the gap tells.
        public let missingCount: Int
        /// Estimated positions of the lowest `mostListed` missing slices, mm along the normal.
        public let missing: [Double]
    }

    /// Neighbouring slices at one spacing.
    public struct Stretch: Sendable, Equatable {
        /// Indices of the first and last slice among the distinct positions.
        public let slices: ClosedRange<Int>
        /// Median interval, mm.
        public let spacing: Double
    }

    public let gaps: [Gap]
    /// Positions that more than one slice has, mm along the normal.
    public let duplicates: [Double]
    /// Feet → head; empty where no three intervals are equal.
    public let stretches: [Stretch]

    public static let leastIntervals = 3
    static let equalWithin = 1.1
    static let gapFrom = 1.5
    /// Spacing, in slice thicknesses, from which every second slice may be missing.
    static let wideFrom = 1.9
    /// Of one gap; keeps the count an integer whatever the positions are.
    static let mostMissing = 1e6
    /// Missing positions listed of a gap.
    public static let mostListed = 10

    /// Contiguous and unique.
    public var isContiguous: Bool { gaps.isEmpty && duplicates.isEmpty }
    /// Positions of missing slices, mm along the normal, ascending; of a gap at most `mostListed`.
    public var missingPositions: [Double] { gaps.flatMap(\.missing) }
    /// How many slices are missing.
    public var missingCount: Int { gaps.reduce(0) { $0 + $1.missingCount } }

    /// - Parameter positions: of all slices, mm along the normal, any order.
    public init(positions: [Double]) {
        let sorted = SliceSpacing.distinct(positions)
        duplicates = Self.duplicates(of: sorted, in: positions)
        let intervals = zip(sorted.dropFirst(), sorted).map { $0 - $1 }
        let stretches = Self.establish(intervals)
        self.stretches = stretches
        guard !intervals.isEmpty else {
            gaps = []
            return
        }
        let median = Percentile.linear(intervals, 50)
        // Of the first stretch that ends above the interval: they are as many as the intervals at worst.
        var next = 0
        gaps = intervals.enumerated().compactMap { index, interval in
            while next < stretches.count, stretches[next].slices.upperBound <= index { next += 1 }
            if next < stretches.count, stretches[next].slices.lowerBound <= index { return nil }
            let below = next > 0 ? stretches[next - 1].spacing : nil
            let above = next < stretches.count ? stretches[next].spacing : nil
            let largest = [below, above].compactMap { $0 }.max() ?? median
            guard interval > Self.gapFrom * largest else { return nil }
            let count = max(1, Int(min((interval / largest).rounded(), Self.mostMissing)) - 1)
            let step = interval / Double(count + 1)
            return Gap(
                lower: sorted[index], upper: sorted[index + 1],
                missingCount: count,
                missing: (1...min(count, Self.mostListed)).map { sorted[index] + Double($0) * step })
        }
    }

    private static func establish(_ intervals: [Double]) -> [Stretch] {
        var stretches: [Stretch] = []
        var start = 0
        while start < intervals.count {
            var (least, most) = (intervals[start], intervals[start])
            var end = start + 1
            while end < intervals.count, max(most, intervals[end]) <= equalWithin * min(least, intervals[end]) {
                (least, most) = (min(least, intervals[end]), max(most, intervals[end]))
                end += 1
            }
            if end - start >= leastIntervals {
                stretches.append(
                    Stretch(slices: start...end, spacing: Percentile.linear(Array(intervals[start..<end]), 50)))
                start = end
            } else {
                start += 1
            }
        }
        return stretches
    }

    private static func duplicates(of distinct: [Double], in positions: [Double]) -> [Double] {
        let sorted = positions.sorted()
        var found: [Double] = []
        var place = 0
        for position in distinct {
            var count = 0
            while place < sorted.count, sorted[place] < position + SliceSpacing.sameMillimetres {
                count += 1
                place += 1
            }
            if count > 1 { found.append(position) }
        }
        return found
    }
}
