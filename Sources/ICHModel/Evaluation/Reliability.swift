internal import Foundation

/// Whether probabilities mean what they say.
public struct Reliability: Sendable, Encodable {
    /// Studies next to each other by probability.
    public struct Bin: Sendable, Encodable {
        public let lowest: Double
        public let highest: Double
        public let meanProbability: Double
        /// How many of them are positive.
        public let observed: Proportion
    }

    /// Of the logistic regression of the truth on the logit of the probability: 1 and 0 where all is well. A slope
    /// below 1 says that the probabilities are too far apart.
    public struct Line: Sendable, Codable, Equatable {
        public let slope: Double
        public let intercept: Double
    }

    public static let binCount = 10

    /// Mean squared difference of probability and truth.
    public let brierScore: Double
    /// Mean difference of probability and observed share over the bins, weighted by their size.
    public let expectedCalibrationError: Double
    /// Ascending, of equal size within one study; fewer than `binCount` where there are fewer studies.
    public let bins: [Bin]
    /// nil where the probabilities separate positive from negative studies: there is no finite line then.
    public let line: Line?

    /// - Returns: nil of nothing.
    public init?(_ studies: [(probability: Double, isPositive: Bool)]) {
        let sorted = studies.sorted { $0.probability < $1.probability }
        guard !sorted.isEmpty else { return nil }
        let total = Double(sorted.count)
        brierScore = sorted.reduce(0) { $0 + pow($1.probability - ($1.isPositive ? 1 : 0), 2) } / total
        let bins = Self.split(sorted.count).map { range in
            let part = sorted[range]
            return Bin(
                lowest: part[range.lowerBound].probability, highest: part[range.upperBound - 1].probability,
                meanProbability: part.reduce(0) { $0 + $1.probability } / Double(part.count),
                observed: Proportion(part.map(\.isPositive)))
        }
        self.bins = bins
        expectedCalibrationError = bins.reduce(0) { sum, bin in
            sum + abs(bin.meanProbability - (bin.observed.value ?? 0)) * Double(bin.observed.of) / total
        }
        line = Self.fit(sorted)
    }

    /// The first bins have one more where it does not come out even, as `numpy.array_split` does.
    private static func split(_ count: Int) -> [Range<Int>] {
        let parts = min(binCount, count)
        var start = 0
        return (0..<parts).map { part in
            let length = count / parts + (part < count % parts ? 1 : 0)
            defer { start += length }
            return start..<(start + length)
        }
    }

    /// Maximum likelihood by Newton's method.
    private static func fit(_ studies: [(probability: Double, isPositive: Bool)]) -> Line? {
        let points = studies.map { study -> (x: Double, y: Double) in
            let probability = min(max(study.probability, 1e-9), 1 - 1e-9)
            return (log(probability / (1 - probability)), study.isPositive ? 1 : 0)
        }
        let (positive, negative) = (points.filter { $0.y == 1 }.map(\.x), points.filter { $0.y == 0 }.map(\.x))
        guard let lowestPositive = positive.min(), let highestPositive = positive.max(),
            let lowestNegative = negative.min(), let highestNegative = negative.max(),
            lowestPositive < highestNegative, lowestNegative < highestPositive
        else { return nil }
        var (slope, intercept) = (1.0, 0.0)
        for _ in 0..<100 {
            var (gradient, hessian) = ((0.0, 0.0), (0.0, 0.0, 0.0))
            for point in points {
                let expected = 1 / (1 + exp(-(slope * point.x + intercept)))
                let (error, weight) = (point.y - expected, expected * (1 - expected))
                gradient = (gradient.0 + error * point.x, gradient.1 + error)
                hessian = (
                    hessian.0 + weight * point.x * point.x, hessian.1 + weight * point.x, hessian.2 + weight
                )
            }
            let determinant = hessian.0 * hessian.2 - hessian.1 * hessian.1
            guard determinant > 1e-12 else { return nil }
            let step = (
                (hessian.2 * gradient.0 - hessian.1 * gradient.1) / determinant,
                (hessian.0 * gradient.1 - hessian.1 * gradient.0) / determinant
            )
            // Far from the optimum a full step may overshoot.
            let damping = min(1, 2 / max(abs(step.0), abs(step.1), 1e-300))
            slope += damping * step.0
            intercept += damping * step.1
            if max(abs(step.0), abs(step.1)) < 1e-10 { return Line(slope: slope, intercept: intercept) }
        }
        return nil
    }
}
