internal import Foundation
internal import WorkerProtocol

extension SHA256Digest {
    /// Of a file's bytes, read in pieces of 1 MiB. Lower-case hexadecimal.
    static func hex(ofFile path: String) throws -> String {
        let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
        defer { try? file.close() }
        let digest = SHA256Digest()
        while let piece = try file.read(upToCount: 1 << 20), !piece.isEmpty { piece.withUnsafeBytes(digest.update) }
        return digest.finish()
    }
}
