internal import Foundation

/// Two ends of a 95 % interval.
public struct Interval: Codable, Sendable, Equatable {
    public let low: Double
    public let high: Double

    public init(low: Double, high: Double) {
        self.low = low
        self.high = high
    }
}

/// A number and its 95 % interval.
public struct Estimate: Codable, Sendable, Equatable {
    public let value: Double
    /// nil where it cannot be computed.
    public let interval: Interval?

    public init(value: Double, interval: Interval?) {
        self.value = value
        self.interval = interval
    }
}

/// So many of so many.
public struct Proportion: Sendable, Equatable {
    public let count: Int
    public let of: Int

    public init(_ count: Int, of total: Int) {
        precondition(count >= 0 && count <= total, "\(count) of \(total)")
        self.count = count
        of = total
    }

    /// Whether each element fulfils the condition.
    public init(_ elements: some Sequence<Bool>) {
        let all = Array(elements)
        self.init(all.count { $0 }, of: all.count)
    }

    /// The 97.5 % quantile of the normal distribution.
    static let quantile = 1.959963984540054

    /// nil of nothing.
    public var value: Double? { of > 0 ? Double(count) / Double(of) : nil }

    /// Score interval without continuity correction (Wilson 1927; Newcombe 1998, method 3).
    public var estimate: Estimate? {
        guard let share = value else { return nil }
        let (n, z) = (Double(of), Self.quantile)
        let middle = share + z * z / (2 * n)
        let half = z * (share * (1 - share) / n + z * z / (4 * n * n)).squareRoot()
        let scale = 1 + z * z / n
        // At the ends rounding would leave 1e-17 in place of the end itself.
        let low = count == 0 ? 0 : (middle - half) / scale
        let high = count == of ? 1 : (middle + half) / scale
        return Estimate(value: share, interval: Interval(low: low, high: high))
    }
}

extension Proportion: Encodable {
    enum CodingKeys: String, CodingKey { case count, of, value, interval }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(count, forKey: .count)
        try container.encode(of, forKey: .of)
        try container.encodeIfPresent(estimate?.value, forKey: .value)
        try container.encodeIfPresent(estimate?.interval, forKey: .interval)
    }
}
