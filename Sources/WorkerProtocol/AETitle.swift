/// An application entity title (PS3.5 §6.2, VR AE): 1 to 16 characters of the default repertoire, no backslash, no
/// control characters; leading and trailing spaces do not count.
public struct AETitle: Hashable, Sendable, CustomStringConvertible {
    public static let mostCharacters = 16
    public let string: String

    public init?(_ text: some StringProtocol) {
        var bytes = Array(text.utf8)
        while bytes.last == UInt8(ascii: " ") || bytes.last == 0 { bytes.removeLast() }
        while bytes.first == UInt8(ascii: " ") { bytes.removeFirst() }
        guard (1...Self.mostCharacters).contains(bytes.count) else { return nil }
        guard bytes.allSatisfy({ (0x20...0x7e).contains($0) && $0 != UInt8(ascii: "\\") }) else { return nil }
        string = String(decoding: bytes, as: UTF8.self)
    }

    public var description: String { string }
}

extension AETitle: Codable {
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let title = AETitle(text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "not an AE title"))
        }
        self = title
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(string)
    }
}
