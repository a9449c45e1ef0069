import CLinux
import Foundation
import WorkerProtocol

@testable import DICOM

#if canImport(Glibc)
import Glibc
#endif

/// An SCU that writes PDUs itself (PS3.8 §9.3), so that tests decide each byte. Blocking, for use on a thread.
final class RawPeer: @unchecked Sendable {
    struct Context {
        var id: UInt8
        var abstractSyntax: String
        var transferSyntaxes: [String]
        init(_ id: UInt8, _ abstractSyntax: String, _ transferSyntaxes: [String]) {
            self.id = id
            self.abstractSyntax = abstractSyntax
            self.transferSyntaxes = transferSyntaxes
        }
    }

    enum PDU {
        static let accept: UInt8 = 2
        static let reject: UInt8 = 3
        static let data: UInt8 = 4
        static let releaseRequest: UInt8 = 5
        static let releaseResponse: UInt8 = 6
        static let abort: UInt8 = 7
    }

    static let ct = "1.2.840.10008.5.1.4.1.1.2"
    static let verification = "1.2.840.10008.1.1"
    static let implicitLittleEndian = "1.2.840.10008.1.2"
    static let explicitLittleEndian = "1.2.840.10008.1.2.1"

    private let socket: Int32
    private var messageID: UInt32 = 0

    init(port: UInt16) throws {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = Listener.loopback(port: port)
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        guard connected else { throw WorkerError(.system, "cannot connect: \(Errno.text)") }
        _ = clinux_tcp_tune(socket)
        var patience = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(socket) }

    // MARK: PDUs

    func send(_ bytes: [UInt8]) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { clinux_send(socket, $0.baseAddress, $0.count, -1) }
            guard count > 0 else { throw WorkerError(.closed, "send: \(Errno.text)") }
            rest = rest.dropFirst(count)
        }
    }

    func send(pdu type: UInt8, _ body: [UInt8]) throws { try send([type, 0] + Self.big(body.count, 4) + body) }

    /// nil when the connection is closed.
    func receive() throws -> (type: UInt8, body: [UInt8])? {
        guard let header = try read(6) else { return nil }
        let length = header[2..<6].reduce(0) { $0 << 8 | Int($1) }
        guard length > 0 else { return (header[0], []) }
        return try read(length).map { (header[0], $0) }
    }

    private func read(_ count: Int) throws -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            let taken = bytes.withUnsafeMutableBytes { recv(socket, $0.baseAddress! + filled, count - filled, 0) }
            if taken < 0, errno == ECONNRESET { return nil }
            guard taken >= 0 else { throw WorkerError(.deadline, "recv: \(Errno.text)") }
            if taken == 0 { return nil }
            filled += taken
        }
        return bytes
    }

    func shutDown() { shutdown(socket, Int32(SHUT_RDWR)) }

    // MARK: Association

    /// - Returns: the answer's PDU type and, where accepted, result and transfer syntax by context.
    func associate(
        called: String = "ICHNODE", calling: String = "PEER", _ contexts: [Context]
    ) throws -> (type: UInt8, body: [UInt8], results: [UInt8: UInt8]) {
        let title = { (text: String) in Array(text.utf8) + [UInt8](repeating: 0x20, count: 16 - text.utf8.count) }
        var body: [UInt8] = [0, 1, 0, 0] + title(called) + title(calling) + [UInt8](repeating: 0, count: 32)
        body += Self.item(0x10, Array("1.2.840.10008.3.1.1.1".utf8))
        for context in contexts {
            let syntaxes = context.transferSyntaxes.flatMap { Self.item(0x40, Array($0.utf8)) }
            body += Self.item(
                0x20, [context.id, 0, 0, 0] + Self.item(0x30, Array(context.abstractSyntax.utf8)) + syntaxes)
        }
        body += Self.item(0x50, Self.item(0x51, Self.big(16384, 4)) + Self.item(0x52, Array("1.2.3.99".utf8)))
        try send(pdu: 1, body)
        guard let (type, answer) = try receive() else { return (0, [], [:]) }
        return (type, answer, type == PDU.accept ? Self.results(answer) : [:])
    }

    private static func results(_ body: [UInt8]) -> [UInt8: UInt8] {
        var results: [UInt8: UInt8] = [:]
        var at = 68
        while at + 4 <= body.count {
            let length = Int(body[at + 2]) << 8 | Int(body[at + 3])
            if body[at] == 0x21, at + 6 < body.count { results[body[at + 4]] = body[at + 6] }
            at += 4 + length
        }
        return results
    }

    func release() throws {
        try send(pdu: PDU.releaseRequest, [0, 0, 0, 0])
        _ = try receive()
    }

    // MARK: DIMSE

    func sendValue(_ context: UInt8, command: Bool, last: Bool, _ bytes: [UInt8]) throws {
        let control: UInt8 = (command ? 1 : 0) | (last ? 2 : 0)
        try send(pdu: PDU.data, Self.big(bytes.count + 2, 4) + [context, control] + bytes)
    }

    /// Sends a C-STORE-RQ and its data set in pieces.
    func sendStore(
        _ context: UInt8 = 1, sopClass: String = RawPeer.ct, sopInstance: String, dataSet: [UInt8], pieces: Int = 16000
    ) throws {
        messageID += 1
        try sendValue(
            context, command: true, last: true,
            Self.command(field: 1, sopClass: sopClass, messageID: messageID, sopInstance: sopInstance))
        var rest = dataSet[...]
        repeat {
            let piece = rest.prefix(pieces)
            rest = rest.dropFirst(piece.count)
            try sendValue(context, command: false, last: rest.isEmpty, Array(piece))
        } while !rest.isEmpty
    }

    /// - Returns: the response, or nil where the association was ended instead.
    func receiveResponse() throws -> CommandSet? {
        guard let (type, body) = try receive(), type == PDU.data, body.count > 6 else { return nil }
        return CommandSet(Array(body[6...]))
    }

    func store(
        _ context: UInt8 = 1, sopClass: String = RawPeer.ct, sopInstance: String, dataSet: [UInt8], pieces: Int = 16000
    ) throws -> CommandSet? {
        try sendStore(context, sopClass: sopClass, sopInstance: sopInstance, dataSet: dataSet, pieces: pieces)
        return try receiveResponse()
    }

    static func command(
        field: UInt32, sopClass: String, messageID: UInt32 = 1, dataSetType: UInt32 = 0, sopInstance: String? = nil
    ) -> [UInt8] {
        var bytes = element(0x0002, text(sopClass))
        bytes += element(0x0100, little(field, 2)) + element(0x0110, little(messageID, 2))
        bytes += element(0x0700, little(0, 2)) + element(0x0800, little(dataSetType, 2))
        if let sopInstance { bytes += element(0x1000, text(sopInstance)) }
        return element(0x0000, little(UInt32(bytes.count), 4)) + bytes
    }

    private static func text(_ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        return bytes.count.isMultiple(of: 2) ? bytes : bytes + [0]
    }

    private static func element(_ element: UInt32, _ value: [UInt8]) -> [UInt8] {
        [0, 0] + little(element, 2) + little(UInt32(value.count), 4) + value
    }

    private static func item(_ type: UInt8, _ body: [UInt8]) -> [UInt8] { [type, 0] + big(body.count, 2) + body }

    static func big(_ number: Int, _ count: Int) -> [UInt8] {
        (0..<count).reversed().map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }

    static func little(_ number: UInt32, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
}

/// Data sets in explicit VR little endian for the peer to send.
enum PeerDataSet {
    static func element(_ group: UInt32, _ element: UInt32, _ representation: String, _ value: [UInt8]) -> [UInt8] {
        let tag = RawPeer.little(group, 2) + RawPeer.little(element, 2) + Array(representation.utf8)
        let isLong = ["OW", "OB", "SQ"].contains(representation)
        let length = UInt32(value.count)
        return tag + (isLong ? [0, 0] + RawPeer.little(length, 4) : RawPeer.little(length, 2)) + value
    }

    static func uid(_ group: UInt32, _ number: UInt32, _ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        return element(group, number, "UI", bytes.count.isMultiple(of: 2) ? bytes : bytes + [0])
    }

    static func short(_ number: UInt32, _ value: UInt32) -> [UInt8] {
        element(0x0028, number, "US", RawPeer.little(value, 2))
    }

    static func code(_ group: UInt32, _ number: UInt32, _ representation: String, _ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        return element(group, number, representation, bytes.count.isMultiple(of: 2) ? bytes : bytes + [0x20])
    }

    static func ct(
        instance: String = "1.2.3.4", study: String = "1.2.3", sopClass: String = RawPeer.ct, insertion: [UInt8] = [],
        pixelBytes: Int = 1000
    ) -> [UInt8] {
        uid(0x0008, 0x0016, sopClass) + uid(0x0008, 0x0018, instance) + code(0x0008, 0x0060, "CS", "CT") + insertion
            + uid(0x0020, 0x000D, study) + uid(0x0020, 0x000E, study + ".1")
            + element(0x7FE0, 0x0010, "OW", [UInt8](repeating: 7, count: pixelBytes))
    }

    /// Sequences of undefined length within sequences.
    static func nested(_ depth: Int) -> [UInt8] {
        let undefined = [UInt8](repeating: 0xFF, count: 4)
        let opening: [UInt8] =
            [0x18, 0, 0x46, 0x93, 0x53, 0x51, 0, 0] + undefined + [0xFE, 0xFF, 0, 0xE0] + undefined
        let closing: [UInt8] = [0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]
        return Array(repeatElement(opening, count: depth).joined())
            + Array(repeatElement(closing, count: depth).joined())
    }
}
