import Foundation
import HTTPTypes
import Ledger
import Synchronization
import Testing
import WorkerProtocol

@testable import Console

@Suite struct PeersPageTests {
    private func entry(
        _ calling: String?, _ called: String? = "ICHNODE", _ ending: AssociationEntry.Ending? = nil,
        _ change: (inout AssociationEntry) -> Void = { _ in }
    ) -> AssociationEntry {
        var entry = AssociationEntry(
            peerAddress: "10.0.0.7", isSecure: false, callingAETitle: calling, calledAETitle: called,
            began: .now - 30)
        entry.ending = ending
        if ending != nil { entry.ended = .now }
        change(&entry)
        return entry
    }

    @Test func showsPeersAndWhoMayCall() async throws {
        let fixture = try ConsoleFixture(Visitor())
        let (status, body) = try await fixture.get("/peers")
        #expect(status == .ok)
        for text in [
            "ARCHIVE", "pacs.example", "port 4242, without TLS", "TRIAGE", "required", "second, after 60 s",
            "no contact since the start", "10.0.0.0/8", "11112 plain, 2762 TLS, which asks for a certificate",
            "64, 32 of one address", "No association is open.", "Nobody was refused since the start.",
        ] {
            #expect(body.contains(text), "\(text)")
        }
        #expect(!body.contains("Verify now"))
    }

    @Test func showsAssociationsWithWhatCameAndRefusalsWithWhatToChange() async throws {
        let fixture = try ConsoleFixture()
        let reason = "called AE title \"FOO\" is not ours: name ICHNODE at the sender"
        fixture.peers.state.withLock {
            $0.associations = AssociationOverview(
                open: [
                    entry("CT1") {
                        ($0.objects, $0.known, $0.bytes) = (12, 3, 6 << 20)
                        $0.studies = [UID("1.2")!]
                        ($0.isSecure, $0.certificate) = (true, "CN=<scanner>")
                    }
                ],
                ended: [
                    entry("PACS<b>", "ICHNODE", .released) { ($0.count, $0.echoes) = (40, 2) },
                    entry("CT2", "ICHNODE", .broken("association idle, within an object")) {
                        ($0.refusedObjects, $0.objectRefusal) = (2, "sequences nested too deeply")
                    },
                ],
                refused: [entry("CT9", "FOO", .refused(reason)) { $0.count = 300 }])
        }
        let body = try await fixture.get("/peers").body
        for text in [
            "15 objects of 1 study, 6.0 MiB; 3 of them here already", "TLS, certificate CN=&lt;scanner&gt;",
            "PACS&lt;b&gt;", "40 associations within", "2 C-ECHO", "association idle, within an object",
            "2 objects refused", "sequences nested too deeply",
            "called AE title &quot;FOO&quot; is not ours: name ICHNODE at the sender", "300<br>",
        ] {
            #expect(body.contains(text), "\(text)")
        }
        #expect(!body.contains("PACS<b>"))
    }

    @Test func withoutSigningInNothingThatAPeerSaidIsShown() async throws {
        let fixture = try ConsoleFixture(Visitor())
        fixture.peers.state.withLock {
            $0.reach["pacs"] = DestinationReach(
                blockage: .init(since: .now, attempts: 1, nextAttemptAt: .now, reason: "MUELLER^ANNA"))
            $0.verifications["pacs"] = PeerVerification(
                at: .now - 60, user: "o", seconds: 1, findings: [.init(isGood: false, text: "MUELLER^ANNA")])
            $0.associations.ended = [
                entry("CT2", "ICHNODE", .released) {
                    ($0.refusedObjects, $0.objectRefusal) = (1, "MUELLER^ANNA")
                    $0.certificate = "CN=MUELLER^ANNA"
                }
            ]
            $0.associations.ended.append(entry("CT3", "ICHNODE", .broken("within MUELLER^ANNA")))
            $0.associations.refused = [entry("CT9", "FOO", .refused("MUELLER^ANNA is no AE title of ours"))]
        }
        let body = try await fixture.get("/peers").body
        #expect(body.contains("out of reach") && body.contains("TLS, with a certificate"))
        #expect(!body.contains("MUELLER"))
    }

    @Test func thePeerIsVerifiedAndTheResultShown() async throws {
        let fixture = try ConsoleFixture()
        #expect(try await fixture.get("/peers").body.contains("Verify now"))
        let done = try await fixture.answer(toPost: "/peers/verify", "peer=pacs")
        #expect(done.status == .seeOther)
        let asked = fixture.peers.state.withLock { $0.asked }
        #expect(asked.map(\.peer) == ["pacs"] && asked.map(\.user) == ["operator"])
        let body = try await fixture.get(try #require(done.location)).body
        #expect(body.contains("peer pacs answers C-ECHO in 3 ms (0.4 s in all)"))
        fixture.peers.state.withLock { $0.refusal = "another is being verified" }
        let refused = try await fixture.answer(toPost: "/peers/verify", "peer=pacs")
        #expect(try await fixture.get(try #require(refused.location)).body.contains("Not done: another is being"))
    }

    /// Whichever was last, of deliveries and verifications.
    @Test(arguments: [(-10.0, -20.0, "see below"), (-20.0, -10.0, "answers")])
    func theLastContactCounts(verified: Double, answered: Double, expected: String) async throws {
        let fixture = try ConsoleFixture()
        fixture.peers.state.withLock {
            $0.reach["pacs"] = DestinationReach(lastAnswerAt: .now + answered)
            $0.verifications["pacs"] = PeerVerification(
                at: .now + verified, user: "o", seconds: 1, findings: [.init(isGood: false, text: "no answer")])
        }
        #expect(try await fixture.get("/peers").body.contains(">\(expected)</span></h2>"))
    }
}
