internal import Foundation

/// The fixed part of an A-ASSOCIATE-RQ PDU (PS3.8 §9.3.2), and what it is for.
public struct AssociationRequest: Equatable, Sendable {
    public static let headerBytes = 6
    /// PDU header, protocol version, two AE titles and 32 reserved bytes.
    public static let fixedBytes = 74
    public static let mostBytes = 65_536
    private static let type: UInt8 = 0x01
    private static let titleLength = 16
    private static let calledOffset = 10
    private static let callingOffset = 26

    /// As sent, padding removed; not necessarily valid titles.
    public var calledAETitle: String
    public var callingAETitle: String
    public var protocolVersion: Int
    /// Whether an abstract syntax is proposed that needs room on the disk. True where the rest of the PDU cannot be
    /// followed.
    public var proposesStorage: Bool

    public enum Problem: Error, Equatable {
        /// Text says what the first bytes look like.
        case notDICOM(String)
        case tooLong(Int)
        case tooShort(Int)

        /// For the log.
        public var text: String {
            switch self {
            case .notDICOM(let text): text
            case .tooLong(let bytes): "an association request of \(bytes) bytes is over the limit"
            case .tooShort(let bytes): "an association request of \(bytes) bytes is too short"
            }
        }
    }

    /// Bytes of the whole PDU, from its header.
    public static func length(header: some Collection<UInt8>) throws(Problem) -> Int {
        let bytes = Array(header.prefix(headerBytes))
        guard bytes.count == headerBytes, bytes[0] == type else { throw .notDICOM(Self.guess(bytes)) }
        let length = headerBytes + bytes[2..<6].reduce(0) { $0 << 8 | Int($1) }
        guard length <= mostBytes else { throw .tooLong(length) }
        guard length >= fixedBytes else { throw .tooShort(length) }
        return length
    }

    /// - Parameter pdu: the whole; at least the fixed part.
    public init(pdu: [UInt8]) throws(Problem) {
        guard pdu.count >= Self.fixedBytes else { throw .tooShort(pdu.count) }
        protocolVersion = Int(pdu[6]) << 8 | Int(pdu[7])
        calledAETitle = Self.title(pdu[Self.calledOffset..<Self.calledOffset + Self.titleLength])
        callingAETitle = Self.title(pdu[Self.callingOffset..<Self.callingOffset + Self.titleLength])
        let proposed = Self.abstractSyntaxes(pdu[Self.fixedBytes...])
        proposesStorage = proposed.map { !Self.withoutStorage.isSuperset(of: $0) } ?? true
    }

    /// Verification (PS3.4 Annex A) and Storage Commitment Push Model (PS3.4 Annex J).
    private static let withoutStorage: Set = ["1.2.840.10008.1.1", "1.2.840.10008.1.20.1"]
    private static let presentationContextItem: UInt8 = 0x20
    private static let abstractSyntaxItem: UInt8 = 0x30
    /// Context ID and three reserved bytes, before the sub-items (PS3.8 §9.3.2.2).
    private static let contextFieldBytes = 4

    /// Of all presentation contexts; nil where lengths do not fit.
    private static func abstractSyntaxes(_ variableItems: ArraySlice<UInt8>) -> Set<String>? {
        guard let items = items(variableItems) else { return nil }
        var found: Set<String> = []
        for item in items where item.type == presentationContextItem {
            guard item.value.count >= contextFieldBytes, let parts = Self.items(item.value.dropFirst(contextFieldBytes))
            else { return nil }
            for part in parts where part.type == abstractSyntaxItem {
                let text = String(decoding: part.value, as: UTF8.self)
                found.insert(text.trimmingCharacters(in: ["\0", " "]))
            }
        }
        return found
    }

    /// Type, reserved byte, length in two bytes, value; nil where lengths do not fit.
    private static func items(_ bytes: ArraySlice<UInt8>) -> [(type: UInt8, value: ArraySlice<UInt8>)]? {
        var (rest, found) = (bytes, [(type: UInt8, value: ArraySlice<UInt8>)]())
        while !rest.isEmpty {
            guard rest.count >= 4 else { return nil }
            let at = rest.startIndex
            let length = Int(rest[at + 2]) << 8 | Int(rest[at + 3])
            guard rest.count >= 4 + length else { return nil }
            found.append((rest[at], rest[(at + 4)..<(at + 4 + length)]))
            rest = rest[(at + 4 + length)...]
        }
        return found
    }

    private static func title(_ bytes: ArraySlice<UInt8>) -> String {
        AETitle(String(decoding: bytes, as: UTF8.self))?.string ?? ""
    }

    private static func guess(_ bytes: [UInt8]) -> String {
        switch bytes.first ?? 0 {
        case 0x16: "a TLS hello on the plain DICOM port: switch TLS off at the peer, or send to the TLS port"
        case 0x47, 0x50, 0x48: "HTTP on the DICOM port: the console has a port of its own"
        case 0x02...0x07: "a DICOM PDU other than A-ASSOCIATE-RQ"
        default: "not DICOM"
        }
    }
}

/// A-ASSOCIATE-RJ (PS3.8 §9.3.4): result, source and reason.
public struct Rejection: Equatable, Sendable {
    public var result: UInt8
    public var source: UInt8
    public var reason: UInt8
    /// For the log.
    public var text: String

    public static func calledAETitle(_ title: String) -> Rejection {
        Rejection(result: 1, source: 1, reason: 7, text: "called AE title \"\(title)\" is not ours")
    }
    public static func callingAETitle(_ title: String) -> Rejection {
        Rejection(result: 1, source: 1, reason: 3, text: "calling AE title \"\(title)\" is not allowed")
    }
    public static let noReason = Rejection(
        result: 1, source: 1, reason: 1, text: "the association request is damaged")
    public static let applicationContext = Rejection(
        result: 1, source: 1, reason: 2, text: "application context name not supported")
    public static let protocolVersion = Rejection(
        result: 1, source: 2, reason: 2, text: "protocol version 1 is not offered")
    public static let full = Rejection(result: 2, source: 3, reason: 2, text: "too many associations")
    public static let diskFull = Rejection(result: 2, source: 3, reason: 1, text: "the disk is nearly full")
    public static let stopping = Rejection(result: 2, source: 3, reason: 1, text: "the node is stopping")

    /// All that the node answers with.
    public static let all: [Rejection] = [
        .calledAETitle("…"), .callingAETitle("…"), .protocolVersion, .applicationContext, .noReason, .full, .diskFull,
        .stopping,
    ]

    /// PS3.8 Table 9-21.
    public var name: String {
        switch (source, reason) {
        case (1, 2): "application context name not supported"
        case (1, 3): "calling AE title not recognized"
        case (1, 7): "called AE title not recognized"
        case (2, 2): "protocol version not supported"
        case (3, 1): "temporary congestion"
        case (3, 2): "local limit exceeded"
        default: "no reason given"
        }
    }

    /// The ten bytes on the wire.
    public var pdu: [UInt8] { [0x03, 0, 0, 0, 0, 4, 0, result, source, reason] }
}

/// A-ABORT (PS3.8 §9.3.8) in answer to what is no association request (Table 9-10, action AA-1).
public enum AssociationAbort {
    public static let type: UInt8 = 0x07
    /// The ten bytes on the wire: source is the service user, no reason.
    public static let pdu: [UInt8] = [type, 0, 0, 0, 0, 4, 0, 0, 0, 0]
}

/// Who may open an association. Checked before DCMTK sees a byte: by the daemon, or within TLS by the worker.
public struct AssociationRules: Codable, Sendable, Equatable {
    /// AE titles that we answer to.
    public var calledAETitles: [AETitle]
    /// AE titles that may call; empty: any.
    public var callingAETitles: [AETitle]

    public init(calledAETitles: [AETitle], callingAETitles: [AETitle] = []) {
        self.calledAETitles = calledAETitles
        self.callingAETitles = callingAETitles
    }

    /// - Parameter hasRoom: whether there is room to store anything.
    /// - Returns: nil where the request may have an association.
    public func rejection(of request: AssociationRequest, hasRoom: @autoclosure () -> Bool) -> Rejection? {
        guard request.protocolVersion & 1 == 1 else { return .protocolVersion }
        guard let called = AETitle(request.calledAETitle), calledAETitles.contains(called) else {
            return .calledAETitle(request.calledAETitle)
        }
        guard let calling = AETitle(request.callingAETitle),
            callingAETitles.isEmpty || callingAETitles.contains(calling)
        else { return .callingAETitle(request.callingAETitle) }
        if request.proposesStorage && !hasRoom() { return .diskFull }
        return nil
    }

    /// The text, and what to change, for whoever sets up the sender.
    public func advised(_ rejection: Rejection, on request: AssociationRequest) -> String {
        "\(rejection.text)\(advice(on: rejection, request).map { ": \($0)" } ?? "")"
    }

    private func advice(on rejection: Rejection, _ request: AssociationRequest) -> String? {
        switch rejection {
        case .calledAETitle(request.calledAETitle):
            let near = calledAETitles.first { $0.string.lowercased() == request.calledAETitle.lowercased() }
            let title = (near ?? calledAETitles.first)?.string ?? ""
            return "name \(title) at the sender\(near == nil ? "" : " (case counts)"), "
                + "or add it to node.further_ae_titles"
        case .callingAETitle(request.callingAETitle): return "add it to dicom.allowed_calling_ae_titles"
        case .full: return "the sender tries again; where it recurs, raise dicom.most_associations or _per_peer"
        default: return nil
        }
    }
}
