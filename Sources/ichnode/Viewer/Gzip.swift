import CZlib
import Foundation

/// gzip members (RFC 1952).
enum Gzip {
    /// Quick rather than small.
    /// - Returns: nil where zlib cannot.
    static func compress(_ bytes: Data) -> Data? {
        var stream = z_stream()
        // 16 more than the largest window: a gzip header.
        let begun = deflateInit2_(
            &stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
            Int32(MemoryLayout<z_stream>.size))
        guard begun == Z_OK else { return nil }
        defer { deflateEnd(&stream) }
        var compressed = Data(count: Int(deflateBound(&stream, uLong(bytes.count))))
        let ended = bytes.withUnsafeBytes { input in
            compressed.withUnsafeMutableBytes { output in
                // zlib does not write to its input.
                stream.next_in = UnsafeMutablePointer(mutating: input.bindMemory(to: UInt8.self).baseAddress)
                stream.avail_in = uInt(input.count)
                stream.next_out = output.bindMemory(to: UInt8.self).baseAddress
                stream.avail_out = uInt(output.count)
                return deflate(&stream, Z_FINISH)
            }
        }
        guard ended == Z_STREAM_END else { return nil }
        return compressed.prefix(Int(stream.total_out))
    }
}
