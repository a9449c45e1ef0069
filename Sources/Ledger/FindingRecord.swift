public import Foundation
public import WorkerProtocol

/// What an analysis saw in each slice, kept beside its report so that it can be looked at later.
public struct FindingRecord: Codable, Sendable, Equatable {
    /// A source image. Its file is that of the instance's version, which never changes.
    public struct Image: Codable, Sendable, Equatable {
        /// Of the object that is stored, also where this is a frame of it.
        public var sopInstanceUID: UID
        /// From 1; nil: the whole object.
        public var frame: Int?
        public var version: Int
        public var instanceNumber: Int?
        /// Along the normal.
        public var positionMillimetres: Double

        public init(
            sopInstanceUID: UID, frame: Int?, version: Int, instanceNumber: Int?, positionMillimetres: Double
        ) {
            self.sopInstanceUID = sopInstanceUID
            self.frame = frame
            self.version = version
            self.instanceNumber = instanceNumber
            self.positionMillimetres = positionMillimetres
        }
    }

    /// One slice as the model saw it: the mean of its source images.
    public struct Slice: Codable, Sendable, Equatable {
        /// How many of `images` it is made of; those of the next slice follow.
        public var imageCount: Int
        /// Index in `images` of the one that its capture is drawn on.
        public var representative: Int
        public var positionMillimetres: Double
        /// Calibrated, 0…1.
        public var probability: Double
        /// Share of the sequence head's attention; sums to 1 over the study.
        public var attention: Double
        public var isFlagged: Bool
        /// [row][column] of the box, `mapSize`² activations as UInt16 little-endian, 65535 for 1. nil: none was made.
        public var map: Data?

        public init(
            imageCount: Int, representative: Int, positionMillimetres: Double, probability: Double, attention: Double,
            isFlagged: Bool, map: Data?
        ) {
            self.imageCount = imageCount
            self.representative = representative
            self.positionMillimetres = positionMillimetres
            self.probability = probability
            self.attention = attention
            self.isFlagged = isFlagged
            self.map = map
        }
    }

    /// The square of the source images that the maps cover, in pixels; it may reach outside.
    public struct Box: Codable, Sendable, Equatable {
        /// Column and row of the upper left pixel.
        public var x: Int
        public var y: Int
        public var size: Int

        public init(x: Int, y: Int, size: Int) {
            self.x = x
            self.y = y
            self.size = size
        }
    }

    public var seriesInstanceUID: UID
    /// Feet → head.
    public var images: [Image]
    /// Feet → head.
    public var slices: [Slice]
    /// Calibrated probability of *any haemorrhage* in the study, 0…1, and from where it is positive.
    public var probability: Double
    public var threshold: Double
    public var thresholdName: String
    public var isPositive: Bool
    /// Slice probability from which slices of a positive study are flagged.
    public var sliceThreshold: Double
    /// Size of the source images.
    public var rows: Int
    public var columns: Int
    /// Between rows, then between columns, mm.
    public var pixelSpacing: [Double]?
    /// Image Orientation (Patient): direction cosines of a row, then of a column.
    public var orientation: [Double]?
    public var box: Box
    /// Rows and columns of a map.
    public var mapSize: Int

    public init(
        seriesInstanceUID: UID, images: [Image], slices: [Slice], probability: Double, threshold: Double,
        thresholdName: String, isPositive: Bool, sliceThreshold: Double, rows: Int, columns: Int,
        pixelSpacing: [Double]?, orientation: [Double]?, box: Box, mapSize: Int
    ) {
        self.seriesInstanceUID = seriesInstanceUID
        self.images = images
        self.slices = slices
        self.probability = probability
        self.threshold = threshold
        self.thresholdName = thresholdName
        self.isPositive = isPositive
        self.sliceThreshold = sliceThreshold
        self.rows = rows
        self.columns = columns
        self.pixelSpacing = pixelSpacing
        self.orientation = orientation
        self.box = box
        self.mapSize = mapSize
    }
}

extension FindingRecord {
    /// As many as an analysis takes, and more slices than any head has.
    public static let mostImages = 2048
    public static let mostSlices = 512
    public static let mostMapSize = 64
    /// Of its file: maps are most of it.
    public static let mostBytes = 16 << 20

    /// - Returns: what is wrong with it; nil where nothing is.
    public var flaw: String? {
        guard (1...Self.mostImages).contains(images.count), (1...Self.mostSlices).contains(slices.count) else {
            return "\(images.count) images in \(slices.count) slices"
        }
        let side = 1...DecodeLimits.rowsOrColumns
        guard side.contains(rows), side.contains(columns), (1...Self.mostMapSize).contains(mapSize),
            side.contains(box.size), [box.x, box.y].allSatisfy((-side.upperBound...side.upperBound).contains)
        else { return "impossible sizes" }
        guard images.compactMap(\.frame).allSatisfy((1...DecodeLimits.frames).contains) else {
            return "an impossible frame"
        }
        guard pixelSpacing.map({ $0.count == 2 && $0.allSatisfy { (0.01...100).contains($0) } }) ?? true,
            orientation.map({ $0.count == 6 && $0.allSatisfy { abs($0) <= 1.1 } }) ?? true
        else { return "impossible geometry" }
        var first = 0
        for slice in slices {
            guard (1...Self.mostImages).contains(slice.imageCount), first + slice.imageCount <= images.count,
                (first..<first + slice.imageCount).contains(slice.representative)
            else { return "a slice without its images" }
            guard slice.map.map({ $0.count == mapSize * mapSize * 2 }) ?? true else { return "a map of another size" }
            first += slice.imageCount
        }
        guard first == images.count else { return "images without a slice" }
        let shares = slices.flatMap { [$0.probability, $0.attention] } + [probability, threshold, sliceThreshold]
        return shares.allSatisfy { (0...1.000_001).contains($0) } ? nil : "a probability that is none"
    }
}

extension AnalysisEntry {
    /// What names the finding of an analysis among those of its study: no two are of the same revision, model and
    /// configuration.
    public static func findingName(revision: String, model: String, configuration: String) -> String {
        String(SHA256Digest.hex(of: [revision, model, configuration]).prefix(32))
    }

    public var findingName: String {
        Self.findingName(revision: revisionDigest, model: modelDigest, configuration: configurationDigest)
    }
}
