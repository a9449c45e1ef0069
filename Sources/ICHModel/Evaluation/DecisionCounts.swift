/// Yes-or-no decisions against the truth.
public struct DecisionCounts: Sendable, Equatable, Codable {
    public var truePositives = 0
    public var falsePositives = 0
    public var trueNegatives = 0
    public var falseNegatives = 0

    public init() {}

    /// - Parameter decisions: whether flagged, and whether truly positive.
    public init(_ decisions: [(isFlagged: Bool, isPositive: Bool)]) {
        for decision in decisions {
            switch decision {
            case (true, true): truePositives += 1
            case (true, false): falsePositives += 1
            case (false, true): falseNegatives += 1
            case (false, false): trueNegatives += 1
            }
        }
    }

    public var positives: Int { truePositives + falseNegatives }
    public var negatives: Int { trueNegatives + falsePositives }
    public var sensitivity: Proportion { Proportion(truePositives, of: positives) }
    public var specificity: Proportion { Proportion(trueNegatives, of: negatives) }
    public var positivePredictiveValue: Proportion {
        Proportion(truePositives, of: truePositives + falsePositives)
    }
    public var negativePredictiveValue: Proportion {
        Proportion(trueNegatives, of: trueNegatives + falseNegatives)
    }

    /// Predictive values where another share of the studies is positive, by Bayes' rule.
    ///
    /// The interval takes both lower, then both upper Wilson limits of sensitivity and specificity: wider than 95 %
    /// demand, and defined also where one of them is 0 or 1.
    /// - Parameter prevalence: between 0 and 1, exclusive.
    /// - Returns: nil where the set has no positive or no negative study.
    public func predictiveValues(atPrevalence prevalence: Double) -> PredictiveValues? {
        guard let sensitivity = sensitivity.estimate, let specificity = specificity.estimate,
            let first = sensitivity.interval, let second = specificity.interval
        else { return nil }
        func estimate(_ rule: (_ sensitivity: Double, _ specificity: Double) -> Double?) -> Estimate? {
            guard let value = rule(sensitivity.value, specificity.value) else { return nil }
            let (low, high) = (rule(first.low, second.low), rule(first.high, second.high))
            return Estimate(value: value, interval: Interval(low: low ?? 0, high: high ?? 1))
        }
        return PredictiveValues(
            prevalence: prevalence,
            positive: estimate { Self.share($0 * prevalence, (1 - $1) * (1 - prevalence)) },
            negative: estimate { Self.share($1 * (1 - prevalence), (1 - $0) * prevalence) })
    }

    private static func share(_ wanted: Double, _ other: Double) -> Double? {
        wanted + other > 0 ? wanted / (wanted + other) : nil
    }
}

/// Predictive values at a stated prevalence.
public struct PredictiveValues: Sendable, Equatable, Codable {
    public let prevalence: Double
    /// nil where nothing would be flagged.
    public let positive: Estimate?
    /// nil where everything would be flagged.
    public let negative: Estimate?
}
