import Foundation
import Ledger
import Testing
import WorkerProtocol

@testable import AlertDispatcher

@Suite struct FlagTimesTests {
    private let arrival = Date(timeIntervalSince1970: 1000)

    private func ledger(lastArrival: Date?) async throws -> SQLiteLedger {
        let ledger = try await OutboxBench.owing([])
        var analysis = OutboxBench.analysis
        let report = OutboxBench.object(1)
        (analysis.revisionDigest, analysis.completedAt, analysis.lastArrival) = ("flag", .now, lastArrival)
        analysis.report = ImageReference(
            sopClassUID: report.sopClassUID, sopInstanceUID: report.sopInstanceUID, seriesInstanceUID: UID("1.5")!)
        try await ledger.conclude(
            analysis, objects: [],
            deliveries: ["pacs", "archive"].map { NewDelivery(destination: $0, priority: 0, objects: [report]) })
        return ledger
    }

    private func take(_ delivery: DeliveryEntry, _ ledger: SQLiteLedger) async throws -> FlagTimes.Flag? {
        var delivery = delivery
        delivery.objects[0].state = .delivered
        delivery.state = .delivered
        try await ledger.updateDelivery(delivery)
        return try await FlagTimes.flag(ofReportIn: delivery, ledger)
    }

    @Test func onlyTheFirstDestinationFlags() async throws {
        let ledger = try await ledger(lastArrival: arrival)
        let deliveries = try await ledger.deliveries(ofStudy: OutboxBench.study)
        #expect(deliveries.count == 2)
        let first = try #require(try await take(deliveries[0], ledger))
        #expect(first.lastArrival == arrival && first.outcome == .positive)
        #expect(first.report == OutboxBench.object(1).sopInstanceUID)
        #expect(try await take(deliveries[1], ledger) == nil)
    }

    @Test func whatAnOperatorAskedForIsNotMeasured() async throws {
        let ledger = try await ledger(lastArrival: nil)
        let delivery = try #require(try await ledger.deliveries(ofStudy: OutboxBench.study).first)
        #expect(try await take(delivery, ledger) == nil)
    }
}
