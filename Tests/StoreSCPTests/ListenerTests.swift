import Foundation
import Glibc
import Logging
import Testing
import WorkerProtocol

@testable import StoreSCP

@Suite struct ListenerTests {
    private let admitted = Admitted()

    /// The deadline is far beyond the test's patience: only what the listener notices itself ends a connection.
    private func listening(_ body: @Sendable @escaping (UInt16) throws -> Void) async throws {
        let rules = AdmissionRules(
            calledAETitles: [AETitle("ICHNODE")!], allowedNetworks: [try #require(NetworkBlock("127.0.0.0/8"))],
            requestDeadline: .seconds(300))
        let listener = try AssociationListener(
            addresses: ["127.0.0.1"], port: 0, rules: rules, logger: Logger(label: "test"), admit: admitted.take)
        let running = listener.start()
        let port = UInt16(listener.port)
        try await withCheckedThrowingContinuation { continuation in
            Thread { continuation.resume(with: Result { try body(port) }) }.start()
        }
        listener.stop()
        await running.value
    }

    @Test(arguments: [1, 6, 40, 73])
    func aPeerThatStopsSendingWithinItsRequestIsForgotten(bytes: Int) async throws {
        let request = AssociationRequestTests.pdu(called: "ICHNODE", calling: "CT1")
        try await listening { port in
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
        try await listening { port in
            let peer = try Peer(port: port)
            for piece in [request[..<1], request[1..<40], request[40...]] {
                peer.send(piece)
                usleep(20_000)
            }
            for _ in 0..<500 where admitted.count == 0 { usleep(10_000) }
        }
        #expect(admitted.count == 1)
    }
}

/// Takes connections and closes them. `@unchecked Sendable` is safe because `taken` is guarded by `lock`.
private final class Admitted: @unchecked Sendable {
    private let lock = NSLock()
    private var taken = 0
    var count: Int { lock.withLock { taken } }
    @Sendable func take(_ connection: AdmittedConnection) {
        close(connection.descriptor)
        lock.withLock { taken += 1 }
    }
}

/// A connection to the loopback address.
private final class Peer {
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

    /// Whether the other end closes or resets within ten seconds.
    func isClosed() -> Bool {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, 0)
        return count == 0 || (count < 0 && errno == ECONNRESET)
    }
}
