public import WorkerProtocol

/// File meta information (PS3.10 §7.1): what a file of ours says before its data set.
public struct FileMeta: Sendable, Equatable {
    public var sopClassUID: UID
    public var sopInstanceUID: UID
    public var transferSyntaxUID: UID
    /// (0002,0016): the AE title that sent the object.
    public var sourceAETitle: AETitle?
    /// (0002,0018): the AE title it was sent to.
    public var receivingAETitle: AETitle?

    /// Longest preamble and meta header that is read.
    public static let mostBytes = 16 << 10

    private static let preamble = 128
    private static let prefix = Array("DICM".utf8)
    private static let longHeader = 12
    private static let shortHeader = 8

    public init(
        sopClassUID: UID, sopInstanceUID: UID, transferSyntaxUID: UID, sourceAETitle: AETitle? = nil,
        receivingAETitle: AETitle? = nil
    ) {
        self.sopClassUID = sopClassUID
        self.sopInstanceUID = sopInstanceUID
        self.transferSyntaxUID = transferSyntaxUID
        self.sourceAETitle = sourceAETitle
        self.receivingAETitle = receivingAETitle
    }

    /// Preamble, prefix and group 0002.
    public var encoded: [UInt8] {
        var group = Self.element(0x0001, "OB", [0, 1])
        group += Self.element(0x0002, "UI", sopClassUID.string)
        group += Self.element(0x0003, "UI", sopInstanceUID.string)
        group += Self.element(0x0010, "UI", transferSyntaxUID.string)
        group += Self.element(0x0012, "UI", Implementation.classUID.string)
        group += Self.element(0x0013, "SH", Implementation.versionName)
        if let sourceAETitle { group += Self.element(0x0016, "AE", sourceAETitle.string) }
        if let receivingAETitle { group += Self.element(0x0018, "AE", receivingAETitle.string) }
        let length = (0..<4).map { UInt8(truncatingIfNeeded: group.count >> (8 * $0)) }
        return [UInt8](repeating: 0, count: Self.preamble) + Self.prefix + Self.element(0x0000, "UL", length) + group
    }

    /// Reads the beginning of a file.
    /// - Returns: the meta information and where the data set begins; nil where it is no such file, or the meta
    ///   information is longer than `mostBytes`.
    public static func read(_ bytes: [UInt8]) -> (meta: FileMeta, dataSetOffset: Int)? {
        let bytes = bytes.prefix(mostBytes)
        guard bytes.count > preamble + prefix.count, Array(bytes[preamble..<preamble + prefix.count]) == prefix else {
            return nil
        }
        var at = preamble + prefix.count
        var values: [UInt16: [UInt8]] = [:]
        while let next = element(in: bytes, at: at) {
            values[next.number] = next.value
            at = next.end
        }
        let uid = { (element: UInt16) in UID(String(decoding: values[element] ?? [], as: UTF8.self)) }
        let title = { (element: UInt16) in AETitle(String(decoding: values[element] ?? [], as: UTF8.self)) }
        // Where reading stopped, something other than group 0002 begins, or nothing.
        let endsSoundly = at + 2 > bytes.count ? at == bytes.count : !(bytes[at] == 2 && bytes[at + 1] == 0)
        guard endsSoundly, let sopClass = uid(0x0002), let instance = uid(0x0003), let syntax = uid(0x0010) else {
            return nil
        }
        let meta = FileMeta(
            sopClassUID: sopClass, sopInstanceUID: instance, transferSyntaxUID: syntax, sourceAETitle: title(0x0016),
            receivingAETitle: title(0x0018))
        return (meta, at)
    }

    private static func element(in bytes: ArraySlice<UInt8>, at: Int) -> (number: UInt16, value: [UInt8], end: Int)? {
        guard at + shortHeader <= bytes.count, bytes[at] == 2, bytes[at + 1] == 0 else { return nil }
        let number = UInt16(bytes[at + 2]) | UInt16(bytes[at + 3]) << 8
        let isLong = ValueRepresentation(bytes[at + 4], bytes[at + 5]).hasLongLength
        let start = at + (isLong ? longHeader : shortHeader)
        guard start <= bytes.count else { return nil }
        let lengthBytes = isLong ? bytes[at + 8..<at + 12] : bytes[at + 6..<at + 8]
        let length = lengthBytes.reversed().reduce(0) { $0 << 8 | Int($1) }
        guard length <= bytes.count - start else { return nil }
        return (number, Array(bytes[start..<start + length]), start + length)
    }

    private static func element(_ number: UInt16, _ representation: String, _ text: String) -> [UInt8] {
        var value = Array(text.utf8)
        // PS3.5 §6.2: UI is padded with NUL, the others with space.
        if !value.count.isMultiple(of: 2) { value.append(representation == "UI" ? 0 : UInt8(ascii: " ")) }
        return element(number, representation, value)
    }

    private static func element(_ number: UInt16, _ representation: String, _ value: [UInt8]) -> [UInt8] {
        let tag: [UInt8] = [2, 0, UInt8(number & 0xFF), UInt8(number >> 8)] + Array(representation.utf8)
        let length = UInt32(value.count)
        guard representation == "OB" else {
            return tag + [UInt8(truncatingIfNeeded: length), UInt8(truncatingIfNeeded: length >> 8)] + value
        }
        return tag + [0, 0] + (0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + value
    }
}
