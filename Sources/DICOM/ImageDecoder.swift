internal import CDCMTK
internal import WorkerProtocol

/// Decodes the pixels of one stored file, frame by frame. Owns a `cdcmtk_image *`; used by one thread at a time.
///
/// The header must have passed `HeaderReader` first: DCMTK's own reader recurses into sequences.
public final class ImageDecoder {
    public let rows: Int
    public let columns: Int
    public let frames: Int
    private let handle: OpaquePointer

    /// - Throws: `WorkerError` with code `failed` where it is no monochrome image within `DecodeLimits`.
    public init(path: String) throws {
        var limits = cdcmtk_image_limits(
            most_rows_or_columns: UInt32(DecodeLimits.rowsOrColumns), most_frames: UInt32(DecodeLimits.frames),
            most_decoded_bytes: UInt64(DecodeLimits.decodedBytes))
        var shape = cdcmtk_image_shape()
        let (opened, reason) = withReason { cdcmtk_image_open(path, &limits, &shape, $0, $1) }
        guard let opened else { throw WorkerError(.failed, reason) }
        handle = opened
        rows = Int(shape.rows)
        columns = Int(shape.columns)
        frames = Int(shape.frames)
    }

    deinit { cdcmtk_image_free(handle) }

    /// Hounsfield units of one frame, [row][column], padding as −1024, clipped to 16 bits. No other
    /// frame is decoded for it.
    /// - Throws: `WorkerError` with code `failed`.
    public func decode(frame: Int, into values: UnsafeMutableBufferPointer<Int16>) throws {
        precondition(values.count == rows * columns, "one value for each pixel")
        let (result, reason) = withReason {
            cdcmtk_image_decode(handle, UInt32(frame), values.baseAddress, values.count, $0, $1)
        }
        guard result == 0 else { throw WorkerError(.failed, reason) }
    }
}
