internal import CLinux
internal import Foundation

/// A password as the configuration keeps it: scrypt (RFC 7914) in PHC string format,
/// `$scrypt$ln=15,r=8,p=1$salt$hash`, base64 without padding.
public struct PasswordHash: Sendable, Equatable {
    /// Characters; OWASP ASVS 4.0 §2.1.1.
    public static let leastCharacters = 12
    /// More is refused before anything is worked out from it.
    public static let mostBytes = 1024

    /// N = 2^15, r = 8, p = 1: 32 MiB and about 70 ms.
    private static let usual = (logN: 15, r: 8, p: 1)

    var logN: Int
    var r: Int
    var p: Int
    var salt: [UInt8]
    var hash: [UInt8]

    /// - Returns: nil for what is none, or for one that is too weak or too costly to be worked out at each sign-in.
    public init?(_ text: String) {
        let fields = text.split(separator: "$", omittingEmptySubsequences: false).map(String.init)
        guard fields.count == 5, fields[0].isEmpty, fields[1] == "scrypt",
            let salt = Self.decoded(fields[3]), let hash = Self.decoded(fields[4])
        else { return nil }
        let parameters = fields[2].split(separator: ",", omittingEmptySubsequences: false)
        guard parameters.count == 3, let logN = Self.number(parameters[0], "ln="),
            let r = Self.number(parameters[1], "r="), let p = Self.number(parameters[2], "p=")
        else { return nil }
        self.init(logN: logN, r: r, p: p, salt: salt, hash: hash)
    }

    private init?(logN: Int, r: Int, p: Int, salt: [UInt8], hash: [UInt8]) {
        guard (14...17).contains(logN), (8...16).contains(r), (1...4).contains(p), (16...64).contains(salt.count),
            (32...64).contains(hash.count)
        else { return nil }
        (self.logN, self.r, self.p, self.salt, self.hash) = (logN, r, p, salt, hash)
    }

    /// Takes about 70 ms.
    /// - Returns: nil where it cannot be worked out: for want of memory, or by a policy of OpenSSL's.
    public init?(of password: String) {
        (logN, r, p) = Self.usual
        salt = Self.random(16)
        guard let hash = Self.scrypt(password, salt, logN: logN, r: r, p: p, count: 32) else { return nil }
        self.hash = hash
    }

    /// As costly as the others, and no password's: for users that do not exist.
    init(ofNobodyLike others: [PasswordHash]) {
        (logN, r, p) = others.max { $0.cost < $1.cost }.map { ($0.logN, $0.r, $0.p) } ?? Self.usual
        (salt, hash) = (Self.random(16), Self.random(32))
    }

    private static func random(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255) } }

    private var cost: Int { (r * p) << logN }

    public var text: String {
        "$scrypt$ln=\(logN),r=\(r),p=\(p)$\(Self.encoded(salt))$\(Self.encoded(hash))"
    }

    /// Blocks for as long as the parameters want: not on the cooperative pool.
    /// - Returns: nil where it cannot be worked out.
    func matches(_ password: String) -> Bool? {
        guard password.utf8.count <= Self.mostBytes else { return false }
        return Self.scrypt(password, salt, logN: logN, r: r, p: p, count: hash.count).map { Secrets.areEqual($0, hash) }
    }

    static func scrypt(_ password: String, _ salt: [UInt8], logN: Int, r: Int, p: Int, count: Int) -> [UInt8]? {
        var out = [UInt8](repeating: 0, count: count)
        let bytes = Array(password.utf8)
        let status = clinux_scrypt(
            bytes, bytes.count, salt, salt.count, 1 << UInt64(logN), UInt64(r), UInt64(p), &out, count)
        return status == 0 ? out : nil
    }

    private static func number(_ text: Substring, _ name: String) -> Int? {
        guard text.hasPrefix(name) else { return nil }
        let digits = text.dropFirst(name.count)
        guard !digits.isEmpty, digits.allSatisfy({ ("0"..."9").contains($0) }), digits.first != "0" else { return nil }
        return Int(digits)
    }

    private static func encoded(_ bytes: [UInt8]) -> String {
        Data(bytes).base64EncodedString().replacing("=", with: "")
    }

    private static func decoded(_ text: String) -> [UInt8]? {
        guard !text.contains("="),
            let decoded = Data(base64Encoded: text + String(repeating: "=", count: (4 - text.count % 4) % 4))
        else { return nil }
        return Array(decoded)
    }
}
