import Foundation
import TestPrograms
import Testing
import WorkerProtocol

#if canImport(Glibc)
import Glibc
#endif

/// `openssl s_server` on a free port, until the value goes away.
private final class OpenSSLServer: @unchecked Sendable {
    let port: UInt16
    private let program: TestProgram
    /// It ends with its standard input.
    private let input = Pipe()

    init(_ options: [String]) async throws {
        port = try Listener.freePort()
        program = try TestProgram(
            try #require(Surroundings.tool("openssl")), ["s_server", "-accept", "127.0.0.1:\(port)"] + options,
            input: input.fileHandleForReading)
        for _ in 0..<200 {
            if (try? RawPeer(port: port)) != nil { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw WorkerError(.deadline, "openssl s_server does not listen")
    }

    deinit { program.end() }
}

/// Associations that the node opens within TLS, to real peers with certificates made for each test.
@Suite(.serialized, .enabled(if: Surroundings.hasTools && CertificateMaker.isThere))
struct RequestorTLSTests {
    private func peer(
        _ port: UInt16, _ files: TLSFiles, host: String = "localhost", verifiesHost: Bool = true
    ) -> RemotePeer {
        RemotePeer(
            aeTitle: AETitle("PACS1")!, host: host, port: Int(port),
            tls: PeerTLS(files: files, verifiesHost: verifiesHost))
    }

    private func echo(_ peer: RemotePeer) async throws -> [SendEvent] {
        try await SendTests.events(
            ["echo"], .echo(EchoJob(peer: peer, callingAETitle: SendTests.calling, timeoutSeconds: 3)))
    }

    private func failure(_ events: [SendEvent]) throws -> SendFailure {
        guard events.count == 1, case .failed(let failure) = events[0] else {
            throw WorkerError(.failed, "not failed: \(events)")
        }
        return failure
    }

    /// Why no TLS came about with this peer.
    private func refusal(_ peer: RemotePeer) async throws -> String {
        let failure = try failure(try await echo(peer))
        #expect(failure.kind == .handshake, "\(failure)")
        let start = "no TLS with \(peer.host):\(peer.port): "
        #expect(failure.reason.hasPrefix(start), "\(failure)")
        return String(failure.reason.dropFirst(start.count))
    }

    private func isAnswered(_ events: [SendEvent]) -> Bool {
        guard events.count == 2, case .reached(_, .some) = events[0], case .echoed(0, _) = events[1] else {
            return false
        }
        return true
    }

    // MARK: What works

    @Test(arguments: ["ec -pkeyopt ec_paramgen_curve:prime256v1", "rsa:2048"])
    func storesAtAPeerThatAsksForACertificate(key: String) async throws {
        let maker = try await CertificateMaker.site(nodeKey: key)
        let server = try await StorageServer(maker.options())
        let folder = try TemporaryFolder()
        var objects = try SendTests.results(folder, 2)
        // Larger than several records and PDUs.
        var large = StoredObject(rows: 600, columns: 600)
        large.pixels = StoredObject.words((0..<360_000).map { $0 * 7 })
        try large.write(to: objects[1].path)
        objects[1].sopInstanceUID = UID(large.instance)!
        let events = try await SendTests.store(objects, folder, peer(server.port, maker.files()))
        let answered = events.compactMap { event -> UID? in
            guard case .response(let instance, 0, _) = event else { return nil }
            return instance
        }
        #expect(answered == objects.map(\.sopInstanceUID), "\(events)")
        let stored = try FileManager.default.contentsOfDirectory(atPath: server.folder.path).map { name in
            try Data(contentsOf: URL(fileURLWithPath: "\(server.folder.path)/\(name)"))
        }
        #expect(stored.count == 2)
        #expect(stored.contains { $0.range(of: Data(large.pixels)) != nil })
    }

    @Test(.enabled(if: Archive.Kind.installed.contains(.orthanc)))
    func anArchiveIsAskedAndSendsImages() async throws {
        let maker = try await CertificateMaker.site()
        let node = try await StorageServer()
        let archive = try await Archive(
            .orthanc, node: node.port,
            tls: [
                "DicomTlsCertificate": maker.path("peer"), "DicomTlsPrivateKey": maker.path("peer-key"),
                "DicomTlsTrustedCertificates": maker.path("ca"),
            ])
        let peer = peer(archive.port, maker.files())
        let folder = try TemporaryFolder()
        _ = try await SendTests.store(try SendTests.results(folder, 3), folder, peer)
        let (study, series) = (UID(literal: "1.2.3"), UID(literal: "1.2.3.1"))
        let found = try await SendTests.events(
            ["find"], .find(FindJob(peer: peer, callingAETitle: SendTests.calling, studyInstanceUID: study)))
        guard found.count == 1, case .found(series, 3) = found[0] else {
            Issue.record("\(found)")
            return
        }
        let moved = try await SendTests.events(
            ["move"],
            .move(
                MoveJob(
                    peer: peer, callingAETitle: SendTests.calling, studyInstanceUID: study, seriesInstanceUID: series)))
        guard moved.count == 1, case .moved(let counts) = moved[0] else {
            Issue.record("\(moved)")
            return
        }
        #expect(counts == MoveCounts(completed: 3, failed: 0, warning: 0))
        #expect(try FileManager.default.contentsOfDirectory(atPath: node.folder.path).count == 3)
    }

    // MARK: Whom we refuse

    @Test func aCertificateOfAnotherIssuerIsRefusedByName() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.authority("other")
        try await maker.certificate("stranger", by: "other")
        let server = try await StorageServer(maker.options("stranger"))
        let reason = try await refusal(peer(server.port, maker.files()))
        #expect(
            reason.hasPrefix(
                "we refused the peer's certificate \"CN=stranger\" issued by \"CN=other\": its issuer is not in tls."),
            "\(reason)")
    }

    @Test func anExpiredCertificateIsRefused() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.certificate("old", by: "ca", days: 0)
        let server = try await StorageServer(maker.options("old"))
        try await Task.sleep(for: .seconds(1.1))
        let reason = try await refusal(peer(server.port, maker.files()))
        #expect(reason.contains("\"CN=old\""), "\(reason)")
        #expect(reason.contains("it has expired (it is valid to 20"), "\(reason)")
    }

    @Test func aCertificateThatIsNotForServersIsRefused() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.certificate(
            "client", by: "ca", extensions: "subjectAltName=DNS:localhost\nextendedKeyUsage=clientAuth")
        let options = ["-key", maker.path("client-key"), "-cert", maker.path("client")]
        let server = try await OpenSSLServer(options)
        let reason = try await refusal(peer(server.port, maker.files()))
        #expect(reason.contains("serverAuth"), "\(reason)")
    }

    @Test(arguments: [
        ("DNS:localhost", "localhost", true), ("DNS:pacs.example", "localhost", false),
        ("IP:127.0.0.1", "127.0.0.1", true), ("DNS:localhost", "127.0.0.1", false),
        ("IP:127.0.0.1", "localhost", false),
    ])
    func theCertificateHasToNameTheHostUnlessToldOtherwise(names: String, host: String, isNamed: Bool) async throws {
        let maker = try await CertificateMaker.site()
        try await maker.certificate("named", by: "ca", extensions: "subjectAltName=\(names)")
        let server = try await StorageServer(maker.options("named"))
        let events = try await echo(peer(server.port, maker.files(), host: host))
        #expect(isAnswered(events) == isNamed, "\(events)")
        if !isNamed {
            let reason = try await refusal(peer(server.port, maker.files(), host: host))
            #expect(reason.contains("it does not name the peer's host"), "\(reason)")
        }
        #expect(isAnswered(try await echo(peer(server.port, maker.files(), host: host, verifiesHost: false))))
    }

    /// Instead of its issuer; another of the same issuer is refused.
    @Test func aPeersOwnCertificateMayBeNamed() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.certificate("sister", by: "ca")
        let files = maker.files(authorities: "peer")
        let server = try await StorageServer(maker.options())
        #expect(isAnswered(try await echo(peer(server.port, files, verifiesHost: false))))
        let sister = try await StorageServer(maker.options("sister"))
        let reason = try await refusal(peer(sister.port, files, verifiesHost: false))
        #expect(reason.contains("its issuer is not in tls.ca"), "\(reason)")
    }

    @Test func anIssuerIsAskedForAlsoWhereTheHostIsNot() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.authority("other")
        try await maker.certificate("stranger", by: "other")
        let server = try await StorageServer(maker.options("stranger"))
        let reason = try await refusal(peer(server.port, maker.files(), verifiesHost: false))
        #expect(reason.contains("its issuer is not in tls.ca"), "\(reason)")
    }

    // MARK: Who refuses us

    /// In TLS 1.3 the peer judges our certificate after our part of the handshake, in TLS 1.2 within it.
    @Test(arguments: ["-tls1_3", "-tls1_2"]) func aPeerThatDoesNotTrustUsIsNamed(version: String) async throws {
        let maker = try await CertificateMaker.site()
        try await maker.authority("other")
        let server = try await OpenSSLServer([
            version, "-key", maker.path("peer-key"), "-cert", maker.path("peer"), "-Verify", "1",
            "-verify_return_error", "-CAfile", maker.path("other"),
        ])
        let reason = try await refusal(peer(server.port, maker.files()))
        #expect(reason.hasPrefix("the peer refused our certificate (alert 48, "), "\(reason)")
    }

    @Test func aStorageServerThatDoesNotTrustUsIsNamed() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.authority("other")
        let server = try await StorageServer(maker.options(trusts: "other"))
        let reason = try await refusal(peer(server.port, maker.files()))
        #expect(reason.hasPrefix("the peer refused our certificate (alert 48, "), "\(reason)")
    }

    @Test func aPeerOfOldVersionsAloneIsNamed() async throws {
        let maker = try await CertificateMaker.site(nodeKey: "rsa:2048")
        let server = try await OpenSSLServer([
            "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-key", maker.path("node-key"), "-cert", maker.path("node"),
        ])
        let reason = try await refusal(peer(server.port, maker.files()))
        #expect(reason.hasPrefix("the peer refuses TLS 1.2 and 1.3 (alert 70, "), "\(reason)")
    }

    /// A record with a ServerHello (RFC 5246 §7.4.1.3) that has renegotiation_info (RFC 5746 §3.2).
    /// - Parameter version: its last byte.
    private static func serverHello(_ version: UInt8, _ suite: [UInt8]) -> [UInt8] {
        [0x16, 3, version, 0, 49, 2, 0, 0, 45, 3, version] + [UInt8](repeating: 7, count: 32)
            + [0] + suite + [0, 0, 5, 0xFF, 1, 0, 1, 0]
    }

    /// As implementations answer that know no supported_versions (RFC 8446 §4.2.1).
    @Test func aPeerThatAnswersInAnOldVersionIsNamed() async throws {
        let maker = try await CertificateMaker.site()
        let listener = try Listener()
        async let served: Void = answer(listener, Self.serverHello(2, [0xC0, 0x14]), seconds: 1)
        let reason = try await refusal(peer(listener.port, maker.files()))
        #expect(reason.contains("the peer offers TLS 1.1 at most"), "\(reason)")
        try await served
    }

    // MARK: TLS here, none there

    @Test func aPeerWithoutTLSIsSaid() async throws {
        let maker = try await CertificateMaker.site()
        let server = try await StorageServer()
        let reason = try await refusal(peer(server.port, maker.files()))
        #expect(reason.hasSuffix("without an answer to our hello: does it speak TLS on this port?"), "\(reason)")
    }

    @Test func aPeerThatAnswersAHelloWithAnAbortIsSaid() async throws {
        let maker = try await CertificateMaker.site()
        let listener = try Listener()
        // PS3.8 §9.3.8: by the service provider, unrecognized PDU.
        async let served: Void = answer(listener, [7, 0, 0, 0, 0, 4, 0, 0, 2, 1], seconds: 1)
        let reason = try await refusal(peer(listener.port, maker.files()))
        #expect(reason.hasPrefix("the peer answers without TLS: "), "\(reason)")
        try await served
    }

    @Test func aPeerThatWantsTLSIsSaid() async throws {
        let maker = try await CertificateMaker.site()
        let server = try await StorageServer(maker.options())
        let failure = try failure(try await echo(server.peer))
        #expect(failure.kind == .aborted)
        #expect(failure.reason.hasSuffix("does it know our address, or speak TLS on this port?"), "\(failure)")
    }

    @Test func aPeerThatAnswersARequestWithATLSAlertIsSaid() async throws {
        let listener = try Listener()
        // Fatal: unexpected message.
        async let served: Void = answer(listener, [0x15, 3, 3, 0, 2, 2, 10], seconds: 0.2)
        let peer = RemotePeer(aeTitle: AETitle("PACS1")!, host: "127.0.0.1", port: Int(listener.port))
        let failure = try failure(try await echo(peer))
        try await served
        #expect(failure.reason == "the peer speaks TLS on this port: set tls: true for it")
    }

    /// Sends bytes to the first that connects, each after a pause, and closes after so many seconds.
    private func answer(_ listener: Listener, _ bytes: [UInt8], pause: Double = 0, seconds: Double) async throws {
        let connection = try await listener.accept()
        try await onThread {
            for byte in bytes {
                guard send(connection, [byte], 1, Int32(MSG_NOSIGNAL)) == 1 else { break }
                usleep(UInt32(pause * 1e6))
            }
            usleep(UInt32(seconds * 1e6))
            close(connection)
        }
    }

    // MARK: Deadlines

    @Test func aPeerThatStallsWithinTheHandshakeIsGivenUp() async throws {
        let maker = try await CertificateMaker.site()
        let listener = try Listener()
        async let served: Void = answer(listener, Self.serverHello(3, [0xC0, 0x2B]), seconds: 6)
        let reason = try await refusal(peer(listener.port, maker.files()))
        #expect(reason == "the peer stalled within the handshake: not through after 3 s")
        try await served
    }

    @Test func aPeerThatNeverAnswersIsGivenUp() async throws {
        let maker = try await CertificateMaker.site()
        let listener = try Listener()
        let start = ContinuousClock.now
        let reason = try await refusal(peer(listener.port, maker.files()))
        #expect(reason == "no answer to our hello within 3 s: does the peer speak TLS on this port?")
        #expect(ContinuousClock.now - start < .seconds(15))
    }

    /// Never idle for long, and yet it has to end.
    @Test func aPeerThatSendsAByteNowAndThenIsGivenUp() async throws {
        let maker = try await CertificateMaker.site()
        let listener = try Listener()
        // The head of a record that announces 16 KiB, and then never as many.
        let bytes = [0x16, 3, 3, 0x3F, 0xFF] + [UInt8](repeating: 2, count: 300)
        async let served: Void = answer(listener, bytes, pause: 0.1, seconds: 0)
        let start = ContinuousClock.now
        let reason = try await refusal(peer(listener.port, maker.files()))
        #expect(ContinuousClock.now - start < .seconds(15))
        #expect(reason.contains("within 3 s"), "\(reason)")
        try await served
    }

    // MARK: Key material

    @Test func filesThatAreNotUsableAreNamedAndNothingIsSentInThePlain() async throws {
        let maker = try await CertificateMaker.site()
        let server = try await StorageServer()
        var files = maker.files()
        files.section = "peers[2]"
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: files.key)
        let failure = try failure(try await echo(peer(server.port, files)))
        #expect(failure.kind == .handshake)
        #expect(failure.reason.hasPrefix("peers[2].key \(files.key) is open to others"), "\(failure)")
    }

    @Test func aPeerThatSpeaksTLSIsNotCalledWithoutKeyMaterial() async throws {
        let maker = try await CertificateMaker.site()
        let server = try await StorageServer()
        let worker = try WorkerProcess(WorkerProgram(path: Surroundings.worker, arguments: ["echo"]))
        try await worker.start()
        try await worker.send(
            SendRequest.echo(EchoJob(peer: peer(server.port, maker.files()), callingAETitle: SendTests.calling)))
        let events = try await worker.messages(SendEvent.self)
        #expect(try failure(Array(events.dropLast())).reason.contains("no key material"), "\(events)")
    }

    @Test func aCertificateForServersAloneIsReportedForRequests() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.certificate("server", by: "ca", days: 400, extensions: "extendedKeyUsage=serverAuth")
        for (options, levels) in [
            ([], [CertificateReport.Finding.Level.good, .good]), (["--for-requests"], [.good, .bad, .good]),
        ] {
            let worker = try WorkerProcess(
                WorkerProgram(
                    path: Surroundings.worker,
                    arguments: ["certificates"] + options + maker.files("server").arguments))
            try await worker.start()
            let report = try #require(try await worker.messages(CertificateReport.self).first)
            #expect(report.findings.map(\.level) == levels, "\(report)")
        }
    }
}
