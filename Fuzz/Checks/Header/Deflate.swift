import CZlib

/// Raw deflate streams (RFC 1951), all at once.
enum Deflate {
    /// Blocks that hold the bytes as they are (§3.2.4), of the sizes given in turn.
    static func stored(_ bytes: [UInt8], pieces: [UInt8]) -> [UInt8] {
        var rest = bytes[...]
        var stream: [UInt8] = []
        var turn = 0
        repeat {
            let size = pieces.isEmpty ? 0 : Int(pieces[turn % pieces.count])
            let block = rest.prefix(size == 0 ? 0xFFFF : size)
            rest = rest.dropFirst(block.count)
            let length = UInt16(block.count)
            stream.append(rest.isEmpty ? 1 : 0)
            stream += [UInt8(length & 0xFF), UInt8(length >> 8), UInt8(~length & 0xFF), UInt8(~length >> 8)]
            stream += block
            turn += 1
        } while !rest.isEmpty
        return stream
    }

    /// What the stream inflates to, up to its end or where it is corrupt.
    static func inflated(_ bytes: [UInt8]) -> (bytes: [UInt8], isSound: Bool) {
        var stream = z_stream()
        guard inflateInit2_(&stream, -MAX_WBITS, ZLIB_VERSION, CInt(MemoryLayout<z_stream>.size)) == Z_OK else {
            return ([], false)
        }
        defer { inflateEnd(&stream) }
        var all: [UInt8] = []
        var input = bytes
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var result = Z_OK
        input.withUnsafeMutableBufferPointer { input in
            stream.next_in = input.baseAddress
            stream.avail_in = UInt32(input.count)
            repeat {
                let written = buffer.withUnsafeMutableBufferPointer { output in
                    stream.next_out = output.baseAddress
                    stream.avail_out = UInt32(output.count)
                    result = inflate(&stream, Z_NO_FLUSH)
                    return output.count - Int(stream.avail_out)
                }
                all += buffer[..<written]
                if written == 0 { break }
            } while result == Z_OK
        }
        return (all, result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR)
    }
}
