/// Daemon → `ichnode-dicom decode`.
public enum DecodeRequest: Codable, Sendable {
    /// Read the headers of stored files; one `described` or `failed` for each, in order.
    case describe(paths: [String])
    /// Decode pixels; one `plane` with a bulk frame for every frame asked for, of a whole file for each of its own, or
    /// one `failed`, in order; then `done`. At most `mostFrames` files or frames.
    case decode(frames: [FrameLocation])
    public static let mostFrames = 32

    public static func decode(paths: [String]) -> DecodeRequest {
        .decode(frames: paths.map { FrameLocation(path: $0) })
    }
}

/// `ichnode-dicom decode` → daemon.
public enum DecodeEvent: Codable, Sendable {
    case described(path: String, InstanceRecord)
    /// Followed by a bulk frame: int16 little-endian Hounsfield units, [row][column], padding as −1024.
    case plane(DecodedPlane)
    /// - frame: from 1, where one was asked for.
    case failed(path: String, frame: Int?, reason: String)
    /// All of the request were answered.
    case done
}

public struct DecodedPlane: Codable, Sendable, Equatable {
    public var path: String
    /// 0-based, of `frameCount`.
    public var frame: Int
    public var frameCount: Int
    public var rows: Int
    public var columns: Int
    /// SHA-256 of the file's data set (without preamble and file meta header), lower-case hexadecimal.
    public var dataSetDigest: String
    public init(path: String, frame: Int, frameCount: Int, rows: Int, columns: Int, dataSetDigest: String) {
        self.path = path
        self.frame = frame
        self.frameCount = frameCount
        self.rows = rows
        self.columns = columns
        self.dataSetDigest = dataSetDigest
    }
}

/// Bounds on what is decoded, checked before memory is taken.
public enum DecodeLimits {
    /// Rows and columns of a CT image that we analyse.
    public static let rowsOrColumns = 4096
    public static let frames = 4096
    /// Bytes of all decoded frames of one object.
    public static let decodedBytes = 1 << 30
}
