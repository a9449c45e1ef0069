internal import Foundation

/// Whether two readers of the same studies are right equally often (McNemar 1947).
public struct McNemarTest: Sendable, Equatable, Codable {
    /// Studies that the first alone, and the second alone, has right.
    public let onlyFirstRight: Int
    public let onlySecondRight: Int
    /// Studies that both read.
    public let studies: Int
    /// Two-sided, from the binomial distribution.
    public let exactP: Double
    /// With continuity correction, one degree of freedom; nil where the two never differ.
    public let chiSquare: Double?
    public let chiSquareP: Double?

    /// - Parameter pairs: whether the first and whether the second is right, study by study.
    public init(_ pairs: [(first: Bool, second: Bool)]) {
        self.init(
            onlyFirstRight: pairs.count { $0.first && !$0.second },
            onlySecondRight: pairs.count { !$0.first && $0.second }, studies: pairs.count)
    }

    init(onlyFirstRight: Int, onlySecondRight: Int, studies: Int) {
        self.onlyFirstRight = onlyFirstRight
        self.onlySecondRight = onlySecondRight
        self.studies = studies
        let discordant = onlyFirstRight + onlySecondRight
        exactP = Self.binomial(least: min(onlyFirstRight, onlySecondRight), of: discordant)
        guard discordant > 0 else {
            chiSquare = nil
            chiSquareP = nil
            return
        }
        let excess = max(0, Double(abs(onlyFirstRight - onlySecondRight)) - 1)
        let statistic = excess * excess / Double(discordant)
        chiSquare = statistic
        chiSquareP = erfc((statistic / 2).squareRoot())
    }

    /// Two-sided probability of a split at least as uneven, were both halves equally likely.
    private static func binomial(least: Int, of n: Int) -> Double {
        guard n > 0 else { return 1 }
        let all = logFactorial(n)
        let tail = (0...least).reduce(0.0) { sum, k in
            sum + exp(all - logFactorial(k) - logFactorial(n - k) - Double(n) * log(2.0))
        }
        return min(1, 2 * tail)
    }

    private static func logFactorial(_ n: Int) -> Double { (0..<n).reduce(0.0) { $0 + log(Double($1 + 1)) } }
}
