public import Foundation
public import Ledger
public import WorkerProtocol

/// The images that analyses saw, and what they saw in them.
public protocol StudyImages: Sendable {
    /// Of activations from 0 to 1 in equal steps: what is laid over an image, as in the captures.
    var shades: [HeatmapShade] { get }
    /// - Parameter name: `AnalysisEntry.findingName`.
    /// - Returns: nil where none was kept.
    /// - Throws: `ImageRefusal`.
    func finding(_ name: String, ofStudy uid: UID) async throws -> FindingRecord?
    /// - Parameter index: in `FindingRecord.images`.
    /// - Throws: `ImageRefusal`; what the ledger and the decoder throw.
    func slice(_ index: Int, of name: String, study uid: UID, isGzipped: Bool) async throws -> ViewedSlice
}

/// A colour, and how far it covers what is beneath; 255 is all.
public struct HeatmapShade: Sendable, Equatable {
    public var red: UInt8
    public var green: UInt8
    public var blue: UInt8
    public var opacity: UInt8
    public init(red: UInt8 = 0, green: UInt8 = 0, blue: UInt8 = 0, opacity: UInt8 = 0) {
        self.red = red
        self.green = green
        self.blue = blue
        self.opacity = opacity
    }
}

public struct ViewedSlice: Sendable {
    public var rows: Int
    public var columns: Int
    /// int16 little-endian, HU, [row][column].
    public var pixels: Data
    public var isGzipped: Bool
    public init(rows: Int, columns: Int, pixels: Data, isGzipped: Bool) {
        self.rows = rows
        self.columns = columns
        self.pixels = pixels
        self.isGzipped = isGzipped
    }
}

/// Why an image is not shown.
public enum ImageRefusal: Error, Sendable, Equatable {
    /// Of no kept finding.
    case unknown
    /// By retention.
    case removed
    /// Why.
    case undecodable(String)
    /// Too many ask at once.
    case busy
}
