internal import Foundation
internal import Ledger

/// What the viewer's script is told of a finding. Without UIDs: images go by their place.
struct ViewerContent: Encodable {
    struct Image: Encodable {
        var number: Int?
        /// mm
        var position: Double
        /// Index in `slices`.
        var slice: Int
    }

    struct Slice: Encodable {
        var probability: Double
        var attention: Double
        var isFlagged: Bool
        /// Index in `images`.
        var representative: Int
        /// See `FindingRecord.Slice.map`.
        var map: Data?
    }

    struct Box: Encodable {
        var x: Int
        var y: Int
        var size: Int
    }

    var rows: Int
    var columns: Int
    /// Height of a pixel, its width being 1.
    var pixelAspect: Double
    var edges: OrientationLetters?
    var images: [Image]
    var slices: [Slice]
    var box: Box
    var mapSize: Int
    /// [step][red, green, blue, opacity]
    var shades: [UInt8]

    init(_ record: FindingRecord, shades: [HeatmapShade]) {
        rows = record.rows
        columns = record.columns
        pixelAspect = record.pixelSpacing.map { $0[0] / $0[1] } ?? 1
        edges = record.orientation.flatMap(OrientationLetters.init)
        images = record.slices.enumerated().flatMap { [Int](repeating: $0, count: $1.imageCount) }
            .enumerated().map { index, slice in
                let image = record.images[index]
                return Image(number: image.instanceNumber, position: image.positionMillimetres, slice: slice)
            }
        slices = record.slices.map {
            Slice(
                probability: $0.probability, attention: $0.attention, isFlagged: $0.isFlagged,
                representative: $0.representative, map: $0.map)
        }
        box = Box(x: record.box.x, y: record.box.y, size: record.box.size)
        mapSize = record.mapSize
        self.shades = shades.flatMap { [$0.red, $0.green, $0.blue, $0.opacity] }
    }
}

/// What the edges of an image face, in the letters of Patient Orientation (PS3.3 C.7.6.1.1.1).
struct OrientationLetters: Encodable, Equatable {
    var left: String
    var right: String
    var top: String
    var bottom: String

    /// - Parameter cosines: Image Orientation (Patient): of a row, then of a column, LPS.
    /// - Returns: nil where they are no directions.
    init?(_ cosines: [Double]) {
        guard cosines.count == 6, cosines.allSatisfy(\.isFinite) else { return nil }
        let (row, column) = (Array(cosines[..<3]), Array(cosines[3...]))
        right = Self.letters(row)
        left = Self.letters(row.map { -$0 })
        bottom = Self.letters(column)
        top = Self.letters(column.map { -$0 })
        guard ![left, right, top, bottom].contains("") else { return nil }
    }

    /// Below this an axis is not worth a letter: 20°.
    private static let least = 0.342

    /// The axis that it follows most, then the others.
    private static func letters(_ direction: [Double]) -> String {
        let names = [("L", "R"), ("P", "A"), ("H", "F")]
        return zip(direction, names).filter { abs($0.0) >= least }.sorted { abs($0.0) > abs($1.0) }
            .map { $0.0 > 0 ? $0.1.0 : $0.1.1 }.joined()
    }
}
