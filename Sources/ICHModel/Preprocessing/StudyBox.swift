/// The one square crop of a study, in pixels of its images. It may reach outside the image, where air is assumed.
public struct StudyBox: Sendable, Equatable, Hashable, Codable {
    /// Column of the upper left pixel.
    public var x: Int
    /// Row of the upper left pixel.
    public var y: Int
    /// Side in pixels.
    public var size: Int

    public init(x: Int, y: Int, size: Int) {
        self.x = x
        self.y = y
        self.size = size
    }

    /// From the skull boxes of the slabs that have one; their order does not matter.
    ///
    /// Slabs count whose size is at least 0.6 of the 90th percentile of all sizes. Edges: 10th percentile of left and
    /// top, 90th of right and bottom, plus one. Side: the longer extent and the margin.
    static func of(_ boxes: [SkullBox], rows: Int, columns: Int, margin: Double) -> StudyBox {
        guard !boxes.isEmpty else {
            return centred(x: Double(columns) / 2, y: Double(rows) / 2, side: Double(max(rows, columns)))
        }
        let least = 0.6 * Percentile.linear(boxes.map { Double($0.size) }, 90)
        let kept = boxes.filter { Double($0.size) >= least }
        let left = Percentile.linear(kept.map { Double($0.x0) }, 10)
        let top = Percentile.linear(kept.map { Double($0.y0) }, 10)
        let right = Percentile.linear(kept.map { Double($0.x1) }, 90) + 1
        let bottom = Percentile.linear(kept.map { Double($0.y1) }, 90) + 1
        return centred(
            x: (left + right) / 2, y: (top + bottom) / 2, side: (1 + margin) * max(right - left, bottom - top))
    }

    private static func centred(x: Double, y: Double, side: Double) -> StudyBox {
        let size = Int(side.rounded(.up))
        return StudyBox(
            x: Percentile.roundHalfAway(x - Double(size) / 2), y: Percentile.roundHalfAway(y - Double(size) / 2),
            size: size)
    }
}
