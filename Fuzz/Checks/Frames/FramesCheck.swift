import CLinux
import Foundation
@testable import WorkerProtocol

#if canImport(FuzzSupport)
import FuzzSupport
#endif

/// What the daemon and its children say to each other. The first byte chooses what the rest is.
public enum FramesCheck {
    public static func check(_ input: [UInt8]) throws {
        try checkHeader(input)
        guard let kind = input.first else { return }
        let rest = Array(input.dropFirst())
        switch kind {
        case UInt8(ascii: "w"): try checkWire(rest)
        case UInt8(ascii: "m"): try checkMessage(rest)
        default: try checkGenerated(rest)
        }
    }

    // MARK: Frames

    /// A header is taken within the limits only, and says what was written.
    private static func checkHeader(_ input: [UInt8]) throws {
        guard input.count >= Frame.headerSize else { return }
        let limits = Frame.Limits()
        let header = Array(input.prefix(Frame.headerSize))
        guard let (length, isMessage) = try violation({ try Frame.parse(header: header, limits: limits) }) else {
            return
        }
        try require((0...(isMessage ? limits.message : limits.bulk)).contains(length), "length \(length)")
        guard length <= 64 << 10 else { return }
        let payload = Data(count: length)
        let frame = isMessage ? Frame.message(payload) : .bulk(payload)
        try require(frame.header() == header, "\(header) is written as \(frame.header())")
    }

    /// Input: one byte that chooses the limits, then bytes as they arrive on the channel.
    private static func checkWire(_ input: [UInt8]) throws {
        let choices = [
            Frame.Limits(message: 64, bulk: 128), Frame.Limits(message: 4096, bulk: 0),
            Frame.Limits(message: 16 << 10, bulk: 16 << 10),
        ]
        let limits = choices[Int(input.first ?? 0) % choices.count]
        // Within what a socket takes without a reader.
        let wire = Array(input.dropFirst().prefix(32 << 10))
        let (near, far) = try pair(limits)
        let sent = wire.withUnsafeBytes { clinux_send(near.descriptor, $0.baseAddress, $0.count, -1) }
        try require(wire.isEmpty || sent == wire.count, "the socket took \(sent) bytes")
        near.close()

        var expected = SlowFrames(wire, limits)
        while true {
            let slow = expected.next()
            let received = try outcome { try far.receive()?.frame }
            try require(received == slow, "received \(received), expected \(slow)")
            guard case .frame = received else { return }
        }
    }

    enum Outcome: Equatable {
        case frame(Frame)
        case end
        case failure(String)
    }

    private static func outcome(_ body: () throws -> Frame?) throws -> Outcome {
        do { return try body().map(Outcome.frame) ?? .end } catch let error as WorkerError {
            return .failure(error.code.rawValue)
        }
    }

    static func pair(_ limits: Frame.Limits) throws -> (near: Channel, far: Channel) {
        var sockets: [Int32] = [-1, -1]
        try require(clinux_socket_pair(&sockets) == 0, "no socket pair")
        return (
            Channel(takingOwnershipOf: sockets[0], limits: limits),
            Channel(takingOwnershipOf: sockets[1], limits: limits)
        )
    }

    // MARK: Messages

    /// Types of `make_corpus.py`, in this order.
    private static let messages: [@Sendable (Data) throws -> Void] = [
        checkMessage(ReceiveRequest.self), checkMessage(ReceiveEvent.self), checkMessage(DecodeRequest.self),
        checkMessage(DecodeEvent.self), checkMessage(ComposeRequest.self), checkMessage(ComposeEvent.self),
        checkMessage(SendRequest.self), checkMessage(SendEvent.self), checkMessage(InferRequest.self),
        checkMessage(InferEvent.self), checkMessage(Hello.self), checkMessage(CertificateReport.self),
        checkMessage(TemplateRequest.self), checkMessage(TemplateReply.self),
    ]

    /// Input: one byte that chooses the type, then JSON.
    private static func checkMessage(_ input: [UInt8]) throws {
        try messages[Int(input.first ?? 0) % messages.count](Data(input.dropFirst()))
    }

    /// What is taken can be said again, and is then the same.
    private static func checkMessage<Message: Codable>(_ type: Message.Type) -> @Sendable (Data) throws -> Void {
        { json in
            guard let message = try violation({ try Frame.message(json).message(type) }) else { return }
            let once = try encoded(message)
            let twice = try encoded(try Frame.message(once).message(type))
            try require(once == twice, "\(text(once)), then \(text(twice))")
        }
    }

    /// Input: one byte that chooses the message, then what its values are made of.
    private static func checkGenerated(_ input: [UInt8]) throws {
        var source = ByteSource(input)
        switch source.below(8) {
        case 0: try checkRoundTrip(ReceiveRequest.generated(&source))
        case 1: try checkRoundTrip(ReceiveEvent.generated(&source))
        case 2: try checkRoundTrip(DecodeEvent.generated(&source))
        case 3: try checkRoundTrip(ComposeRequest.generated(&source))
        case 4: try checkRoundTrip(SendRequest.generated(&source))
        case 5: try checkRoundTrip(SendEvent.generated(&source))
        case 6: try checkRoundTrip(InferEvent.generated(&source))
        default:
            // Bulk bytes come as they are.
            let bulk = Data(source.remainder())
            try require(try sent(.bulk(bulk)) == .bulk(bulk), "bulk bytes changed")
        }
    }

    private static func checkRoundTrip<Message: Codable>(_ message: Message) throws {
        let expected = try encoded(message)
        guard let received = try sent(.message(try JSONEncoder().encode(message))) else {
            throw Violation("nothing was received")
        }
        let actual = try encoded(try received.message(Message.self))
        try require(actual == expected, "\(text(expected)) arrived as \(text(actual))")
    }

    private static func sent(_ frame: Frame) throws -> Frame? {
        let (near, far) = try pair(.init())
        try near.send(frame)
        near.close()
        return try far.receive()?.frame
    }

    private static func encoded(_ message: some Encodable) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return try encoder.encode(message)
    }

    private static func text(_ json: Data) -> String { String(decoding: json, as: UTF8.self) }

    /// nil where `body` finds a violation of the protocol, the one thing that it may find.
    private static func violation<R>(_ body: () throws -> R) throws -> R? {
        do { return try body() } catch let error as WorkerError {
            try require(error.code == .protocolViolation, "\(error)")
            return nil
        }
    }
}

/// The frames in a stretch of bytes, one after another.
private struct SlowFrames {
    private var rest: [UInt8]
    private let limits: Frame.Limits

    init(_ bytes: [UInt8], _ limits: Frame.Limits) {
        rest = bytes
        self.limits = limits
    }

    mutating func next() -> FramesCheck.Outcome {
        if rest.isEmpty { return .end }
        let closed = FramesCheck.Outcome.failure("closed")
        if rest.count < 5 { return closed }
        let length = Int(rest[0]) << 24 + Int(rest[1]) << 16 + Int(rest[2]) << 8 + Int(rest[3])
        let limit = [1: limits.message, 2: limits.bulk == 0 ? -1 : limits.bulk][Int(rest[4])] ?? -1
        guard length >= 1, length - 1 <= limit else { return .failure("protocol violation") }
        guard rest.count >= 4 + length else { return closed }
        let payload = Data(rest[5..<4 + length])
        let isMessage = rest[4] == 1
        rest.removeFirst(4 + length)
        return .frame(isMessage ? .message(payload) : .bulk(payload))
    }
}
