/// A DIMSE command set (PS3.7 §6.3.1): implicit VR little endian, no sequences.
public struct CommandSet: Sendable, Equatable {
    /// Kinds of message, Command Field (0000,0100), PS3.7 Annex E.1.
    public enum Operation: Sendable, Equatable {
        case store, echo, cancel
        /// N-EVENT-REPORT
        case eventReport
        /// Another request.
        case other
        /// A response, which an SCP is never due.
        case response
    }

    /// Longest command set that is taken. Real ones have some hundred bytes.
    public static let mostBytes = 64 << 10

    private var values: [UInt16: [UInt8]] = [:]

    private enum Element {
        static let groupLength: UInt16 = 0x0000
        static let affectedSOPClassUID: UInt16 = 0x0002
        static let commandField: UInt16 = 0x0100
        static let messageID: UInt16 = 0x0110
        static let messageIDRespondedTo: UInt16 = 0x0120
        static let dataSetType: UInt16 = 0x0800
        static let status: UInt16 = 0x0900
        static let errorComment: UInt16 = 0x0902
        static let affectedSOPInstanceUID: UInt16 = 0x1000
        static let eventTypeID: UInt16 = 0x1002
    }
    private static let noDataSet: UInt16 = 0x0101
    private static let responseBit: UInt16 = 0x8000
    private static let mostCommentBytes = 64

    /// - Returns: nil where the bytes are no command set.
    public init?(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            guard rest.count >= 8 else { return nil }
            let header = Array(rest.prefix(8))
            let group = UInt16(header[0]) | UInt16(header[1]) << 8
            let element = UInt16(header[2]) | UInt16(header[3]) << 8
            let length = header[4..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
            rest = rest.dropFirst(8)
            guard group == 0, length <= rest.count else { return nil }
            values[element] = Array(rest.prefix(length))
            rest = rest.dropFirst(length)
        }
        guard values[Element.commandField]?.count == 2 else { return nil }
    }

    private init() {}

    public var operation: Operation {
        let field = short(Element.commandField) ?? 0
        return switch field {
        case 0x0001: .store
        case 0x0030: .echo
        case 0x0FFF: .cancel
        case 0x0100: .eventReport
        case _ where field & Self.responseBit != 0: .response
        default: .other
        }
    }

    public var hasDataSet: Bool { short(Element.dataSetType) != Self.noDataSet }
    /// As sent, without padding; empty where absent.
    public var affectedSOPClassUID: String { text(Element.affectedSOPClassUID) }
    public var affectedSOPInstanceUID: String { text(Element.affectedSOPInstanceUID) }
    public var eventTypeID: UInt16? { short(Element.eventTypeID) }
    public var status: UInt16? { short(Element.status) }
    public var errorComment: String { text(Element.errorComment) }

    /// The response to this request (PS3.7 §9.3.1.2, §9.3.5.2, §10.3.1.2): without a data set.
    ///
    /// - Parameter comment: Error Comment; cut to the 64 characters of its VR.
    public func response(_ status: StoreStatus, comment: String = "") -> CommandSet {
        var response = CommandSet()
        // A peer that sent an odd length is answered with an even one (PS3.5 §7.1).
        for element in [Element.affectedSOPClassUID, Element.affectedSOPInstanceUID, Element.eventTypeID] {
            response.values[element] = values[element].map { Self.padded($0, with: 0) }
        }
        response.set(Element.commandField, (short(Element.commandField) ?? 0) | Self.responseBit)
        response.set(Element.messageIDRespondedTo, short(Element.messageID) ?? 0)
        response.set(Element.dataSetType, Self.noDataSet)
        response.set(Element.status, status.code)
        if !comment.isEmpty {
            let allowed = comment.utf8.prefix(Self.mostCommentBytes).map { (0x20..<0x7F).contains($0) ? $0 : 0x3F }
            response.values[Element.errorComment] = Self.padded(allowed, with: UInt8(ascii: " "))
        }
        return response
    }

    /// The bytes, group length first.
    public var encoded: [UInt8] {
        let body = values.keys.sorted().filter { $0 != Element.groupLength }
            .flatMap { Self.element($0, values[$0] ?? []) }
        return Self.element(Element.groupLength, Self.littleEndian(UInt32(body.count))) + body
    }

    private func short(_ element: UInt16) -> UInt16? {
        guard let bytes = values[element], bytes.count == 2 else { return nil }
        return UInt16(bytes[0]) | UInt16(bytes[1]) << 8
    }

    private mutating func set(_ element: UInt16, _ number: UInt16) {
        values[element] = [UInt8(number & 0xFF), UInt8(number >> 8)]
    }

    private func text(_ element: UInt16) -> String {
        var bytes = values[element] ?? []
        while let last = bytes.last, last == 0 || last == UInt8(ascii: " ") { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func element(_ element: UInt16, _ value: [UInt8]) -> [UInt8] {
        [0, 0, UInt8(element & 0xFF), UInt8(element >> 8)] + littleEndian(UInt32(value.count)) + value
    }

    private static func littleEndian(_ number: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }

    private static func padded(_ bytes: [UInt8], with byte: UInt8) -> [UInt8] {
        bytes.count.isMultiple(of: 2) ? bytes : bytes + [byte]
    }
}
