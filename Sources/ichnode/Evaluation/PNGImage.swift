import CZlib
import Foundation

/// Writes RGB pixels as a PNG file (W3C PNG, third edition): one IDAT chunk, rows unfiltered.
enum PNGImage {
    /// - Parameter pixels: [row][column][R,G,B], 8 bits a sample.
    static func encode(rows: Int, columns: Int, pixels: [UInt8]) throws -> Data {
        precondition(pixels.count == rows * columns * 3, "pixels of another size")
        var scanlines: [UInt8] = []
        scanlines.reserveCapacity(rows * (columns * 3 + 1))
        for row in 0..<rows {
            // Filter type: none.
            scanlines.append(0)
            scanlines += pixels[(row * columns * 3)..<((row + 1) * columns * 3)]
        }
        // Bit depth 8, colour type 2 (RGB), compression, filter and interlace methods 0.
        let header = bigEndian(UInt32(columns)) + bigEndian(UInt32(rows)) + [8, 2, 0, 0, 0]
        let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
        return Data(signature + chunk("IHDR", header) + chunk("IDAT", try compress(scanlines)) + chunk("IEND", []))
    }

    private static func compress(_ bytes: [UInt8]) throws -> [UInt8] {
        var length = compressBound(uLong(bytes.count))
        var compressed = [UInt8](repeating: 0, count: Int(length))
        let result = compress2(&compressed, &length, bytes, uLong(bytes.count), Z_BEST_COMPRESSION)
        guard result == Z_OK else { throw CommandFailure(.failed, "zlib cannot compress a picture: code \(result)") }
        return Array(compressed.prefix(Int(length)))
    }

    private static func chunk(_ type: String, _ content: [UInt8]) -> [UInt8] {
        let checked = Array(type.utf8) + content
        let checksum = UInt32(crc32(0, checked, uInt(checked.count)))
        return bigEndian(UInt32(content.count)) + checked + bigEndian(checksum)
    }

    private static func bigEndian(_ value: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
    }
}
