import Foundation
import Testing
import WorkerProtocol

@testable import DICOM

#if canImport(Glibc)
import Glibc
#endif

/// Associations within TLS, with DCMTK's programs as peers and certificates made for each test.
@Suite(.enabled(if: Surroundings.hasTools && CertificateMaker.isThere)) struct TLSTests {
    private static func job(
        _ rules: AssociationRules? = nil, hasRoom: Bool = true, seconds: Double = 10
    ) -> AssociationJob {
        var job = ReceivingNode.job()
        let rules = rules ?? AssociationRules(calledAETitles: job.calledAETitles)
        job.tls = SecureAdmission(rules: rules, hasRoom: hasRoom, requestSeconds: seconds)
        return job
    }

    private static let title = ["-aec", "ICHNODE", "127.0.0.1"]

    private func echo(
        _ files: TLSFiles, _ options: [String], _ job: AssociationJob = TLSTests.job(), called: String = "ICHNODE"
    ) async throws -> (events: [ReceiveEvent], status: Int32, output: String) {
        let (events, result) = try await ReceivingNode(tls: files).serve(job) { port in
            try await run("echoscu", ["-v"] + options + ["-aec", called, "127.0.0.1", "\(port)"])
        }
        return (events, result.status, result.output)
    }

    @Test(arguments: ["ec -pkeyopt ec_paramgen_curve:prime256v1", "rsa:2048"])
    func anAssociationSaysWhatWasAgreed(key: String) async throws {
        let maker = try await CertificateMaker.site(nodeKey: key)
        let (events, status, output) = try await echo(maker.files(), maker.options())
        #expect(status == 0, "\(output)")
        #expect(events.kinds == ["accepted", "echoed", "ended"])
        guard case .accepted(let accepted)? = events.first else { return }
        #expect(accepted.tls?.peerCertificate == "CN=peer")
        #expect(accepted.tls?.version == "TLSv1.3")
        #expect(accepted.tls?.cipher.contains("AES") == true)
        #expect(events.ended?.how == .released)
    }

    @Test func anObjectIsStoredByteForByte() async throws {
        let maker = try await CertificateMaker.site()
        let node = try ReceivingNode(tls: maker.files())
        let folder = try TemporaryFolder()
        let source = "\(folder.path)/object.dcm"
        // Larger than several records and PDUs.
        var object = StoredObject(rows: 600, columns: 600)
        object.pixels = StoredObject.words((0..<360_000).map { $0 * 7 })
        try object.write(to: source)
        let (events, result) = try await node.serve(Self.job()) { port in
            try await run("storescu", ["-v"] + maker.options() + Self.title + ["\(port)", source])
        }
        #expect(result.status == 0, "\(result.output)")
        #expect(events.kinds == ["accepted", "stored", "ended"])
        let path = try #require(node.stored.first)
        let stored = try Data(contentsOf: URL(fileURLWithPath: path))
        #expect(stored.suffix(object.dataSet.count) == Data(object.dataSet))
    }

    @Test func onlyTheProfilesVersionsAndCiphersAreTaken() async throws {
        let maker = try await CertificateMaker.site(nodeKey: "rsa:2048")
        let client = ["s_client", "-key", maker.path("peer-key"), "-cert", maker.path("peer"), "-connect"]
        // A security level of 0 lets this client offer what it would not by itself.
        for (options, expected) in [
            (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "the peer offers TLS 1.1 at most"),
            (["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"], "no cipher suite"),
        ] {
            let (events, result) = try await ReceivingNode(tls: maker.files()).serve(Self.job()) { port in
                try await run("openssl", client + ["127.0.0.1:\(port)"] + options)
            }
            #expect(result.status != 0)
            #expect(events.kinds == ["ended"])
            #expect(events.ended?.how == .handshake)
            #expect(events.ended?.reason.contains(expected) == true, "\(events)")
        }
    }

    // MARK: Who is let in

    @Test func aPeerWithoutACertificateIsRefusedUnlessNoneIsAskedFor() async throws {
        let maker = try await CertificateMaker.site()
        let refused = try await echo(maker.files(), maker.options(nil))
        #expect(refused.status != 0)
        #expect(refused.events.ended?.how == .handshake)
        #expect(refused.events.ended?.reason.hasPrefix("the peer sent no certificate") == true)
        let accepted = try await echo(maker.files(authorities: nil), maker.options(nil))
        #expect(accepted.status == 0, "\(accepted.output)")
        #expect(accepted.events.kinds == ["accepted", "echoed", "ended"])
    }

    @Test func aCertificateOfAnotherIssuerIsRefusedByName() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.authority("other")
        try await maker.certificate("stranger", by: "other")
        let (events, status, _) = try await echo(maker.files(), maker.options("stranger"))
        #expect(status != 0)
        #expect(events.ended?.how == .handshake)
        let expected = "we refused the peer's certificate \"CN=stranger\" issued by \"CN=other\": its issuer is not"
        #expect(events.ended?.reason.hasPrefix(expected) == true, "\(events)")
    }

    @Test func aCertificateThatIsNotForClientsIsRefusedByName() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.certificate("server", by: "ca", extensions: "extendedKeyUsage=serverAuth")
        let (events, _, _) = try await echo(maker.files(), maker.options("server"))
        #expect(events.ended?.reason.contains("clientAuth") == true, "\(events)")
    }

    @Test func aPeerThatDoesNotTrustUsIsNamed() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.authority("other")
        let (events, status, _) = try await echo(maker.files(), maker.options(trusts: "other"))
        #expect(status != 0)
        #expect(events.ended?.how == .handshake)
        #expect(events.ended?.reason.hasPrefix("the peer refused our certificate (alert 48") == true, "\(events)")
    }

    @Test func aNameFromAPeerCannotBreakALogLine() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.authority("other")
        let name = "/CN=line\u{1B}[2J\u{7}end"
        _ = try await run(
            "openssl",
            [
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", name, "-keyout", maker.path("odd-key"),
                "-out",
                maker.path("odd"),
            ])
        let (events, _, _) = try await echo(maker.files(), maker.options("odd"))
        let reason = try #require(events.ended?.reason)
        #expect(reason.contains("CN=line\\1B[2J\\07end"), "\(reason)")
        #expect(reason.utf8.allSatisfy { (0x20...0x7E).contains($0) })
    }

    // MARK: Admission within TLS

    @Test(arguments: [
        ("OTHER", ["ICHNODE"], [String](), [UInt8(1), 1, 7]), ("ICHNODE", ["ICHNODE"], ["CT9"], [1, 1, 3]),
    ])
    func titlesAreCheckedWithinTLS(called: String, ours: [String], callers: [String], expected: [UInt8]) async throws {
        let maker = try await CertificateMaker.site()
        let rules = AssociationRules(
            calledAETitles: ours.compactMap { AETitle($0) }, callingAETitles: callers.compactMap { AETitle($0) })
        let (events, status, output) = try await echo(
            maker.files(), maker.options(), Self.job(rules), called: called)
        #expect(status != 0)
        #expect(
            output.contains(expected[2] == 7 ? "Called AE Title Not Recognized" : "Calling AE Title Not Recognized"))
        #expect(events.kinds == ["ended"])
        #expect(events.ended?.how == .rejected)
    }

    @Test func withoutRoomOnlyEchoIsAdmitted() async throws {
        let maker = try await CertificateMaker.site()
        let echoed = try await echo(maker.files(), maker.options(), Self.job(hasRoom: false))
        #expect(echoed.status == 0, "\(echoed.output)")
        let folder = try TemporaryFolder()
        try StoredObject.write(instance: "1.2.3.4", to: "\(folder.path)/object.dcm")
        let (events, result) = try await ReceivingNode(tls: maker.files()).serve(Self.job(hasRoom: false)) { port in
            try await run("storescu", maker.options() + Self.title + ["\(port)", "\(folder.path)/object.dcm"])
        }
        #expect(result.output.contains("Temporary Congestion"), "\(result.output)")
        #expect(events.ended?.reason == "the disk is nearly full")
    }

    @Test(arguments: [6, 100])
    func aPeerThatStallsInTheHandshakeIsEnded(bytes: Int) async throws {
        let maker = try await CertificateMaker.site()
        let job = Self.job(seconds: 0.5)
        let (events, seconds) = try await ReceivingNode(tls: maker.files()).serveRaw(job) { peer in
            let start = ContinuousClock.now
            try peer.send([0x16, 3, 1, 0, 200, 1] + [UInt8](repeating: 0, count: bytes - 6))
            _ = try peer.receive()
            return (ContinuousClock.now - start) / .seconds(1)
        }
        #expect(seconds < 15)
        #expect(events.ended?.how == .handshake)
        #expect(events.ended?.reason.contains("not through after 0.5 s") == true, "\(events)")
    }

    @Test func aPeerThatLeavesInTheHandshakeIsNamed() async throws {
        let maker = try await CertificateMaker.site()
        let (events, _) = try await ReceivingNode(tls: maker.files()).serveRaw(Self.job()) { peer in
            try peer.send([0x16, 3, 1, 0, 200, 1])
            peer.shutDown()
        }
        #expect(events.ended?.how == .handshake)
        #expect(events.ended?.reason.hasPrefix("the peer closed the connection within the handshake") == true)
    }

    // MARK: Key material

    private func report(_ files: TLSFiles) async throws -> CertificateReport {
        let worker = try WorkerProcess(
            WorkerProgram(path: Surroundings.worker, arguments: ["certificates"] + files.arguments))
        try await worker.start()
        let reports = try await worker.messages(CertificateReport.self)
        #expect(await worker.ended() == .exited(code: 0))
        return try #require(reports.first)
    }

    @Test func goodFilesAreReportedGood() async throws {
        let maker = try await CertificateMaker.site()
        try await maker.certificate("long", by: "ca", days: 400)
        let report = try await report(maker.files("long"))
        #expect(report.obstacle == nil)
        #expect(report.findings.map(\.level) == [.good, .good], "\(report)")
        let days = try #require(report.expires) - Int64(Date().timeIntervalSince1970)
        #expect((399 * 86400...401 * 86400).contains(days))
        #expect(try await self.report(maker.files("peer")).findings.first?.level == .warning)
    }

    @Test func eachFaultNamesFileAndRemedy() async throws {
        let maker = try await CertificateMaker.site()
        let good = maker.files()
        func obstacle(_ change: (inout TLSFiles) -> Void) async throws -> String {
            var files = good
            change(&files)
            return try await report(files).obstacle ?? "none"
        }
        let missing = try await obstacle { $0.certificate = "/nowhere.pem" }
        #expect(missing.hasPrefix("tls.certificate /nowhere.pem cannot be read (No such file"), "\(missing)")
        let mismatch = try await obstacle { $0.key = maker.path("peer-key") }
        #expect(mismatch.contains("is not the key of tls.certificate \(good.certificate)"), "\(mismatch)")
        let swapped = try await obstacle { $0.certificate = good.key }
        #expect(swapped.contains("holds no certificate in PEM"), "\(swapped)")
        let noKey = try await obstacle { $0.key = good.certificate }
        #expect(noKey.contains("tls.key"), "\(noKey)")
        let authorities = try await obstacle { $0.authorities = good.key }
        #expect(authorities.hasPrefix("tls.ca \(good.key) holds no certificate"), "\(authorities)")
        let folder = try await obstacle { $0.authorities = maker.folder.path }
        #expect(folder.contains("it is no file"), "\(folder)")
        try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: good.key)
        #expect(try await obstacle { _ in } == "none")
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: good.key)
        #expect(try await obstacle { _ in }.contains("is open to others (mode 0644)"))
    }

    @Test func anEncryptedDamagedOrWeakKeyIsNamed() async throws {
        let maker = try await CertificateMaker.site()
        let encrypted = maker.path("encrypted")
        let (status, output) = try await run(
            "openssl", ["pkey", "-in", maker.path("node-key"), "-aes256", "-passout", "pass:secret", "-out", encrypted])
        try #require(status == 0, "\(output)")
        var files = maker.files()
        files.key = encrypted
        #expect(try await report(files).obstacle?.contains("is encrypted") == true)
        let damaged = try String(contentsOfFile: maker.path("node-key"), encoding: .utf8)
        try damaged.replacing("M", with: "m").write(toFile: encrypted, atomically: false, encoding: .utf8)
        #expect(try await report(files).obstacle?.contains("is damaged") == true)
        try await maker.certificate("weak", by: "ca", key: "rsa:1024")
        #expect(try await report(maker.files("weak")).obstacle?.contains("is too weak") == true)
    }

    @Test func aWorkerWithoutUsableFilesDoesNotStart() async throws {
        let maker = try await CertificateMaker.site()
        var files = maker.files()
        files.key = maker.path("peer-key")
        let node = try ReceivingNode(tls: files)
        await #expect(throws: WorkerError.self) { try await node.startWorker() }
    }
}
