internal import Foundation
public import WorkerProtocol

/// What the model says of one series. All numbers are finite.
public struct Finding: Codable, Sendable, Equatable {
    public var modelName: String
    public var modelVersion: String
    /// `ModelPackage.modelDigest`
    public var modelDigest: String
    /// Names of the classes, in the order of `classProbabilities`.
    public var classes: [String]
    /// Calibrated probability of *any haemorrhage*, 0…1.
    public var probability: Double
    /// [class], calibrated, 0…1.
    public var classProbabilities: [Double]
    /// The operating point that `isPositive` was decided at.
    public var threshold: ModelPackage.Threshold
    public var isPositive: Bool
    /// Slice probability from which slices of a positive study are flagged.
    public var sliceThreshold: Double
    /// Feet → head.
    public var slices: [AnalysedSlice]
    /// The crop that the encoder saw, in pixels of the source images.
    public var box: StudyBox
    /// Size of the source images.
    public var rows: Int
    public var columns: Int
    /// Rows and columns of a lesion map.
    public var mapSize: Int
    /// How many source images make one analysed slice, and their distance in mm.
    public var slicesPerSlab: Int
    public var spacingMillimetres: Double?
    public var brain: BrainCheck
    /// Ends of the series that lie within the brain. With any of them, a series without a finding is not negative.
    public var endsWithinBrain: [SeriesEnd]

    /// The flagged slices, feet → head. Empty where the study is negative, never empty where it is positive.
    public var flaggedSlices: [AnalysedSlice] { slices.filter(\.isFlagged) }
    public var heatmapGeometry: HeatmapGeometry {
        HeatmapGeometry(box: box, mapSize: mapSize, rows: rows, columns: columns)
    }
}

/// An end of a series along the body axis.
public enum SeriesEnd: String, Codable, Sendable, CaseIterable {
    case lower, upper
}

/// One slab as the model saw it.
public struct AnalysedSlice: Codable, Sendable, Equatable {
    /// The source images in it, feet → head.
    public var instances: [UID]
    /// The middle one of `instances`: where captures are drawn on.
    public var representative: UID
    /// Mean position along the normal, mm.
    public var positionMillimetres: Double
    /// Calibrated probability of *any haemorrhage* in the slice, 0…1.
    public var probability: Double
    /// Uncalibrated.
    public var logit: Double
    /// Share of the sequence head's attention; sums to 1 over the study.
    public var attention: Double
    public var isFlagged: Bool
    /// [row][column] of the study box, 0…1; only where the study is positive. Stretched to the image by
    /// `Finding.heatmapGeometry`.
    public var lesionMap: [Float]?
}

/// Where a lesion map lies in the source images.
public struct HeatmapGeometry: Codable, Sendable, Equatable {
    public var box: StudyBox
    /// Rows and columns of the map.
    public var mapSize: Int
    /// Size of the source image.
    public var rows: Int
    public var columns: Int

    public init(box: StudyBox, mapSize: Int, rows: Int, columns: Int) {
        self.box = box
        self.mapSize = mapSize
        self.rows = rows
        self.columns = columns
    }

    /// Bilinear, pixel centres aligned, the map's edge extended to the edge of the box.
    ///
    /// - Parameter map: [row][column] of the box, `mapSize`².
    /// - Returns: [row][column] of the source image, 0 outside the box.
    /// - Throws: `ModelError` with code `inference` where the map has another size.
    public func upsample(_ map: [Float]) throws -> [Float] {
        guard map.count == mapSize * mapSize, mapSize > 0, box.size > 0 else {
            throw ModelError(.inference, "a lesion map of \(map.count) values is no \(mapSize)×\(mapSize)")
        }
        let across = weights(start: box.x, length: columns)
        var image = [Float](repeating: 0, count: rows * columns)
        for (row, below) in zip(0..<rows, weights(start: box.y, length: rows)) {
            guard let below else { continue }
            for (column, beside) in across.enumerated() {
                guard let beside else { continue }
                let (top, bottom) = (below.lower * mapSize, below.upper * mapSize)
                let first = map[top + beside.lower] * (1 - beside.share) + map[top + beside.upper] * beside.share
                let second = map[bottom + beside.lower] * (1 - beside.share) + map[bottom + beside.upper] * beside.share
                image[row * columns + column] = first * (1 - below.share) + second * below.share
            }
        }
        return image
    }

    private struct Between {
        let lower: Int
        let upper: Int
        let share: Float
    }

    private func weights(start: Int, length: Int) -> [Between?] {
        (0..<length).map { pixel in
            guard pixel >= start, pixel < start + box.size else { return nil }
            let place = (Double(pixel - start) + 0.5) * Double(mapSize) / Double(box.size) - 0.5
            let lower = Int(place.rounded(.down))
            return Between(
                lower: min(max(lower, 0), mapSize - 1), upper: min(max(lower + 1, 0), mapSize - 1),
                share: Float(place - Double(lower)))
        }
    }
}
