/// A DICOM unique identifier (PS3.5 §9): digits and full stops, at most 64 characters.
///
/// A value of this type is safe as a file name: it starts with a digit and holds nothing but digits and single full
/// stops. Components with leading zeros, which the standard forbids and scanners send, are accepted.
public struct UID: Hashable, Sendable, Comparable, CustomStringConvertible {
    public static let mostCharacters = 64
    public let string: String

    /// - Parameter text: as it stands in a data set; trailing NUL and space padding is removed (PS3.5 §9.1).
    /// - Returns: nil where what remains is empty, too long, or holds another character.
    public init?(_ text: some StringProtocol) {
        var bytes = Array(text.utf8)
        while let last = bytes.last, last == 0 || last == UInt8(ascii: " ") { bytes.removeLast() }
        guard (1...Self.mostCharacters).contains(bytes.count) else { return nil }
        var previousIsDigit = false
        for byte in bytes {
            let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            guard isDigit || (byte == UInt8(ascii: ".") && previousIsDigit) else { return nil }
            previousIsDigit = isDigit
        }
        guard previousIsDigit else { return nil }
        string = String(decoding: bytes, as: UTF8.self)
    }

    /// For UIDs written in the source. Traps on what is not a UID.
    public init(literal text: StaticString) {
        guard let uid = UID(text.description) else { preconditionFailure("not a UID: \(text)") }
        self = uid
    }

    /// "2.25." and a UUID as one integer (PS3.5 §B.2); the UUID is name-based, version 8 (RFC 9562 §5.8) over SHA-256.
    public init(derivedFrom name: [String]) {
        var bytes = Array(SHA256Digest.bytes(of: name).prefix(16))
        bytes[6] = bytes[6] & 0x0f | 0x80
        bytes[8] = bytes[8] & 0x3f | 0x80
        self.init(uuid: bytes)
    }

    /// "2.25." and a random UUID, version 4: nobody guesses it.
    public static func random() -> UID {
        var bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
        bytes[6] = bytes[6] & 0x0f | 0x40
        bytes[8] = bytes[8] & 0x3f | 0x80
        return UID(uuid: bytes)
    }

    private init(uuid bytes: [UInt8]) {
        string = "2.25.\(bytes.reduce(UInt128(0)) { $0 << 8 | UInt128($1) })"
    }

    public var description: String { string }
    public static func < (left: UID, right: UID) -> Bool { left.string < right.string }
}

extension UID: Codable {
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let uid = UID(text) else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "not a UID"))
        }
        self = uid
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(string)
    }
}
