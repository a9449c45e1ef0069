import CoreMetrics
import Foundation
import GRDB
import HTTPTypes
import Testing
import WorkerProtocol

@testable import Console
@testable import Ledger

@Suite struct SystemPageTests {
    private func page(
        _ facts: FixedFacts, _ visitor: Visitor = Visitor(user: "v", role: .viewer)
    ) async throws -> String {
        try await ConsoleFixture(visitor, facts: facts).get("/system").body
    }

    @Test func saysThatNothingIsWrong() async throws {
        let body = try await page(FixedFacts())
        #expect(body.contains("Ready, and nothing is wrong"))
        #expect(body.contains("40 % used"))
        #expect(body.contains("3 of at most 64"))
        #expect(body.contains("60.0 GiB of 100.0 GiB"))
        #expect(body.contains("<span class=\"tag good\">version 4</span>"))
        #expect(!body.contains("tag positive"))
    }

    /// Each with what to do.
    @Test func saysWhatIsWrongOnTop() async throws {
        var facts = FixedFacts()
        let now = Date()
        facts.shown.disk.freeBytes = 4 << 30
        facts.shown.certificates = [
            .init(file: "/tls/a.pem", expires: now - 60), .init(file: "/tls/b.pem", expires: now + 5 * 86400),
            .init(file: "/tls/c.pem", expires: now + 90 * 86400),
        ]
        facts.shown.isClockSynchronised = false
        facts.shown.landlockVersion = 0
        facts.shown.log = [.init(at: now, level: "error", text: "something failed")]
        let fixture = try ConsoleFixture(facts: facts)
        fixture.registry.makeCounter(label: "ichnode_worker_crashes_total", dimensions: [("verb", "receive")])
            .increment(by: 2)
        fixture.registry.makeCounter(label: "ichnode_audit_messages_lost_total", dimensions: []).increment(by: 7)
        let body = try await fixture.get("/system").body
        let top = try #require(body.components(separatedBy: "<div class=\"system\">").first)
        for text in [
            "disk nearly full", "certificate /tls/a.pem has expired", "certificate /tls/b.pem expires in",
            "switch NTP on",
            "no Landlock", "7 audit messages lost", "2 processes &quot;receive&quot; died", "1 error in the log",
        ] { #expect(top.contains(text), "\(text)") }
        #expect(!top.contains("/tls/c.pem"))
        #expect(!top.contains("nothing is wrong"))
        // Worst first.
        let disk = try #require(top.range(of: "disk nearly full")?.lowerBound)
        let clock = try #require(top.range(of: "switch NTP on")?.lowerBound)
        #expect(disk < clock)
        #expect(body.contains("<span class=\"tag warning\">2 died</span>"))
    }

    private static let watermarks: [(free: UInt64, words: String)] = [
        (5 << 30, "there is room"), ((5 << 30) - 1, "studies are rejected"), (1 << 30, "studies are rejected"),
        ((1 << 30) - 1, "objects are refused"),
    ]

    @Test(arguments: watermarks)
    func theDiskIsJudgedAtItsWatermarks(free: UInt64, words: String) async throws {
        var facts = FixedFacts()
        facts.shown.disk.freeBytes = free
        #expect(try await page(facts).contains("used</strong>: \(words)"))
    }

    @Test func theLogIsForWhoIsSignedIn() async throws {
        var facts = FixedFacts()
        facts.shown.log = [.init(at: Date(), level: "warning", text: "peer <b>PACS</b> said no")]
        facts.shown.refusals = ["called AE title \"<i>X</i>\" is not ours": 4]
        let seen = try await page(facts)
        #expect(seen.contains("peer &lt;b&gt;PACS&lt;/b&gt; said no"))
        #expect(seen.contains("4 × called AE title &quot;&lt;i&gt;X&lt;/i&gt;&quot; is not ours"))
        let hidden = try await page(facts, Visitor())
        #expect(!hidden.contains("said no") && !hidden.contains("is not ours"))
        #expect(hidden.contains("1 since the start"))
    }

    @Test func aLedgerThatCannotBeReadIsSaid() async throws {
        let fixture = try ConsoleFixture(facts: FixedFacts())
        try fixture.ledger.database.close()
        let answer = try await fixture.get("/system")
        #expect(answer.status == .internalServerError)
        #expect(answer.body.contains("the ledger cannot be read"))
        let figures = try await fixture.get("/figures")
        #expect(figures.status == .internalServerError)
        #expect(figures.body.contains("The ledger cannot be read"))
    }

    @Test func showsWhatWaits() async throws {
        let fixture = try ConsoleFixture(facts: FixedFacts())
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.1")!,
            studyInstanceUID: UID("1.2")!, seriesInstanceUID: UID("1.8")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        try await fixture.ledger.recordInstances([
            StoredInstance(record: record, path: "/1", receivedAt: Date() - 300)
        ])
        let body = try await fixture.get("/system").body
        #expect(body.contains("<dt>Studies receiving</dt><dd>1, oldest since"))
        let minutes = try #require(body.firstMatch(of: #/\((\d+) min /#)?.1)
        #expect(try #require(Int(minutes)) >= 5)
    }

    @Test func theModelCardSaysForWhomItIsNot() async throws {
        let body = try await ConsoleFixture(facts: FixedFacts()).get("/model").body
        for text in [
            "Research use.", "A &lt;model&gt;.", "abc123", "0.793 (0.616–0.901), n 29", "0.889 (0.806–0.955)",
            "<li>Children</li>", "<li>Thin blood</li>", "66 studies, 29 of them positive",
        ] { #expect(body.contains(text), "\(text)") }
        var facts = FixedFacts()
        facts.card.limits = nil
        let silent = try await ConsoleFixture(facts: facts).get("/model").body
        #expect(silent.contains("The package does not say what its data lacked."))
    }

    @Test func theConfigurationShowsValuesDefaultsAndChanges() async throws {
        var facts = FixedFacts()
        facts.settings.sections = [
            .init(
                path: "dicom",
                settings: [
                    .init(key: "port", value: "104", line: 7, defaultValue: "11112", help: "TCP port <b>"),
                    .init(key: "warm_workers", value: "2", defaultValue: "2"),
                    .init(key: "a_token", value: ConfigurationFacts.Setting.hidden, line: 9),
                ]), .init(path: "tls", settings: []),
        ]
        facts.settings.standing = .changed
        let body = try await ConsoleFixture(facts: facts).get("/configuration").body
        for text in [
            "<code>104</code>", "line 7", "TCP port &lt;b&gt;", "The file has changed since the node read it",
            "<span class=\"tag\">hidden</span>", "2 keys", "Not configured.",
        ] { #expect(body.contains(text), "\(text)") }
        #expect(ConfigurationPage(facts: facts).routes.map(\.access) == [.patients])
        #expect(!body.contains("at the next start"))
    }

    @Test func theConfigurationSaysWhatWasRefusedAndWhatWaitsForAStart() async throws {
        var facts = FixedFacts()
        facts.settings.sections = [
            .init(path: "dicom", settings: [.init(key: "port", value: "104", line: 7, pending: "105")])
        ]
        let waiting = try await ConsoleFixture(facts: facts).get("/configuration").body
        #expect(waiting.contains("<code>104</code><br><span") && waiting.contains("at the next start</span> <code>105"))
        #expect(waiting.contains("counts once the node is restarted"))
        facts.settings.refusal = .init(at: Date(timeIntervalSince1970: 1_700_000_000), reason: "f:3: <x> is no key")
        let refused = try await ConsoleFixture(facts: facts).get("/configuration").body
        #expect(refused.contains("refused: what") && refused.contains("f:3: &lt;x&gt; is no key"))
    }
}
