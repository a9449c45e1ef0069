internal import Foundation
public import WorkerProtocol

/// Where one image lies in the patient, as far as analysis needs it. Millimetres, LPS.
public struct SliceGeometry: Sendable, Hashable, Codable {
    /// Unit normal of the image, x, y, z; turned so that z is not negative: along it, slices go feet → head.
    public let normal: [Double]
    /// Of the first voxel's centre, along `normal`.
    public let positionMillimetres: Double
    /// Between rows, then between columns.
    public let pixelSpacingMillimetres: [Double]
    public let rows: Int
    public let columns: Int
    /// (0018,0088), where it is there and positive.
    public let declaredSpacingMillimetres: Double?
    /// (0018,0050), where it is there and positive.
    public let thicknessMillimetres: Double?

    /// Largest angle between normal and body axis of an axial image. Gantries tilt by up to 30°.
    public static let mostTiltDegrees = 35.0

    /// No patient and no table lie further from the scanner's origin.
    public static let mostPositionMillimetres = 5000.0

    /// - Throws: `ModelError` with code `slice` where position, orientation, spacing or size are missing or impossible.
    public init(_ image: ImageAttributes) throws {
        guard let position = image.position, position.count == 3, position.allSatisfy(\.isFinite),
            let orientation = image.orientation, orientation.count == 6, orientation.allSatisfy(\.isFinite)
        else { throw ModelError(.slice, "no Image Position or Image Orientation (Patient)") }
        guard let spacing = image.pixelSpacing, spacing.count == 2,
            spacing.allSatisfy({ $0.isFinite && (0.05...10).contains($0) })
        else { throw ModelError(.slice, "no Pixel Spacing between 0.05 and 10 mm") }
        guard let rows = image.rows, let columns = image.columns, (1...Plane.mostSide).contains(rows),
            (1...Plane.mostSide).contains(columns)
        else { throw ModelError(.slice, "no usable Rows or Columns") }
        let (row, column) = (Array(orientation[0..<3]), Array(orientation[3..<6]))
        let cross = [
            row[1] * column[2] - row[2] * column[1], row[2] * column[0] - row[0] * column[2],
            row[0] * column[1] - row[1] * column[0],
        ]
        let length = dot(cross, cross).squareRoot()
        guard abs(length - 1) < 0.05 else { throw ModelError(.slice, "Image Orientation (Patient) is not orthonormal") }
        let sign = cross[2] < 0 ? -1.0 : 1.0
        normal = cross.map { sign * $0 / length }
        positionMillimetres = dot(normal, position)
        guard abs(positionMillimetres) <= Self.mostPositionMillimetres else {
            throw ModelError(.slice, "Image Position (Patient) is out of range")
        }
        pixelSpacingMillimetres = spacing
        self.rows = rows
        self.columns = columns
        declaredSpacingMillimetres = Self.positive(image.spacingBetweenSlices)
        thicknessMillimetres = Self.positive(image.sliceThickness)
    }

    /// Angle between normal and body axis.
    public var tiltDegrees: Double { acos(min(1, normal[2])) * 180 / .pi }
    public var isAxial: Bool { tiltDegrees <= Self.mostTiltDegrees }

    private static func positive(_ value: Double?) -> Double? {
        guard let value, value.isFinite, (0.05...50).contains(value) else { return nil }
        return value
    }
}

func dot(_ left: [Double], _ right: [Double]) -> Double { zip(left, right).reduce(0) { $0 + $1.0 * $1.1 } }

/// Distances between slice positions.
public enum SliceSpacing {
    /// Positions closer than this are one position.
    public static let sameMillimetres = 0.02

    /// - Parameter positions: mm along the normal, any order.
    /// - Returns: ascending, positions closer than `sameMillimetres` to the one before left out.
    public static func distinct(_ positions: [Double]) -> [Double] {
        var kept: [Double] = []
        for position in positions.sorted() where kept.last.map({ position - $0 >= sameMillimetres }) ?? true {
            kept.append(position)
        }
        return kept
    }

    /// The median distance of neighbours, rounded to 0.001 mm; nil for fewer than two distinct positions.
    public static func median(of positions: [Double]) -> Double? {
        let sorted = distinct(positions)
        guard sorted.count > 1 else { return nil }
        let distances = zip(sorted.dropFirst(), sorted).map { $0 - $1 }
        return (Percentile.linear(distances, 50) * 1000).rounded() / 1000
    }
}
