import Foundation
import GRDB
import Synchronization
import Testing
import WorkerProtocol

@testable import Ledger

/// What the outbox is asked for.
@Suite struct DeliveryQueryTests {
    private final class Time: Sendable {
        let now = Mutex(Date(timeIntervalSince1970: 1000))
        var clock: WallClock { WallClock(now: { self.now.withLock { $0 } }, sleep: { _ in }) }
        func set(_ seconds: Double) { now.withLock { $0 = Date(timeIntervalSince1970: seconds) } }
    }

    private let time = Time()
    private let study = UID("1.2.3")!

    /// With so many deliveries to each destination.
    private func ledger(_ counts: [String: Int]) async throws -> SQLiteLedger {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("outbox-\(UUID()).sqlite")
        let ledger = try SQLiteLedger(path: file.path, clock: time.clock)
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.1")!, studyInstanceUID: study,
            seriesInstanceUID: UID("1.8")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        try await ledger.recordInstances([StoredInstance(record: record, path: "/1", receivedAt: time.clock.now())])
        let object = ComposedObject(
            path: "/r/1", sopClassUID: UID("1.2.840.10008.5.1.4.1.1.88.22")!, sopInstanceUID: UID("2.25.7")!)
        let entry = AnalysisEntry(
            studyInstanceUID: study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c", route: "d",
            startedAt: time.clock.now(), completedAt: time.clock.now(), outcome: .negative, reason: "",
            completion: "", studyProbability: nil, threshold: nil, flaggedSlices: 0)
        try await ledger.conclude(
            entry, objects: [],
            deliveries: counts.sorted { $0.key < $1.key }.flatMap { name, count in
                (0..<count).map { _ in NewDelivery(destination: name, priority: 1, objects: [object]) }
            })
        return ledger
    }

    private func settle(
        _ ledger: SQLiteLedger, _ id: Int64, _ state: DeliveryState, error: String? = nil, at seconds: Double? = nil
    ) async throws {
        var delivery = try #require(
            try await ledger.deliveries(DeliveryQuery(limit: 100)).entries.first { $0.id == id })
        (delivery.state, delivery.lastError) = (state, error)
        delivery.attempts += 1
        delivery.deliveredAt = seconds.map(Date.init(timeIntervalSince1970:))
        // Not by `updateDelivery`, which withdraws earlier ones of the study where one is delivered.
        try await ledger.database.write { [delivery] database in
            try database.execute(
                sql: "UPDATE delivery SET state = ?, last_error = ?, attempts = ?, delivered_at = ? WHERE id = ?",
                arguments: [
                    delivery.state.rawValue, delivery.lastError, delivery.attempts,
                    delivery.deliveredAt?.timeIntervalSince1970, id,
                ])
        }
    }

    @Test func pagesNewestFirstWithTheTotal() async throws {
        let ledger = try await ledger(["pacs": 7, "ris": 2])
        var query = DeliveryQuery(destination: "pacs", limit: 3)
        var seen: [Int64] = []
        for offset in stride(from: 0, to: 9, by: 3) {
            query.offset = offset
            let page = try await ledger.deliveries(query)
            #expect(page.total == 7)
            seen += page.entries.map(\.id)
        }
        #expect(seen == [7, 6, 5, 4, 3, 2, 1])
        let beyond = try await ledger.deliveries(DeliveryQuery(limit: 3, offset: 9))
        #expect(beyond.entries.isEmpty && beyond.total == 9)
        #expect(try await ledger.deliveries(DeliveryQuery(limit: -1)).entries.isEmpty)
    }

    @Test func filtersByStateAndDestination() async throws {
        let ledger = try await ledger(["pacs": 3, "ris": 2])
        try await settle(ledger, 1, .dead)
        try await settle(ledger, 2, .delivered, at: 1001)
        try await settle(ledger, 4, .accepted)
        func found(_ destination: String?, _ states: Set<DeliveryState>) async throws -> [Int64] {
            let page = try await ledger.deliveries(
                DeliveryQuery(destination: destination, states: states, limit: 10))
            #expect(page.total == page.entries.count)
            return page.entries.map(\.id)
        }
        #expect(try await found("pacs", [.dead]) == [1])
        #expect(try await found(nil, [.dead, .accepted]) == [4, 1])
        #expect(try await found(nil, DeliveryQuery.openStates) == [5, 4, 3, 1])
        #expect(try await found("ris", []) == [5, 4])
        #expect(try await found("pacs' OR 1=1 --", []) == [])
    }

    @Test func tellsHowEachDestinationFares() async throws {
        let ledger = try await ledger(["pacs": 6, "gone": 1])
        // 1 goes to "gone", 2 to 7 to "pacs".
        try await settle(ledger, 2, .dead, error: "refused")
        try await settle(ledger, 3, .pending, error: "no answer")
        try await settle(ledger, 4, .delivered, at: 1002)
        try await settle(ledger, 5, .delivered, at: 1010)
        try await settle(ledger, 6, .delivered, at: 1030)
        let since = Date(timeIntervalSince1970: 1005)
        let all = try await ledger.destinationFigures(of: ["ris", "pacs"], since: since)
        #expect(all.map(\.destination) == ["gone", "pacs", "ris"])
        #expect(all[0].waiting == 1 && all[0].waitingSince == Date(timeIntervalSince1970: 1000))
        #expect(all[1].waiting == 2 && all[1].givenUp == 1 && all[1].uncommitted == 0)
        #expect(all[1].delivered == 2 && all[1].medianSeconds == 10)
        #expect(all[1].lastDeliveredAt == Date(timeIntervalSince1970: 1030))
        #expect(all[1].lastError == "no answer")
        #expect(all[2] == DestinationFigures("ris"))
    }

    @Test func pagesAlertsByWhetherTheyAreOver() async throws {
        let ledger = try await ledger([:])
        let conditions = (1...5).map { OperatorCondition(.deliveryGivenUp, "d\($0)", "text") }
        _ = try await ledger.updateOperatorAlerts(to: conditions) { _ in [] }
        _ = try await ledger.updateOperatorAlerts(to: Array(conditions.prefix(2))) { _ in [] }
        let active = try await ledger.operatorAlerts(.active, limit: 1, offset: 1)
        #expect(active.entries.map(\.subject) == ["d1"] && active.total == 2)
        let over = try await ledger.operatorAlerts(.over, limit: 2, offset: 2)
        #expect(over.entries.map(\.subject) == ["d3"] && over.total == 3)
        #expect(try await ledger.operatorAlerts(.all, limit: 10, offset: 0).total == 5)
    }
}
