public import Foundation

/// One unit on the wire between the daemon and a child: a typed message, or the bulk bytes that a message announced.
///
/// Wire form: length of what follows (4 bytes, big-endian), kind (1 byte), payload. A descriptor may travel with it.
public enum Frame: Sendable, Equatable {
    case message(Data)
    case bulk(Data)

    /// Bounds on a frame's payload, in bytes. What exceeds them is a protocol violation and ends the channel. No bulk
    /// frame, not even an empty one, is taken where `bulk` is 0.
    public struct Limits: Sendable {
        public var message: Int
        public var bulk: Int
        /// For workers that send messages only.
        public static let messagesOnly = Limits(message: 1 << 20, bulk: 0)

        public init(message: Int = 8 << 20, bulk: Int = 256 << 20) {
            self.message = message
            self.bulk = bulk
        }
    }

    static let headerSize = 5
    private static let messageKind: UInt8 = 1
    private static let bulkKind: UInt8 = 2

    var payload: Data {
        switch self {
        case .message(let payload), .bulk(let payload): payload
        }
    }

    /// The five header bytes.
    func header() -> [UInt8] {
        let length = UInt32(payload.count + 1)
        let kind = if case .message = self { Self.messageKind } else { Self.bulkKind }
        return [UInt8(length >> 24), UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255), kind]
    }

    /// - Returns: payload length and kind.
    /// - Throws: `WorkerError` with code `protocolViolation` on an unknown kind or a length beyond the limits.
    static func parse(header: [UInt8], limits: Limits) throws -> (length: Int, isMessage: Bool) {
        let length = header[0..<4].reduce(0) { $0 << 8 | Int($1) } - 1
        let isMessage = header[4] == messageKind
        guard isMessage || header[4] == bulkKind else {
            throw WorkerError(.protocolViolation, "unknown frame kind \(header[4])")
        }
        guard isMessage || limits.bulk > 0 else {
            throw WorkerError(.protocolViolation, "bulk bytes on a channel of messages")
        }
        guard length >= 0, length <= (isMessage ? limits.message : limits.bulk) else {
            throw WorkerError(.protocolViolation, "frame of \(length) bytes is over the limit")
        }
        return (length, isMessage)
    }
}

/// First message of every child, before any other: a package upgrade replaces binaries under a running daemon.
public struct Hello: Codable, Sendable, Equatable {
    /// Raised with every incompatible change of the messages.
    public static let protocolVersion = 7
    public var protocolVersion: Int
    public var verb: String
    public var processID: Int32
    /// Confinement in force, and what is missing from it.
    public var confinement: Confinement.Report

    public init(verb: String, confinement: Confinement.Report) {
        protocolVersion = Self.protocolVersion
        self.verb = verb
        processID = ProcessInfo.processInfo.processIdentifier
        self.confinement = confinement
    }
}

extension Frame {
    /// The message in the frame.
    /// - Throws: `WorkerError` with code `protocolViolation` on bulk bytes or another message.
    public func message<Message: Decodable>(_ type: Message.Type) throws -> Message {
        guard case .message(let payload) = self else {
            throw WorkerError(.protocolViolation, "bulk bytes where a message was due")
        }
        return try Channel.decode(type, payload)
    }
}
