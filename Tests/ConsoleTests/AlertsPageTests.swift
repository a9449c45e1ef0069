import Foundation
import HTTPTypes
import Ledger
import Testing

@testable import Console

@Suite struct AlertsPageTests {
    private let conditions = [
        OperatorCondition(.noResult, "1.2.3", "nobody has a result of study 1.2.3. See `ichnode study show`"),
        OperatorCondition(.deliveryGivenUp, "pacs & co", "2 deliveries to pacs & co were given up"),
        OperatorCondition(.diskShort, "spool", "<b>1.0 GiB</b> are free"),
    ]

    @Test func showsWhatIsActiveWithWhatToDo() async throws {
        let fixture = try ConsoleFixture(Visitor())
        #expect(try await fixture.get("/alerts").body.contains("No alert is active."))
        _ = try await fixture.ledger.updateOperatorAlerts(to: conditions) { _ in [] }
        let (status, body) = try await fixture.get("/alerts")
        #expect(status == .ok)
        for text in [
            "Active <span class=\"soft\">(3)</span>", "href=\"/studies/1.2.3\"", "<code>ichnode study show</code>",
            "href=\"/deliveries?destination=pacs%20%26%20co&amp;state=given-up\"", "href=\"/system\"",
            "&lt;b&gt;1.0 GiB&lt;/b&gt;", "data-topics=\"alerts\"", "No alert has been over yet.",
        ] {
            #expect(body.contains(text), "\(text)")
        }
        #expect(!body.contains("<b>1.0"))
    }

    @Test func showsWhatIsOverAndHowOften() async throws {
        let fixture = try ConsoleFixture()
        for _ in 1...2 {
            _ = try await fixture.ledger.updateOperatorAlerts(to: conditions) { _ in [] }
            _ = try await fixture.ledger.updateOperatorAlerts(to: []) { _ in [] }
        }
        let body = try await fixture.get("/alerts").body
        #expect(body.contains("Active <span class=\"soft\">(0)</span>"))
        #expect(body.components(separatedBy: "<td data-label=\"Lasted\"").count - 1 == 6)
        #expect(body.components(separatedBy: "(time no. 2)").count - 1 == 3)
    }

    @Test func theHistoryHasPages() async throws {
        let fixture = try ConsoleFixture()
        let many = (1...Paging.size + 1).map { OperatorCondition(.processCrashes, "verb\($0)", "died") }
        _ = try await fixture.ledger.updateOperatorAlerts(to: many) { _ in [] }
        _ = try await fixture.ledger.updateOperatorAlerts(to: []) { _ in [] }
        #expect(try await fixture.get("/alerts").body.contains("href=\"/alerts?page=2\""))
        let second = try await fixture.get("/alerts?page=2").body
        #expect(second.components(separatedBy: "<td data-label=\"Lasted\"").count - 1 == 1)
    }
}
