internal import CLinux
internal import Foundation
internal import WorkerProtocol

/// Random values and comparisons whose duration tells nothing.
enum Secrets {
    /// 256 bits, base64url (RFC 4648 §5).
    static func random() -> String {
        var generator = SystemRandomNumberGenerator()
        let words = (0..<4).map { _ in generator.next() as UInt64 }
        return words.withUnsafeBytes { Data($0) }.base64EncodedString()
            .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    static func areEqual(_ one: String, _ other: String) -> Bool { areEqual(Array(one.utf8), Array(other.utf8)) }

    /// Only lengths may show.
    static func areEqual(_ one: [UInt8], _ other: [UInt8]) -> Bool {
        one.count == other.count && clinux_equal(one, other, one.count) != 0
    }
}

/// A token of programs: `Authorization: Bearer …`. 256 random bits need no slow hash.
public enum APIToken {
    public static func draw() -> String { "ichnode_" + Secrets.random() }

    /// As the configuration keeps it.
    public static func digest(of token: String) -> String { SHA256Digest.hex(of: Data(token.utf8)) }
}
