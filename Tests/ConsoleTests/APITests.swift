import Foundation
import HTTPTypes
import Ledger
import Testing
import WorkerProtocol

@testable import Console

@Suite struct APITests {
    private let uid = UID("1.2.3")!

    private func fixture(_ visitor: Visitor = Visitor(user: "robot", role: .operator)) async throws -> ConsoleFixture {
        let fixture = try ConsoleFixture(visitor)
        try await fixture.ledger.recordInstances([.fixture(study: uid, patient: "DOE^JANE")])
        return fixture
    }

    @Test(arguments: ["/api/v1/studies/1.2.3", "/api/v1/studies/1.2.3/explanation", "/studies/1.2.3/live/finding"])
    func theAuditTrailIsToldWhoseDataWasShown(path: String) async throws {
        let events = RecordedEvents()
        let robot = Visitor(user: "robot", role: .viewer, address: "10.0.0.1")
        for visitor in [robot, Visitor()] {
            let fixture = try ConsoleFixture(visitor, audit: ConsoleAudit { events.add($0) })
            try await fixture.ledger.recordInstances([.fixture(study: uid, patient: "DOE^JANE")])
            for _ in 0..<3 { #expect(try await fixture.get(path).status == .ok) }
            #expect(try await fixture.get("/api/v1/studies/9.9").status == .notFound)
        }
        #expect(events.all == [.viewed(study: uid, user: "robot", address: "10.0.0.1")])
    }

    @Test func pagesAreStableAndCounted() async throws {
        let fixture = try ConsoleFixture()
        // All at once: nothing but their UIDs tells them apart.
        let now = Date(timeIntervalSince1970: 1_700_000_000)
        let all = (1...7).map { UID("1.2.\($0)")! }
        try await fixture.ledger.recordInstances(all.map { .fixture(study: $0, at: now) })
        var seen: [String] = []
        for offset in stride(from: 0, to: 9, by: 3) {
            let page = try await fixture.ask("/studies?limit=3&offset=\(offset)")
            #expect(page.status == .ok)
            #expect(page.json["total"] as? Int == 7)
            let studies = try #require(page.json["studies"] as? [[String: Any]])
            seen += studies.compactMap { $0["studyInstanceUID"] as? String }
        }
        #expect(seen.count == 7 && Set(seen) == Set(all.map(\.string)))
    }

    @Test func filtersStudies() async throws {
        let fixture = try await fixture()
        func found(_ query: String) async throws -> Int? {
            try await fixture.ask("/studies?\(query)").json["total"] as? Int
        }
        #expect(try await found("search=jane+doe") == 1)
        #expect(try await found("search=d%6Fe") == 1)
        #expect(try await found("search=smith") == 0)
        #expect(try await found("state=receiving,analysing") == 1)
        #expect(try await found("state=concluded") == 0)
        #expect(try await found("outcome=positive") == 0)
        #expect(try await found("until=2020-01-01T00:00:00%2B01:00") == 0)
        #expect(try await found("since=2020-01-01T00:00:00.5Z&order=urgency") == 1)
    }

    @Test(arguments: [
        "studies?limit=0", "studies?limit=501", "studies?limit=-1", "studies?limit=%2B1", "studies?limit=",
        "studies?limit=99999999999999999999", "studies?offset=1000001", "studies?limit=1&limit=2", "studies?nothing=1",
        "studies?state=gone", "studies?state=", "studies?outcome=positive,", "studies?order=oldest",
        "studies?since=yesterday", "studies?since=2026-02-30T00:00:00Z", "studies?until=2026-01-01T24:00:00Z",
        "studies?search=%FF", "studies/1.2.3?x=1", "deliveries?state=open", "deliveries?limit=501",
        "alerts?standing=maybe", "health?x=1", "openapi?x=1",
    ])
    func refusesWhatItDoesNotTake(path: String) async throws {
        let answer = try await fixture().ask("/\(path)")
        #expect(answer.status == .badRequest, "\(path)")
        #expect(answer.headers[.contentType] == "application/problem+json")
        #expect(answer.json["status"] as? Int == 400)
        #expect(!answer.detail.isEmpty)
    }

    @Test func namesWhatItRefuses() async throws {
        let fixture = try await fixture()
        let wanted = "query parameter limit has to be a number from 1 to 500"
        #expect(try await fixture.ask("/studies?limit=501").detail == wanted)
        #expect(try await fixture.ask("/studies?colour=1").detail.hasPrefix("unknown query parameter \"colour\""))
    }

    @Test(arguments: [
        ("2026-01-31T08:15:27Z", 1_769_847_327.0), ("2026-01-31t10:15:27.25+02:00", 1_769_847_327.25),
        ("2026-01-31T08:15:27.123456789z", 1_769_847_327.123456789), ("2024-02-29T00:00:60-00:30", 1_709_166_660.0),
    ])
    func readsTimes(text: String, seconds: Double) throws {
        #expect(abs(try #require(APIQuery.date(text)).timeIntervalSince1970 - seconds) < 1e-6)
    }

    @Test func tellsAllOfAStudyButMessages() async throws {
        let fixture = try await fixture()
        try await fixture.conclude(study: uid, owedTo: ["pacs"])
        let answer = try await fixture.ask("/studies/1.2.3")
        let study = try #require(answer.json["study"] as? [String: Any])
        #expect(study["patientName"] as? String == "DOE^JANE")
        #expect(study["outcome"] as? String == "positive")
        let deliveries = try #require(answer.json["deliveries"] as? [[String: Any]])
        #expect(deliveries.compactMap { $0["kind"] as? String } == ["objects", "message"])
        #expect(deliveries[1]["messageID"] as? String == "M1")
        #expect(!answer.text.contains("secret"))
        #expect(!(try await fixture.ask("/deliveries").text.contains("secret")))
        let id = try #require(deliveries[0]["id"] as? Int)
        #expect(try await fixture.ask("/deliveries/\(id)").json["destination"] as? String == "pacs")
        #expect(try await fixture.ask("/deliveries?destination=ris&state=pending,dead").json["total"] as? Int == 1)
        let moment = try #require(study["lastReceivedAt"] as? String)
        #expect(moment.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/) != nil, "\(moment)")
    }

    @Test func knowsWhatIsNotThere() async throws {
        let fixture = try await fixture()
        for path in [
            "/studies/9.9", "/studies/x", "/studies/9.9/explanation", "/deliveries/7", "/deliveries/x", "/nothing", "",
        ] {
            let answer = try await fixture.ask(path)
            #expect(answer.status == .notFound, "\(path)")
            #expect(!answer.detail.isEmpty, "\(path)")
        }
        #expect(try await fixture.ask("/studies/9.9/complete", .post).status == .notFound)
        #expect(try await fixture.ask("/deliveries/9/retry", .post).status == .notFound)
        #expect(await fixture.actions.performed.isEmpty)
    }

    @Test func saysWhichMethodsThereAre() async throws {
        let fixture = try await fixture()
        for (path, method, allowed) in [
            ("/studies", HTTPRequest.Method.delete, "GET"), ("/studies/1.2.3", .put, "GET"),
            ("/studies/1.2.3/complete", .get, "POST"), ("/health", .post, "GET"), ("/alerts", .patch, "GET"),
        ] {
            let answer = try await fixture.ask(path, method)
            #expect(answer.status == .methodNotAllowed, "\(path)")
            #expect(answer.headers[.allow] == allowed, "\(path)")
        }
    }

    @Test(arguments: [
        ("complete", NodeAction.complete(UID("1.2.3")!)), ("reprocess", .reprocess(UID("1.2.3")!)),
        ("ignore", .ignore(UID("1.2.3")!)), ("release", .release(UID("1.2.3")!)), ("resend", .resend(UID("1.2.3")!)),
    ])
    func actsOnStudies(name: String, action: NodeAction) async throws {
        let fixture = try await fixture()
        let answer = try await fixture.ask("/studies/1.2.3/\(name)", .post)
        #expect(answer.status == .ok)
        #expect(answer.json["done"] as? String == "done")
        let performed = await fixture.actions.performed
        #expect(performed.map(\.action) == [action])
        #expect(performed.map(\.user) == ["robot"])
    }

    @Test func actsOnDeliveries() async throws {
        let fixture = try await fixture()
        try await fixture.conclude(study: uid, owedTo: ["pacs"])
        #expect(try await fixture.ask("/deliveries/1/retry", .post).status == .ok)
        #expect(try await fixture.ask("/deliveries/1/discard", .post).status == .ok)
        #expect(await fixture.actions.performed.map(\.action) == [.retry(1), .discard(1)])
    }

    @Test func saysWhyNot() async throws {
        let fixture = try await fixture()
        await fixture.actions.refuse("not waiting for anything")
        let answer = try await fixture.ask("/studies/1.2.3/complete", .post)
        #expect(answer.status == .conflict)
        #expect(answer.detail == "not waiting for anything")
    }

    @Test func takesNoBodies() async throws {
        let fixture = try await fixture()
        func status(_ type: String, _ body: String) async throws -> HTTPResponse.Status {
            try await fixture.ask(
                "/studies/1.2.3/complete", .post, headers: [.contentType: type], body: body
            ).status
        }
        #expect(try await status("application/json", "{\"force\": true}") == .badRequest)
        #expect(try await status("text/plain", "x") == .unsupportedMediaType)
        #expect(try await status("application/x-www-form-urlencoded", "a=b") == .unsupportedMediaType)
        #expect(await fixture.actions.performed.isEmpty)
        #expect(try await status("application/json", "") == .ok)
    }
}
