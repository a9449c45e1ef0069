/// Numbers that the training side computes too: same formulas, same rounding.
public enum Percentile {
    /// `numpy.percentile(values, percent)` with its default, linear interpolation.
    /// - Parameter values: at least one, any order.
    public static func linear(_ values: [Double], _ percent: Double) -> Double {
        let sorted = values.sorted()
        let place = Double(sorted.count - 1) * (percent / 100)
        let lower = Int(place.rounded(.down))
        let upper = min(lower + 1, sorted.count - 1)
        let share = place - Double(lower)
        let difference = sorted[upper] - sorted[lower]
        return share >= 0.5 ? sorted[upper] - difference * (1 - share) : sorted[lower] + difference * share
    }

    /// The nearest integer; halves go away from zero.
    static func roundHalfAway(_ value: Double) -> Int {
        Int(value >= 0 ? (value + 0.5).rounded(.down) : -(-value + 0.5).rounded(.down))
    }
}
