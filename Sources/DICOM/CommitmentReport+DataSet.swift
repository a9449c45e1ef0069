public import WorkerProtocol

extension CommitmentReport {
    /// Of Event Information. A report on all objects of a delivery has some ten thousand; what is read has to fit into
    /// a message to the daemon.
    public static let mostBytes = 256 << 10
    static let transferSyntaxes: Set<TransferSyntax> = [.implicitLittleEndian, .explicitLittleEndian]

    /// Why a report is not taken.
    public struct Refusal: Error, Equatable {
        public var status: StoreStatus
        public var reason: String
    }

    /// The well-known SOP Instance of the Push Model (PS3.4 §J.3.5).
    private static let sopInstanceUID = "1.2.840.10008.1.20.1.1"
    /// PS3.4 Table J.3-2: all is committed; there are failures. Either way the sequences say what is.
    private static let eventTypeIDs: ClosedRange<UInt16> = 1...2

    /// Reads an N-EVENT-REPORT and its Event Information (PS3.4 §J.3.3.1).
    /// - Parameter dataSet: whole, or longer than `mostBytes`.
    public static func read(
        instance: String, eventTypeID: UInt16?, dataSet: [UInt8], syntax: TransferSyntax
    ) -> Result<CommitmentReport, Refusal> {
        guard instance == sopInstanceUID else {
            return .failure(Refusal(status: .noSuchInstance, reason: "not the instance of the Push Model"))
        }
        guard let eventTypeID, eventTypeIDs.contains(eventTypeID) else {
            return .failure(Refusal(status: .noSuchEventType, reason: "Event Type ID is neither 1 nor 2"))
        }
        guard dataSet.count <= mostBytes, let report = CommitmentReport(dataSet: dataSet, syntax: syntax) else {
            return .failure(Refusal(status: .processingFailure, reason: "Event Information cannot be read"))
        }
        return .success(report)
    }

    /// - Returns: nil where it cannot be read, or names no transaction.
    init?(dataSet: [UInt8], syntax: TransferSyntax) {
        var reader = ReferenceReader(bytes: dataSet, isExplicitVR: syntax.isExplicitVR)
        guard reader.readAll(), let transaction = reader.transaction else { return nil }
        self.init(transactionUID: transaction, committed: reader.committed, failed: reader.failed)
    }
}

/// Walks a data set that is whole, little endian, by a stack of its own: all lengths are the sender's.
private struct ReferenceReader {
    let bytes: [UInt8]
    let isExplicitVR: Bool
    private(set) var transaction: UID?
    private(set) var committed: [UID] = []
    private(set) var failed: [CommitmentReport.Failure] = []

    private struct Level {
        /// Of a sequence; of its items `Tag.item`.
        var tag: Tag
        /// nil for undefined length, which a delimiter ends.
        var end: Int?
    }

    private var stack: [Level] = []
    private var at = 0
    private var isDamaged = false
    private var instance: UID?
    private var reason: UInt16?

    init(bytes: [UInt8], isExplicitVR: Bool) {
        self.bytes = bytes
        self.isExplicitVR = isExplicitVR
    }

    /// - Returns: false where it is damaged.
    mutating func readAll() -> Bool {
        while !isDamaged {
            while !isDamaged, let end = stack.last?.end, at >= end { pop(at == end) }
            if at == bytes.count { return !isDamaged && stack.isEmpty }
            readHeader()
        }
        return false
    }

    private mutating func readHeader() {
        let tag = Tag(UInt16(number(2)), UInt16(number(2)))
        if tag.group == Tag.item.group { return structure(tag, length: number(4)) }
        guard stack.last.map({ $0.tag == .item }) ?? true else { return isDamaged = true }
        var isSequence = tag == .referencedSOPSequence || tag == .failedSOPSequence
        let length: Int
        if isExplicitVR {
            let letters = number(2)
            let representation = ValueRepresentation(UInt8(letters & 0xFF), UInt8(letters >> 8))
            isSequence = representation == .sequence
            if representation.hasLongLength { _ = number(2) }
            length = number(representation.hasLongLength ? 4 : 2)
        } else {
            length = number(4)
        }
        if isSequence || length == Self.undefinedLength { return push(tag, length) }
        value(tag, length)
    }

    private mutating func structure(_ tag: Tag, length: Int) {
        let isWithinItem = stack.last?.tag == .item
        switch tag {
        case .item where !stack.isEmpty && !isWithinItem:
            if stack.count == 1 { (instance, reason) = (nil, nil) }
            push(.item, length)
        case .itemDelimitation: pop(isWithinItem)
        case .sequenceDelimitation: pop(!stack.isEmpty && !isWithinItem)
        default: isDamaged = true
        }
    }

    private mutating func push(_ tag: Tag, _ length: Int) {
        stack.append(Level(tag: tag, end: length == Self.undefinedLength ? nil : at + length))
    }

    private mutating func pop(_ isDue: Bool) {
        guard isDue, let level = stack.popLast() else { return isDamaged = true }
        guard level.tag == .item, stack.count == 1 else { return }
        switch (stack[0].tag, instance) {
        case (.referencedSOPSequence, let uid?): committed.append(uid)
        case (.failedSOPSequence, let uid?): failed.append(.init(sopInstanceUID: uid, reason: reason))
        case (.referencedSOPSequence, nil), (.failedSOPSequence, nil): isDamaged = true
        default: break
        }
    }

    private mutating func value(_ tag: Tag, _ length: Int) {
        guard length <= bytes.count - at else { return isDamaged = true }
        let value = bytes[at..<at + length]
        at += length
        switch (stack.count, tag) {
        case (0, .transactionUID): transaction = UID(String(decoding: value, as: UTF8.self))
        case (2, .referencedSOPInstanceUID): instance = UID(String(decoding: value, as: UTF8.self))
        case (2, .failureReason) where length == 2:
            reason = UInt16(value[value.startIndex]) | UInt16(value[value.startIndex + 1]) << 8
        default: break
        }
    }

    private static let undefinedLength = 0xFFFF_FFFF

    private mutating func number(_ count: Int) -> Int {
        guard count <= bytes.count - at else {
            isDamaged = true
            at = bytes.count
            return 0
        }
        defer { at += count }
        return bytes[at..<at + count].reversed().reduce(0) { $0 << 8 | Int($1) }
    }
}

extension Tag {
    static let referencedSOPInstanceUID = Tag(0x0008, 0x1155)
    static let transactionUID = Tag(0x0008, 0x1195)
    static let failureReason = Tag(0x0008, 0x1197)
    static let failedSOPSequence = Tag(0x0008, 0x1198)
    static let referencedSOPSequence = Tag(0x0008, 0x1199)
}
