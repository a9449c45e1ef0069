/// Tells a head from a phantom, another body region or an empty volume, by the volume of enclosed brain-like tissue.
///
/// Each slab is looked at in squares of about 2 mm. A square counts as brain where its mean is 15 to 60 HU and where,
/// of 16 directions in the plane, at least 11 lead to bone (above 250 HU) before air, fat or the image's edge (mean
/// below −30 HU). So a skull defect of a third of the circumference loses only the brain next to it, while lungs, fat
/// and the spaces between ribs let most directions of a trunk escape. Phantoms of plastic and air have no such tissue
/// at all.
public struct BrainCheck: Sendable, Equatable, Codable {
    /// Volume from which a series counts as a head with a brain. An adult brain has 1,100 to 1,500 mL; a newborn's 350.
    public static let leastMillilitres = 200.0

    /// Enclosed brain of the topmost slab from which the head counts as cut off. Of 66 CT-ICH studies the topmost slab
    /// has 22 cm² (median) and 54.5 cm² at most, at an assumed pixel spacing of 0.45 mm: none is affected. Without
    /// their uppermost 5, 10, 15 mm 33, 62, 65 of them are noticed. `scripts/measure/head_ends.py` finds these figures.
    static let cutTopSquareMillimetres = 6000.0
    /// The same of the lowest slab: 34 cm² at most in those 66 studies, which all begin at the skull base. Without
    /// their lowest 30, 40, 50 mm 39, 53, 63 of them are noticed.
    static let cutBaseSquareMillimetres = 4500.0

    public let brainMillilitres: Double
    public var hasBrain: Bool { brainMillilitres >= Self.leastMillilitres }

    public init(brainMillilitres: Double) { self.brainMillilitres = brainMillilitres }

    static let squareMillimetres = 2.0
    static let tissue: ClosedRange<Float> = 15...60
    static let bone: Float = 250
    static let stop: Float = -30
    static let leastDirections: UInt8 = 11
    private static let directions: [(x: Int, y: Int)] = [
        (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1),
        (2, 1), (2, -1), (-2, 1), (-2, -1), (1, 2), (1, -2), (-1, 2), (-1, -2),
    ]

    /// - Parameters:
    ///   - values: one slab, [row][column], HU.
    ///   - pixelSpacing: mm between rows, then between columns.
    /// - Returns: mm² of enclosed brain-like tissue.
    static func enclosedArea(_ values: [Float], rows: Int, columns: Int, pixelSpacing: [Double]) -> Double {
        let height = max(1, Percentile.roundHalfAway(squareMillimetres / pixelSpacing[0]))
        let width = max(1, Percentile.roundHalfAway(squareMillimetres / pixelSpacing[1]))
        let grid = Grid(values, rows: rows, columns: columns, height: height, width: width)
        guard grid.kinds.contains(.tissue) else { return 0 }
        var hits = [UInt8](repeating: 0, count: grid.kinds.count)
        for direction in directions { grid.countHits(along: direction, into: &hits) }
        let count = zip(grid.kinds, hits).count { $0 == .tissue && $1 >= leastDirections }
        return Double(count) * Double(height) * pixelSpacing[0] * Double(width) * pixelSpacing[1]
    }

    private enum Kind: UInt8 { case bone, stop, tissue, other }

    private struct Grid {
        let rows: Int
        let columns: Int
        var kinds: [Kind]

        init(_ values: [Float], rows imageRows: Int, columns imageColumns: Int, height: Int, width: Int) {
            rows = imageRows / height
            columns = imageColumns / width
            kinds = []
            kinds.reserveCapacity(rows * columns)
            for row in 0..<rows {
                for column in 0..<columns {
                    var (sum, most) = (Float(0), -Float.infinity)
                    for y in 0..<height {
                        let start = (row * height + y) * imageColumns + column * width
                        for index in start..<(start + width) {
                            sum += values[index]
                            most = max(most, values[index])
                        }
                    }
                    kinds.append(Self.kind(mean: sum / Float(height * width), most: most))
                }
            }
        }

        private static func kind(mean: Float, most: Float) -> Kind {
            if most > bone { return .bone }
            if mean < stop { return .stop }
            return tissue.contains(mean) ? .tissue : .other
        }

        /// Adds one to every square from which the direction leads to bone. Squares are taken in the order in which
        /// their neighbour in that direction comes first.
        func countHits(along direction: (x: Int, y: Int), into hits: inout [UInt8]) {
            var reaches = [Bool](repeating: false, count: kinds.count)
            for step in 0..<rows {
                let row = direction.y > 0 ? rows - 1 - step : step
                for place in 0..<columns {
                    let column = direction.x > 0 ? columns - 1 - place : place
                    let index = row * columns + column
                    switch kinds[index] {
                    case .bone: reaches[index] = true
                    case .stop: reaches[index] = false
                    case .tissue, .other:
                        let (y, x) = (row + direction.y, column + direction.x)
                        guard y >= 0, y < rows, x >= 0, x < columns, reaches[y * columns + x] else { continue }
                        reaches[index] = true
                        hits[index] += 1
                    }
                }
            }
        }
    }
}
