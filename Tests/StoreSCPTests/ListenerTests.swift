import Foundation
import Glibc
import Logging
import Testing
import WorkerProtocol

@testable import StoreSCP

@Suite struct ListenerTests {
    private let admitted = Admitted()
    private let log = LogLines()

    /// The deadline is far beyond the test's patience: only what the listener notices itself ends a connection.
    private func listening(
        deadline: Duration = .seconds(300), most: Int = 64, queueTime: Duration = .seconds(5),
        book: AssociationBook = AssociationBook(),
        _ body: @Sendable @escaping (_ plain: UInt16, _ tls: UInt16) throws -> Void
    ) async throws {
        let rules = AdmissionRules(
            calledAETitles: [AETitle("ICHNODE")!], allowedNetworks: [try #require(NetworkBlock("127.0.0.0/8"))],
            mostAssociations: most, queueTime: queueTime, requestDeadline: deadline)
        var logger = Logger(label: "test")
        logger.handler = log
        let listener = try AssociationListener(
            addresses: ["127.0.0.1"], ports: DICOMPorts(plain: 0, tls: 0), rules: rules, book: book,
            logger: logger, admit: admitted.take)
        let running = listener.start()
        let ports = (UInt16(try #require(listener.ports.plain)), UInt16(try #require(listener.ports.tls)))
        #expect(ports.0 != ports.1)
        try await withCheckedThrowingContinuation { continuation in
            Thread { continuation.resume(with: Result { try body(ports.0, ports.1) }) }.start()
        }
        listener.stop()
        await running.value
    }

    @Test(arguments: [1, 6, 40, 73])
    func aPeerThatStopsSendingWithinItsRequestIsForgotten(bytes: Int) async throws {
        let request = AssociationRequestTests.pdu(called: "ICHNODE", calling: "CT1")
        try await listening { port, _ in
            let peer = try Peer(port: port)
            peer.send(request.prefix(bytes))
            peer.finishSending()
            #expect(peer.isClosed())
        }
        #expect(admitted.count == 0)
    }

    @Test func aPeerThatSendsItsRequestInPiecesIsAdmitted() async throws {
        let request = AssociationRequestTests.pdu(called: "ICHNODE", calling: "CT1")
        let admitted = admitted
        try await listening { port, _ in
            let peer = try Peer(port: port)
            for piece in [request[..<1], request[1..<40], request[40...]] {
                peer.send(piece)
                usleep(20_000)
            }
            for _ in 0..<500 where admitted.count == 0 { usleep(10_000) }
        }
        #expect(admitted.count == 1)
        #expect(admitted.last?.transport == .plain)
        #expect(admitted.last?.callingAETitle == "CT1")
    }

    /// Whoever sets up a sender reads what to change.
    @Test(arguments: [
        ("FOO", "called AE title \"FOO\" is not ours: name ICHNODE at the sender, or add it to node.further_ae_titles"),
        ("ichnode", "called AE title \"ichnode\" is not ours: name ICHNODE at the sender (case counts), or add it to "),
    ])
    func aRefusalSaysWhoCalledAndWhatToChange(called: String, expected: String) async throws {
        let book = AssociationBook()
        let request = AssociationRequestTests.pdu(called: called, calling: "CT1")
        try await listening(book: book) { port, _ in
            let peer = try Peer(port: port)
            peer.send(request[...])
            #expect(peer.receive(10) == [3, 0, 0, 0, 0, 4, 0, 1, 1, 7])
        }
        let refused = try #require(book.overview.refused.first)
        #expect(refused.calledAETitle == called && refused.callingAETitle == "CT1")
        #expect(refused.peerAddress == "127.0.0.1" && !refused.isSecure)
        guard case .refused(let reason) = refused.ending else {
            Issue.record("it was not refused")
            return
        }
        #expect(reason.hasPrefix(expected), "\(reason)")
    }

    // MARK: The TLS port

    /// A record of 200 bytes.
    private static let hello: [UInt8] = [0x16, 3, 1, 0, 200, 1] + [UInt8](repeating: 0, count: 199)

    @Test func aWholeHelloOnTheTLSPortIsAdmitted() async throws {
        let admitted = admitted
        try await listening { _, port in
            let peer = try Peer(port: port)
            for piece in [Self.hello[..<1], Self.hello[1..<5], Self.hello[5..<100], Self.hello[100...]] {
                #expect(admitted.count == 0)
                peer.send(piece)
                usleep(20_000)
            }
            for _ in 0..<500 where admitted.count == 0 { usleep(10_000) }
        }
        #expect(admitted.count == 1)
        #expect(admitted.last?.transport == .tls)
        #expect(admitted.last?.callingAETitle == nil)
    }

    @Test func plainDICOMOnTheTLSPortIsNamedWithThePortToSendTo() async throws {
        let request = AssociationRequestTests.pdu(called: "ICHNODE", calling: "CT1")
        let log = log
        try await listening { plain, port in
            let peer = try Peer(port: port)
            peer.send(request[...])
            #expect(peer.isClosed())
            log.expect("plain DICOM on the TLS port: switch TLS on at the peer, or send to port \(plain)")
        }
        #expect(admitted.count == 0)
    }

    @Test func tlsOnThePlainPortIsNamedWithThePortToSendTo() async throws {
        let log = log
        try await listening { plain, tls in
            let peer = try Peer(port: plain)
            peer.send(Self.hello[...])
            // A-ABORT by the service user (PS3.8 Table 9-10, action AA-1).
            #expect(peer.receive(10) == [7, 0, 0, 0, 0, 4, 0, 0, 0, 0])
            #expect(peer.isClosed())
            log.expect("switch TLS off at the peer, or send to the TLS port (\(tls))")
        }
        #expect(admitted.count == 0)
    }

    @Test(arguments: [
        ("GET / HTTP/1.1\r\n", "HTTP on the TLS port"), ("SSH-2.0-OpenSSH_9.2", "neither TLS nor DICOM"),
        ("\u{16}GARBAGE", "neither TLS nor DICOM"),
    ])
    func whatIsNoTLSOnTheTLSPortIsClosed(text: String, expected: String) async throws {
        let log = log
        try await listening { _, port in
            let peer = try Peer(port: port)
            peer.send(Array(text.utf8)[...])
            #expect(peer.isClosed())
            log.expect(expected)
        }
        #expect(admitted.count == 0)
    }

    @Test(arguments: [0, 1, 5, 100])
    func aHelloThatStallsIsClosedAtTheDeadline(bytes: Int) async throws {
        let log = log
        try await listening(deadline: .milliseconds(200)) { _, port in
            let peer = try Peer(port: port)
            peer.send(Self.hello.prefix(bytes))
            #expect(peer.isClosed())
            log.expect("no complete TLS hello in time")
        }
        #expect(admitted.count == 0)
    }

    @Test func overTheLimitAHelloIsClosedAfterTheQueueTime() async throws {
        let (admitted, log) = (admitted, log)
        try await listening(most: 1, queueTime: .milliseconds(200)) { plain, port in
            let first = try Peer(port: port)
            first.send(Self.hello[...])
            for _ in 0..<500 where admitted.count == 0 { usleep(10_000) }
            let second = try Peer(port: port)
            second.send(Self.hello[...])
            #expect(second.isClosed())
            log.expect("too many associations; closed, since it speaks TLS")
            // Places are those of both ports together: on the plain one the reason is sent.
            let third = try Peer(port: plain)
            third.send(AssociationRequestTests.pdu(called: "ICHNODE", calling: "CT1")[...])
            #expect(third.receive(10) == [3, 0, 0, 0, 0, 4, 0, 2, 3, 2])
        }
        #expect(admitted.count == 1)
    }
}

@Suite struct TLSHelloTests {
    @Test func knowsTheLengthOfARecord() throws {
        #expect(try TLSHello.length([0x16]) == nil)
        #expect(try TLSHello.length([0x16, 3, 1, 0x40]) == nil)
        #expect(try TLSHello.length([0x16, 3, 1, 0x40, 0]) == 5 + 16384)
        #expect(try TLSHello.length([0x16, 3, 3, 0, 1, 1, 2, 3]) == 6)
        for header: [UInt8] in [[0x16, 3, 1, 0x40, 1], [0x16, 3, 1, 0, 0], [0x16, 2, 0, 0, 5], [0x80, 0x2e]] {
            #expect(throws: TLSHello.Problem.notTLS) { try TLSHello.length(header) }
        }
        #expect(throws: TLSHello.Problem.plainDICOM) { try TLSHello.length([1]) }
    }
}

/// Keeps what is logged. `@unchecked Sendable` is safe because what changes is guarded by `lock`.
private final class LogLines: LogHandler, @unchecked Sendable {
    private let lock = NSLock()
    private var lines: [String] = []
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        lock.withLock { lines.append("\(event.message) \(event.metadata ?? [:])") }
    }

    func expect(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) {
        let all = lock.withLock { lines }
        #expect(all.contains { $0.contains(text) }, "\(all)", sourceLocation: sourceLocation)
    }
}

/// Takes connections and closes them. `@unchecked Sendable` is safe because `taken` is guarded by `lock`.
private final class Admitted: @unchecked Sendable {
    private let lock = NSLock()
    private var taken: [AdmittedConnection] = []
    var count: Int { lock.withLock { taken.count } }
    var last: AdmittedConnection? { lock.withLock { taken.last } }
    @Sendable func take(_ connection: AdmittedConnection) {
        close(connection.descriptor)
        lock.withLock { taken.append(connection) }
    }
}

/// A connection to the loopback address.
final class Peer {
    private let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)

    init(port: UInt16) throws {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) { [descriptor] pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        try #require(connected)
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    func send(_ bytes: ArraySlice<UInt8>) {
        _ = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Fewer where the other end closes.
    func receive(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let received = recv(descriptor, &bytes, count, Int32(MSG_WAITALL))
        return Array(bytes.prefix(max(0, received)))
    }

    /// Whether the other end closes or resets within ten seconds.
    func isClosed() -> Bool {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, 0)
        return count == 0 || (count < 0 && errno == ECONNRESET)
    }
}
