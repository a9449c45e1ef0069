/// Attributes of a data set's top level, as bytes, with conversions.
public struct HeaderValues: Sendable {
    let values: [Tag: [UInt8]]
    let isBigEndian: Bool

    /// Text in the data set's Specific Character Set, without padding; nil where absent or empty.
    func text(_ tag: Tag) -> String? {
        guard let bytes = values[tag].map(Self.trimmed), !bytes.isEmpty else { return nil }
        return characterSet.decode(bytes)
    }

    /// Characters of the default repertoire (CS, DA, TM, DT, IS, DS, UI).
    func code(_ tag: Tag) -> String? {
        guard let bytes = values[tag].map(Self.trimmed), !bytes.isEmpty else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    func codes(_ tag: Tag) -> [String] {
        guard let bytes = values[tag].map(Self.trimmed), !bytes.isEmpty else { return [] }
        return bytes.split(separator: UInt8(ascii: "\\"), omittingEmptySubsequences: false)
            .map { String(decoding: Self.trimmed(Array($0)), as: UTF8.self) }
    }

    /// Integer String; nil where it is no integer from -2^31 to 2^31 - 1 (PS3.5 6.2).
    func integer(_ tag: Tag) -> Int? {
        codes(tag).first.flatMap { Int32($0.hasPrefix("+") ? String($0.dropFirst()) : $0) }.map(Int.init)
    }

    /// Decimal Strings, finite; nil where absent, another count, or one is no number.
    func decimals(_ tag: Tag, count: Int) -> [Double]? {
        let numbers = codes(tag).compactMap(Self.decimal)
        return numbers.count == count && codes(tag).count == count ? numbers : nil
    }

    /// The first of a Decimal String's values.
    func decimal(_ tag: Tag) -> Double? { codes(tag).first.flatMap(Self.decimal) }

    /// Unsigned short (US), in the data set's byte order.
    func unsignedShort(_ tag: Tag) -> Int? { number(tag, bytes: 2) }

    /// Unsigned long (UL), in the data set's byte order.
    func unsignedLong(_ tag: Tag) -> Int? { number(tag, bytes: 4) }

    private func number(_ tag: Tag, bytes count: Int) -> Int? {
        guard let bytes = values[tag]?.prefix(count), bytes.count == count else { return nil }
        return (isBigEndian ? Array(bytes) : bytes.reversed()).reduce(0) { $0 << 8 | Int($1) }
    }

    private var characterSet: CharacterSet {
        CharacterSet(definedTerm: codes(.specificCharacterSet).first ?? "")
    }

    private static func decimal(_ text: String) -> Double? {
        // Decimal points as commas are seen from some scanners.
        Double(text.contains(",") ? text.replacing(",", with: ".") : text).flatMap { $0.isFinite ? $0 : nil }
    }

    private static func trimmed(_ bytes: [UInt8]) -> [UInt8] {
        let isPadding = { (byte: UInt8) in byte == 0 || byte == UInt8(ascii: " ") }
        guard let first = bytes.firstIndex(where: { !isPadding($0) }),
            let last = bytes.lastIndex(where: { !isPadding($0) })
        else { return [] }
        return Array(bytes[first...last])
    }
}

/// Character sets that are converted here (PS3.3 C.12.1.1.2); others are kept as far as they are UTF-8 or ASCII.
enum CharacterSet {
    case latin1
    case utf8

    init(definedTerm: String) {
        switch definedTerm {
        case "ISO_IR 100", "ISO 2022 IR 100": self = .latin1
        default: self = .utf8
        }
    }

    func decode(_ bytes: [UInt8]) -> String {
        switch self {
        // Nearly all of it is ASCII, which is UTF-8 as it stands.
        case .latin1 where bytes.contains { $0 > 0x7F }:
            String(String.UnicodeScalarView(bytes.map { Unicode.Scalar($0) }))
        case .latin1, .utf8: String(decoding: bytes, as: UTF8.self)
        }
    }
}
