public import Foundation
internal import WorkerProtocol

/// What shows a receiver that a request is the node's, unchanged and of now: HMAC-SHA256 (RFC 2104) over the moment of
/// the attempt, a full stop and the body.
public enum WebhookSignature {
    public static let header = "ICHNode-Signature"

    /// - Returns: the header's value, `t=` seconds since 1970, `v1=` lower-case hexadecimal.
    public static func value(body: Data, secret: Data, at moment: Date) -> String {
        let time = String(Int64(moment.timeIntervalSince1970))
        let digest = HMACSHA256.bytes(of: Data("\(time).".utf8) + body, key: secret)
        return "t=\(time),v1=\(digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined())"
    }
}

/// RFC 2104 over FIPS 180-4.
enum HMACSHA256 {
    private static let blockBytes = 64

    static func bytes(of message: Data, key: Data) -> [UInt8] {
        var block = key.count > blockBytes ? sha256([key]) : Array(key)
        block += [UInt8](repeating: 0, count: blockBytes - block.count)
        let inner = sha256([Data(block.map { $0 ^ 0x36 }), message])
        return sha256([Data(block.map { $0 ^ 0x5c }), Data(inner)])
    }

    private static func sha256(_ parts: [Data]) -> [UInt8] {
        let digest = SHA256Digest()
        for part in parts { part.withUnsafeBytes(digest.update) }
        return digest.finishBytes()
    }
}
