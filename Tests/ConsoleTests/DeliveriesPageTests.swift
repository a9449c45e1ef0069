import Foundation
import HTTPTypes
import Ledger
import Synchronization
import Testing
import WorkerProtocol

@testable import Console

@Suite struct DeliveriesPageTests {
    private static let viewer = Visitor(user: "viewer", role: .viewer, csrfToken: "token")
    private let study = UID("1.2.840.1")!
    private let saidByPeer = "no such patient: <script>alert(1)</script> MUELLER^ANNA"

    /// One study whose result is owed to `pacs` so many times, and to `gone`, which is not configured.
    private func fixture(
        _ visitor: Visitor = Visitor(user: "operator", role: .operator, csrfToken: "token"), deliveries: Int = 2
    ) async throws -> ConsoleFixture {
        let fixture = try ConsoleFixture(visitor)
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.1")!, studyInstanceUID: study,
            seriesInstanceUID: UID("1.8")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        try await fixture.ledger.recordInstances([StoredInstance(record: record, path: "/1", receivedAt: .now)])
        let objects = (1...3).map { number in
            ComposedObject(
                path: "/r/\(number)",
                sopClassUID: UID(number == 1 ? "1.2.840.10008.5.1.4.1.1.88.22" : "1.2.840.10008.5.1.4.1.1.7")!,
                sopInstanceUID: UID("2.25.\(number)")!)
        }
        let entry = AnalysisEntry(
            studyInstanceUID: study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c", route: "d",
            startedAt: .now, completedAt: .now, outcome: .positive, reason: "", completion: "",
            studyProbability: 0.9, threshold: 0.5, flaggedSlices: 2)
        let owed = (0..<deliveries).map { _ in NewDelivery(destination: "pacs", priority: 1, objects: objects) }
        try await fixture.ledger.conclude(
            entry, objects: [],
            deliveries: owed + [
                NewDelivery(
                    destination: "gone", priority: 1, message: OutboundMessage(id: "M1", body: "PID|MUELLER^ANNA"))
            ])
        return fixture
    }

    private func giveUp(_ fixture: ConsoleFixture, _ count: Int) async throws {
        for var delivery in try await fixture.ledger.dueDeliveries(to: "pacs", at: .distantFuture, limit: count) {
            delivery.state = .dead
            delivery.lastError = saidByPeer
            for index in delivery.objects.indices { delivery.objects[index].state = .dead }
            (delivery.objects[0].status, delivery.objects[0].reason) = (0xA900, saidByPeer)
            try await fixture.ledger.updateDelivery(delivery)
        }
    }

    @Test func showsDestinationsWithWhatTheyAreOwed() async throws {
        let fixture = try await fixture()
        fixture.peers.state.withLock {
            $0.reach["pacs"] = DestinationReach(
                blockage: .init(
                    since: .now - 120, attempts: 7, nextAttemptAt: .now + 30, reason: "cannot connect: refused"))
            $0.reach["ris"] = DestinationReach(lastAnswerAt: .now)
        }
        let (status, body) = try await fixture.get("/deliveries")
        #expect(status == .ok)
        for text in [
            "pacs.example:4242", "ARCHIVE", "HL7 receiver", "out of reach", "7 attempts", "cannot connect: refused",
            ">2 deliveries</a>, the oldest for", "not configured", ">answers<", "data-live=\"/deliveries/list\"",
        ] {
            #expect(body.contains(text), "\(text)")
        }
    }

    @Test func listsWhatIsOwedWithObjectsAndStatusInWords() async throws {
        let fixture = try await fixture()
        try await giveUp(fixture, 1)
        let body = try await fixture.get("/deliveries").body
        for text in [
            "href=\"/studies/1.2.840.1\"", "Enhanced SR: refused", "0xA900, it does not match its SOP class",
            "2 × picture: waiting", "message <span class=\"mono\">M1</span>", "given up", "&lt;script&gt;",
        ] {
            #expect(body.contains(text), "\(text)")
        }
        #expect(!body.contains("<script>alert"))
        // The message itself names the patient.
        #expect(!body.contains("PID|"))
    }

    @Test func withoutSigningInNothingThatAPeerSaidIsShown() async throws {
        let fixture = try await fixture(Visitor())
        try await giveUp(fixture, 1)
        fixture.peers.state.withLock {
            $0.reach["pacs"] = DestinationReach(
                blockage: .init(since: .now, attempts: 1, nextAttemptAt: .now, reason: saidByPeer))
        }
        let body = try await fixture.get("/deliveries").body
        #expect(body.contains("out of reach") && body.contains("given up"))
        #expect(!body.contains("MUELLER"))
        #expect(body.contains("the reason is shown after signing in"))
    }

    /// What a page asks again for is what it showed at first.
    @Test func thePartThatFollowsIsThatOfThePage() async throws {
        let fixture = try await fixture(deliveries: Paging.size + 3)
        let filter = "?destination=pacs&state=waiting&page=2"
        let page = try await fixture.get("/deliveries\(filter)").body
        #expect(page.contains("data-live=\"/deliveries/list\(filter.replacing("&", with: "&amp;"))\""))
        let part = try await fixture.get("/deliveries/list\(filter)").body
        #expect(part.components(separatedBy: "<tr id=").count - 1 == 3)
        #expect(!part.contains("<html"))
        for path in ["/alerts/list?page=1", "/peers/list"] {
            let (status, body) = try await fixture.get(path)
            #expect(status == .ok && !body.contains("<html"))
        }
    }

    @Test func onlyOperatorsAreOfferedActions() async throws {
        for (visitor, isOffered) in [
            (Visitor(user: "o", role: .operator, csrfToken: "token"), true), (Self.viewer, false), (Visitor(), false),
        ] {
            let fixture = try await fixture(visitor)
            try await giveUp(fixture, 1)
            let body = try await fixture.get("/deliveries").body
            #expect(body.contains("/retry\"") == isOffered)
            #expect(body.contains("/discard\"") == isOffered)
            #expect(body.contains("Retry all that were given up") == isOffered)
        }
        for route in try ConsoleFixture().server.routes where route.path.hasPrefix("/deliveries") {
            if case .acting = route.access { continue }
            #expect(route.method == .get)
        }
    }

    @Test func longErrorsAreCut() async throws {
        let fixture = try await fixture()
        var delivery = try #require(
            try await fixture.ledger.dueDeliveries(to: "pacs", at: .distantFuture, limit: 1).first)
        delivery.lastError = String(repeating: "x", count: 50_000)
        try await fixture.ledger.updateDelivery(delivery)
        let body = try await fixture.get("/deliveries").body
        #expect(body.contains("<details class=\"said\">"))
        #expect(!body.contains(String(repeating: "x", count: 2001)))
    }

    @Test func filtersAndPages() async throws {
        let fixture = try await fixture(deliveries: Paging.size + 3)
        try await giveUp(fixture, 1)
        let first = try await fixture.get("/deliveries?destination=pacs").body
        #expect(first.contains("Page 1 of 2, \(Paging.size + 3) in all"))
        #expect(first.contains("href=\"/deliveries?destination=pacs&amp;page=2\""))
        #expect(first.components(separatedBy: "<tr id=").count - 1 == Paging.size)
        let second = try await fixture.get("/deliveries?destination=pacs&page=2").body
        #expect(second.components(separatedBy: "<tr id=").count - 1 == 3)
        let dead = try await fixture.get("/deliveries?state=given-up").body
        #expect(dead.components(separatedBy: "<tr id=").count - 1 == 1)
        let none = try await fixture.get("/deliveries?destination=%3Cb%3E&state=withdrawn").body
        #expect(none.contains("No delivery to &lt;b&gt; is in this state: withdrawn."))
    }

    @Test func whatWasDoneOrRefusedIsShownAfterwards() async throws {
        let fixture = try await fixture()
        let done = try await fixture.answer(toPost: "/deliveries/2/retry", "state=given-up&page=2&destination=pacs")
        #expect(done.status == .seeOther)
        let location = try #require(done.location)
        #expect(location.hasPrefix("/deliveries?destination=pacs&state=given-up&page=2&told="))
        let performed = await fixture.actions.performed
        #expect(performed.map(\.action) == [.retry(2)] && performed.map(\.user) == ["operator"])
        #expect(try await fixture.get(location).body.contains("<div class=\"notice good\" role=\"status\">done</div>"))
        await fixture.actions.refuse("no delivery 9 waits <b>")
        let refused = try await fixture.answer(toPost: "/deliveries/9/discard", "")
        let body = try await fixture.get(try #require(refused.location)).body
        #expect(body.contains("Not done: no delivery 9 waits &lt;b&gt;"))
        #expect(await fixture.actions.performed.last?.action == .discard(9))
        // A key that nobody gave out says nothing.
        #expect(!(try await fixture.get("/deliveries?told=made+up").body.contains("class=\"notice")))
        #expect(try await fixture.answer(toPost: "/deliveries/x/retry", "").status == .notFound)
    }

    @Test func allThatWereGivenUpAreRetriedEachOnItsOwnAndBounded() async throws {
        let fixture = try await fixture(deliveries: DeliveriesPage.mostRetried + 5)
        try await giveUp(fixture, DeliveriesPage.mostRetried + 5)
        let done = try await fixture.answer(toPost: "/deliveries/retry-given-up", "destination=pacs")
        let performed = await fixture.actions.performed
        #expect(performed.count == DeliveriesPage.mostRetried)
        #expect(Set(performed.map { "\($0.action)" }).count == DeliveriesPage.mostRetried)
        let body = try await fixture.get(try #require(done.location)).body
        #expect(body.contains("200 deliveries to pacs tried again now; 5 more were given up: ask once more"))
        await fixture.actions.refuse("the node is stopping")
        let refused = try await fixture.answer(toPost: "/deliveries/retry-given-up", "destination=pacs")
        #expect(try await fixture.get(try #require(refused.location)).body.contains("the node is stopping"))
        #expect(try await fixture.answer(toPost: "/deliveries/retry-given-up", "").status == .badRequest)
    }

    /// It never looks like nothing being there.
    @Test func aLedgerThatCannotBeReadIsAnError() async throws {
        let fixture = try await fixture()
        try fixture.breakLedger()
        for path in ["/deliveries", "/deliveries/list", "/alerts", "/alerts/list", "/peers", "/peers/list"] {
            #expect(try await fixture.get(path).status == .internalServerError)
        }
    }

    @Test(arguments: [
        (UInt16(0), "0x0000, success"), (0xA701, "0xA701, out of resources"), (0xA9FF, "0xA9FF, it does not match"),
        (0xC123, "0xC123, the peer cannot understand it"), (0x0111, "0x0111, it is there already"),
        (0xB123, "0xB123, taken, with a warning"), (0x1234, "0x1234, a status that the standard does not name"),
    ])
    func statusesHaveWords(status: UInt16, words: String) { #expect(PeerStatus.words(status).hasPrefix(words)) }
}
