import Testing
import WorkerProtocol

@testable import DICOM

/// What is said of a failed handshake: which side gave up, and what to do.
@Suite struct HandshakeFailureTests {
    private func text(_ cause: HandshakeFailure.Cause) -> String {
        HandshakeFailure(cause: cause, subject: "CN=CT1,O=Site", issuer: "CN=Site CA").text(seconds: 10)
    }

    @Test(arguments: [
        (UInt8(48), "make it trust the issuer of ours"), (45, "renew tls.certificate"), (44, "revoked"),
        (42, "see its log"), (43, "see its log"), (46, "see its log"),
    ])
    func thePeerRefusedOurCertificate(alert: UInt8, advice: String) {
        let text = text(.alert(alert, name: "a name"))
        #expect(text.hasPrefix("the peer refused our certificate (alert \(alert), a name): "))
        #expect(text.contains(advice))
    }

    @Test(arguments: [UInt8(42), 43, 46]) func whatAPeerMayFindWrongWithOurCertificate(alert: UInt8) {
        #expect(text(.alert(alert, name: "a name")).contains("the one that it calls us by"))
        #expect(requesting(.alert(alert, name: "a name")).contains("clientAuth"))
    }

    @Test func otherAlertsAreNamedToo() {
        #expect(text(.alert(40, name: "handshake failure")).contains("nothing acceptable in what we offer"))
        #expect(text(.alert(70, name: "protocol version")).contains("raise its version"))
        #expect(text(.alert(80, name: "internal error")).contains("(alert 80, internal error)"))
    }

    @Test(arguments: [
        (Int32(20), "its issuer is not in tls.ca"), (18, "its issuer is not in tls.ca"),
        (19, "its issuer is not in tls.ca"), (7, "an older CA"), (9, "not valid yet"), (10, "has expired"),
        (23, "revoked"), (26, "clientAuth"), (66, "2048 bits"), (79, "OpenSSL's words"),
    ])
    func weRefusedThePeersCertificateByItsName(code: Int32, expected: String) {
        let text = text(.badCertificate(code, words: "OpenSSL's words"))
        #expect(text.hasPrefix("we refused the peer's certificate \"CN=CT1,O=Site\" issued by \"CN=Site CA\": "))
        #expect(text.contains(expected))
    }

    @Test func withoutACertificateItSaysBothWaysOut() {
        #expect(text(.noCertificate).contains("tls.ca"))
        #expect(text(.noCertificate).contains("tls.client_certificates"))
    }

    @Test func theOfferedVersionIsNamed() {
        #expect(text(.version(offered: 0x0302)).contains("the peer offers TLS 1.1 at most"))
        #expect(text(.version(offered: 0x0300)).contains("SSL 3.0"))
        #expect(text(.version(offered: 0x7777)).contains("version 0x7777"))
    }

    private func requesting(_ cause: HandshakeFailure.Cause, hasSpoken: Bool = true) -> String {
        HandshakeFailure(
            cause: cause, subject: "CN=PACS", issuer: "CN=Site CA", validFrom: 1_800_000_000, validTo: 1_700_000_000,
            side: .requesting, section: "peers[0]", peerHasSpoken: hasSpoken
        ).text(seconds: 10)
    }

    @Test(arguments: [
        (Int32(20), "its issuer is not in peers[0].ca"), (9, "from 2027-01-15 on"), (10, "valid to 2023-11-14"),
        (26, "serverAuth"), (62, "verify_host"), (64, "verify_host"),
    ])
    func weRefusedACertificateThatWeWereShown(code: Int32, expected: String) {
        let text = requesting(.badCertificate(code, words: "OpenSSL's words"))
        #expect(text.hasPrefix("we refused the peer's certificate \"CN=PACS\" issued by \"CN=Site CA\": "))
        #expect(text.contains(expected))
    }

    @Test func aPeerThatNeverSpokeTLSIsAskedWhetherItDoes() {
        #expect(requesting(.noTLS).contains("tls: false"))
        #expect(requesting(.closed, hasSpoken: false).contains("does it speak TLS on this port?"))
        #expect(requesting(.timeout, hasSpoken: false).contains("within 10 s: does the peer speak TLS"))
        #expect(requesting(.timeout).hasPrefix("the peer stalled within the handshake"))
        #expect(requesting(.alert(45, name: "a name")).contains("renew peers[0].certificate"))
    }

    @Test func theRestSaysWhoDidWhat() {
        #expect(text(.cipher).contains("ECDHE with AES-GCM"))
        #expect(text(.closed).hasPrefix("the peer closed the connection within the handshake"))
        #expect(text(.timeout) == "the peer stalled within the handshake: not through after 10 s")
        #expect(text(.other(words: "strange")) == "the handshake failed: strange")
    }
}

@Suite struct CertificateFindingsTests {
    private static let now: Int64 = 1_800_000_000
    private static let day: Int64 = 86_400
    private let files = TLSFiles(certificate: "/c.pem", key: "/k.pem", authorities: "/ca.pem")

    private func certificate(
        from: Int64 = -1, to: Int64, mayServe: Bool = true, subject: String = "CN=node"
    ) -> TLSIdentity.Certificate {
        .init(
            subject: subject, issuer: "CN=CA", validFrom: Self.now + from * Self.day, validTo: Self.now + to * Self.day,
            mayServe: mayServe)
    }

    private func findings(
        _ own: TLSIdentity.Certificate, _ authorities: [TLSIdentity.Certificate]? = nil
    ) -> [CertificateReport.Finding] {
        CertificateFindings.findings(
            certificate: own, authorities: authorities ?? [certificate(to: 1000)], files: files, now: Self.now)
    }

    @Test func allIsWell() {
        let found = findings(certificate(to: 400))
        #expect(found.map(\.level) == [.good, .good])
        #expect(found[0].text.contains("\"CN=node\""))
        #expect(found[0].text.contains("2028-02-19, 400 days"))
        #expect(found[1].text == "tls.ca /ca.pem names 1 valid issuer")
    }

    @Test func expiryIsWarnedOfAMonthBefore() {
        #expect(findings(certificate(to: 30))[0].level == .good)
        let found = findings(certificate(to: 29))[0]
        #expect(found.level == .warning)
        #expect(found.text.hasPrefix("tls.certificate /c.pem expires in 29 days, on "))
    }

    @Test func whatPeersWouldRefuseIsBad() {
        #expect(findings(certificate(from: -9, to: -1))[0].level == .bad)
        #expect(findings(certificate(from: 1, to: 9))[0].level == .bad)
        let client = findings(certificate(to: 400, mayServe: false))
        #expect(client.contains { $0.level == .bad && $0.text.contains("serverAuth") })
    }

    @Test func whatIsForRequestsHasToBeAClients() {
        let server = TLSIdentity.Certificate(
            subject: "CN=node", issuer: "CN=CA", validFrom: Self.now, validTo: Self.now + 400 * Self.day,
            mayRequest: false)
        #expect(findings(server).map(\.level) == [.good, .good])
        let files = TLSFiles(section: "peers[0]", certificate: "/c.pem", key: "/k.pem", authorities: "/ca.pem")
        let found = CertificateFindings.findings(
            certificate: server, authorities: [certificate(to: 1000)], files: files, side: .requesting, now: Self.now)
        #expect(found.map(\.level) == [.good, .bad, .good])
        #expect(found[1].text.hasPrefix("peers[0].certificate /c.pem is not made for TLS clients"))
    }

    @Test func anExpiredIssuerIsNamed() {
        let old = certificate(from: -99, to: -1, subject: "CN=Old CA")
        let both = findings(certificate(to: 400), [old, certificate(to: 9)])
        #expect(both.map(\.level) == [.good, .warning, .good])
        #expect(both[1].text.contains("\"CN=Old CA\""))
        #expect(findings(certificate(to: 400), [old]).last?.level == .bad)
    }
}

@Suite struct TLSFileProblemTests {
    @Test func saysFileAndRemedy() {
        let key = TLSFileProblem(file: .key, path: "/k.pem", state: .tooOpen("0644"))
        #expect(
            "\(key)".hasPrefix("tls.key /k.pem is open to others (mode 0644): chmod 640, with the node's group, or"))
        let other = TLSFileProblem(file: .key, path: "/k.pem", state: .mismatch, certificatePath: "/c.pem")
        #expect("\(other)".hasPrefix("tls.key /k.pem is not the key of tls.certificate /c.pem"))
        let empty = TLSFileProblem(file: .authorities, path: "/ca.pem", state: .empty)
        #expect("\(empty)".contains("BEGIN CERTIFICATE"))
    }
}
