internal import CLinux
public import Foundation

/// SHA-256 (FIPS 180-4) of what is fed to it.
public final class SHA256Digest {
    private var digest: OpaquePointer?

    public init() {
        digest = clinux_sha256_new()
        precondition(digest != nil, "OpenSSL offers no SHA-256")
    }

    deinit {
        if digest != nil { _ = finish() }
    }

    public func update(_ bytes: UnsafeRawBufferPointer) { clinux_sha256_update(digest, bytes.baseAddress, bytes.count) }

    /// Lower-case hexadecimal. Nothing can be added afterwards.
    public func finish() -> String { finishBytes().map { byte in Self.hex(byte) }.joined() }

    /// The 32 bytes. Nothing can be added afterwards.
    public func finishBytes() -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 32)
        clinux_sha256_finish(digest, &out)
        digest = nil
        return out
    }

    public static func hex(of data: Data) -> String {
        let digest = SHA256Digest()
        data.withUnsafeBytes(digest.update)
        return digest.finish()
    }

    /// Of strings, each ended by a NUL, so that no two lists give the same bytes.
    public static func bytes(of parts: [String]) -> [UInt8] {
        let digest = SHA256Digest()
        for part in parts { (Array(part.utf8) + [0]).withUnsafeBytes(digest.update) }
        return digest.finishBytes()
    }

    public static func hex(of parts: [String]) -> String { bytes(of: parts).map(hex).joined() }

    private static func hex(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }
}
