internal import Foundation
internal import WorkerProtocol

/// A study made of a closed formula in integers, which the training side makes too (`Training/ichtrain/phantom.py`):
/// what a package says of it here has to be what it said there.
public enum SelfTestPhantom {
    public static let formula =
        "12 planes of 128 rows x 128 columns, plane z at z * 2.5 mm, slice spacing 2.5 mm. All integers; x column, "
        + "y row, z plane, from 0. dx = x - 64, dy = y - 64. Outside dx*dx*3136 + dy*dy*2116 <= 6635776 (half axes 46, "
        + "56): -1024. Inside it but outside dx*dx*2601 + dy*dy*1681 <= 4372281 (half axes 41 and 51): 900. Inside "
        + "both: 70 where (x-80)*(x-80) + (y-56)*(y-56) + 9*(z-6)*(z-6) <= 100, else 30 + ((x*7 + y*13 + z*29) mod 17) "
        + "- 8."

    public static let planeCount = 12
    /// Rows and columns.
    public static let side = 128
    public static let spacingMillimetres = 2.5
    /// The formula has no pixel size; with this one the brain check finds a head.
    static let pixelSpacingMillimetres = 1.5

    /// - Parameter z: 0 to `planeCount` − 1, feet → head.
    public static func plane(_ z: Int) throws -> Plane {
        var values = [Int16](repeating: -1024, count: side * side)
        for y in 0..<side {
            for x in 0..<side {
                let (dx, dy) = (x - 64, y - 64)
                guard dx * dx * 3136 + dy * dy * 2116 <= 6_635_776 else { continue }
                let isInner = dx * dx * 2601 + dy * dy * 1681 <= 4_372_281
                let isLesion = (x - 80) * (x - 80) + (y - 56) * (y - 56) + 9 * (z - 6) * (z - 6) <= 100
                let brain = isLesion ? 70 : 30 + (x * 7 + y * 13 + z * 29) % 17 - 8
                values[y * side + x] = Int16(isInner ? brain : 900)
            }
        }
        return try Plane(rows: side, columns: side, values: values)
    }

    /// Feet → head.
    public static func slices() throws -> [(slice: StudySlice, plane: Plane)] {
        try (0..<planeCount).map { z in
            var image = ImageAttributes()
            image.position = [0, 0, Double(z) * spacingMillimetres]
            image.orientation = [1, 0, 0, 0, 1, 0]
            image.pixelSpacing = [pixelSpacingMillimetres, pixelSpacingMillimetres]
            image.sliceThickness = spacingMillimetres
            (image.rows, image.columns) = (side, side)
            guard let uid = UID("1.2.\(z + 1)") else { preconditionFailure("not a UID") }
            let slice = StudySlice(
                sopInstanceUID: uid, contentDigest: "phantom \(z)", geometry: try SliceGeometry(image))
            return (slice, try plane(z))
        }
    }
}
