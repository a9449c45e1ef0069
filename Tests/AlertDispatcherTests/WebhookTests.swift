import Foundation
import Ledger
import Logging
import TestPrograms
import Testing
import WorkerProtocol

@testable import AlertDispatcher

@Suite struct WebhookSignatureTests {
    private func hex(_ bytes: [UInt8]) -> String { bytes.map { String(format: "%02x", $0) }.joined() }

    /// RFC 4231 §4.2, §4.3, §4.7.
    @Test func agreesWithTheStandardsTestVectors() {
        let cases: [(key: Data, text: String, digest: String)] = [
            (
                Data(repeating: 0x0b, count: 20), "Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
            ),
            (
                Data("Jefe".utf8), "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
            ),
            (
                Data(repeating: 0xaa, count: 131), "Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
            ),
        ]
        for each in cases { #expect(hex(HMACSHA256.bytes(of: Data(each.text.utf8), key: each.key)) == each.digest) }
    }

    @Test(arguments: [16, 63, 64, 65, 4096])
    func agreesWithOpenSSL(keyBytes: Int) throws {
        let key = Data((0..<keyBytes).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 1) })
        let body = Data("{\"text\":\"ä\\n\"}".utf8)
        let said = try TestProgram.run(
            "/usr/bin/openssl", ["dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:\(hex(Array(key)))"],
            input: Data("1764117112.".utf8) + body)
        let digest = try #require(said.output.split(whereSeparator: \.isWhitespace).last)
        let value = WebhookSignature.value(body: body, secret: key, at: Date(timeIntervalSince1970: 1_764_117_112.9))
        #expect(value == "t=1764117112,v1=\(digest)")
    }
}

@Suite struct WebhookTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("webhook-\(UUID().uuidString)")

    private func alert() -> FindingAlert {
        var study = StudyAttributes()
        study.accessionNumber = "ACC42"
        let identity = CarriedIdentity(
            patient: PatientIdentity(
                name: "DOE^JANE", id: "PAT77", issuerOfID: "SITE", birthDate: "19700101", sex: "F"), study: study)
        return FindingAlert(
            kind: .finding, studyInstanceUID: UID("1.2.3")!, identity: identity, presence: .present, reason: "",
            probability: 0.9, threshold: 0.5, urgency: .stat, flagged: [UID("1.2.3.1")!, UID("1.2.3.2")!],
            model: .init(name: "m", version: "1", digest: "d"), report: UID("2.25.1")!, revision: 1,
            deviceUID: UID("2.25.7")!, firstReceivedAt: .now, lastReceivedAt: .now, analysedAt: .now, concludedAt: .now)
    }

    @Test func anEventSaysTheSameWhateverItsIdentifier() throws {
        let receiver = destination(includesPatient: true)
        let told = try receiver.message(of: alert(), after: nil)
        func said(_ change: (inout FindingAlert) -> Void) throws -> [String?] {
            var other = alert()
            change(&other)
            return receiver.said(by: try receiver.message(of: other, after: told))
        }
        #expect(receiver.said(by: told) == ["PAT77", "present", "0.900"])
        #expect(try said { $0.probability = 0.9001 } == receiver.said(by: told))
        #expect(try said { $0.presence = .absent } != receiver.said(by: told))
        #expect(try said { $0.probability = 0.91 } != receiver.said(by: told))
        #expect(try said { $0.identity.patient.id = "PAT78" } != receiver.said(by: told))
    }

    private func destination(includesPatient: Bool) -> WebhookDestination {
        WebhookDestination(
            Webhook(name: "paging", url: "https://h", secretFile: "/s", includesPatient: includesPatient),
            nodeAETitle: AETitle("ICHNODE")!, softwareVersion: "1", clock: .system)
    }

    @Test func aPatientIsNamedOnlyToWhomItMayBe() throws {
        let anonymous = try destination(includesPatient: false).message(of: alert(), after: nil).body
        for text in ["DOE", "JANE", "PAT77", "SITE", "19700101", "ACC42", "patient", "accession"] {
            #expect(!anonymous.contains(text), "\(text)")
        }
        #expect(anonymous.contains("\"study_instance_uid\":\"1.2.3\""))
        #expect(anonymous.contains("\"flagged_sop_instance_uids\":[\"1.2.3.1\",\"1.2.3.2\"]"))
        let named = try destination(includesPatient: true).message(of: alert(), after: nil).body
        for text in ["DOE^JANE", "PAT77", "SITE", "19700101", "ACC42"] { #expect(named.contains(text), "\(text)") }
    }

    @Test(
        arguments: [
            (204, MessageFate.delivered), (200, .delivered),
            (400, .refused(reason: "the receiver refuses the event (HTTP 400)")),
            (410, .refused(reason: "the receiver refuses the event (HTTP 410)")),
        ] as [(UInt, MessageFate)])
    func answersAreFinal(status: UInt, fate: MessageFate) { #expect(WebhookDestination.fate(status) == fate) }

    @Test(arguments: [100, 301, 307, 401, 403, 404, 408, 425, 429, 500, 503, 599] as [UInt])
    func whatMayPassIsTriedAgain(status: UInt) {
        if case .retry = WebhookDestination.fate(status) {} else { Issue.record("\(status)") }
    }

    @Test(arguments: [
        ("https://host/path?a=b", true), ("http://127.0.0.1:80/", true), ("http://localhost/", true),
        ("http://[::1]:8/", true), ("http://host/", false), ("http://127.0.0.1.example/", false),
        ("https://user:secret@host/", false), ("https://host/#a", false), ("ftp://host/", false), ("host", false),
        ("https:///path", false), ("", false),
    ])
    func onlyTLSLeavesThisMachine(url: String, isGood: Bool) {
        #expect((Webhook.problem(withURL: url) == nil) == isGood)
    }

    @Test(arguments: [(0o600, true), (0o640, true), (0o400, true), (0o604, false), (0o644, false), (0o620, false)])
    func aSecretThatOthersMayReadIsRefused(mode: Int, isGood: Bool) throws {
        let path = try secret(Data(repeating: 65, count: 32), mode: mode)
        #expect(((try? SecretFile.read(path)) != nil) == isGood)
    }

    @Test(arguments: [(15, false), (16, true), (4096, true), (4097, false)])
    func aSecretHasALength(bytes: Int, isGood: Bool) throws {
        let content = Data(repeating: 65, count: bytes)
        for end in ["", "\n", "\r\n"] {
            let path = try secret(content + Data(end.utf8), mode: 0o600)
            #expect((try? SecretFile.read(path)) == (isGood ? content : nil))
        }
    }

    @Test func aSecretNeverStandsInAnError() throws {
        let path = try secret(Data("hunter2".utf8), mode: 0o600)
        let error = try #require(throws: WorkerError.self) { try SecretFile.read(path) }
        #expect(!"\(error)".contains("hunter2"))
        #expect(error.reason.contains(path))
    }

    private func secret(_ content: Data, mode: Int) throws -> String {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let file = folder.appendingPathComponent(UUID().uuidString)
        try content.write(to: file)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file.path)
        return file.path
    }
}

@Suite struct MailTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("mail-\(UUID().uuidString)")

    private func destination(_ script: String, timeout: Duration = .seconds(20)) throws -> MailDestination {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let program = folder.appendingPathComponent("sendmail")
        try Data("#!/bin/sh\n\(script)\n".utf8).write(to: program)
        try FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: program.path)
        return MailDestination(
            Mail(to: ["a@x.example", "b@x.example"], from: "n@x.example", sendmail: program.path, timeout: timeout),
            nodeAETitle: AETitle("ICHNODE")!)
    }

    private func changes(_ count: Int) -> [OperatorAlertEntry] {
        (1...count).map {
            OperatorAlertEntry(
                id: Int64($0), kind: .noResult, subject: "1.2.\($0)", text: "text \($0)", occurrence: $0,
                raisedAt: .now,
                clearedAt: $0 == 2 ? .now : nil)
        }
    }

    @Test func oneMailTellsOfAllAlertsOfAMoment() throws {
        let messages = try destination("exit 0").messages(of: changes(60), at: Date(timeIntervalSince1970: 0))
        let mail = try #require(messages.first?.body)
        #expect(messages.count == 1)
        for line in [
            "To: a@x.example, b@x.example", "From: n@x.example", "Subject: [ICHNODE] alerts: 59 raised, 1 cleared",
            "Auto-Submitted: auto-generated", "RAISED no-result (1)", "CLEARED no-result (2, for the 2. time)",
            "  text 50", "… and 10 more",
        ] {
            #expect(mail.split(separator: "\n").contains(Substring(line)), "\(line)")
        }
        #expect(!mail.contains("text 51"))
        #expect(try destination("exit 0").messages(of: [], at: .now).isEmpty)
    }

    @Test func theProgramGetsTheMessageAndNoShellSeesIt() async throws {
        let mail = try destination("cat > \"$(dirname \"$0\")/got\"; echo \"$@\" > \"$(dirname \"$0\")/arguments\"")
        let message = OutboundMessage(id: "1", body: "To: a\n\n$(touch /tmp/x) `x`\n.\nafter\n")
        #expect(try await mail.deliver(message) == .delivered)
        #expect(try String(contentsOf: folder.appendingPathComponent("got"), encoding: .utf8) == message.body)
        #expect(try String(contentsOf: folder.appendingPathComponent("arguments"), encoding: .utf8) == "-t -i\n")
    }

    @Test func aFailureIsTriedAgainAndAMissingProgramIsSaid() async throws {
        let failing = try destination("exit 75")
        if case .retry(let reason) = try await failing.deliver(OutboundMessage(id: "1", body: "")) {
            #expect(reason.contains("75"))
        } else {
            Issue.record("a code of 75 is no end")
        }
        try FileManager.default.removeItem(at: folder)
        await #expect(throws: Unreachable.self) { try await failing.deliver(OutboundMessage(id: "1", body: "")) }
    }

    @Test func aProgramThatHangsIsKilledWithWhatItStarted() async throws {
        let mail = try destination("sleep 600 & echo $! > \"$(dirname \"$0\")/child\"; wait", timeout: .seconds(1))
        let begun = ContinuousClock.now
        await #expect(throws: WorkerError.self) { try await mail.deliver(OutboundMessage(id: "1", body: "")) }
        #expect(ContinuousClock.now - begun < .seconds(60))
        let text = try String(contentsOf: folder.appendingPathComponent("child"), encoding: .utf8)
        let child = try #require(Int32(text.trimmingCharacters(in: .whitespacesAndNewlines)))
        for _ in 0..<100 where kill(child, 0) == 0 && !isZombie(child) { try await Task.sleep(for: .milliseconds(20)) }
        #expect(kill(child, 0) != 0 || isZombie(child))
    }

    /// Dead, and not yet reaped by init.
    private func isZombie(_ process: Int32) -> Bool {
        let status = (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)) ?? "State:\tZ"
        return status.contains("State:\tZ")
    }

    @Test(arguments: [
        ("a@x.example", true), ("a.b+c@x-y.example", true), ("a@x\nBcc: b@y", false), ("a@x, b@y", false),
        ("A <a@x>", false), ("a", false), ("@x", false), ("a@", false),
    ])
    func whatIsNoAddressIsNone(text: String, isGood: Bool) { #expect(Mail.isAddress(text) == isGood) }
}
