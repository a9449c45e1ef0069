import Foundation
import Testing
import WorkerProtocol

@testable import Ledger

@Suite struct ResendTests {
    private let study = UID("1.2.3")!
    private let ledger: SQLiteLedger

    init() async throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("resend-\(UUID()).sqlite")
        ledger = try SQLiteLedger(path: file.path)
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.4.1")!,
            studyInstanceUID: study, seriesInstanceUID: UID("1.2.3.4")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        try await ledger.recordInstances([StoredInstance(record: record, path: "/spool/1", receivedAt: .now)])
    }

    private func object(_ revision: Int, _ number: Int) -> ComposedObject {
        ComposedObject(
            path: "/results/\(revision)/\(number).dcm", sopClassUID: UID("1.2.840.10008.5.1.4.1.1.88.22")!,
            sopInstanceUID: UID("2.25.\(revision).\(number)")!)
    }

    private func conclude(_ revision: Int, to destinations: String...) async throws {
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        let entry = AnalysisEntry(
            studyInstanceUID: study, revisionDigest: "r\(revision)", modelDigest: "m", configurationDigest: "c",
            route: "default", startedAt: .now, completedAt: .now, outcome: .positive, reason: "", completion: "grace",
            studyProbability: 0.9, threshold: 0.5, flaggedSlices: 1)
        let objects = [object(revision, 1), object(revision, 2)]
        try await ledger.conclude(
            entry, objects: objects + [object(revision, 3)],
            deliveries: destinations.map {
                NewDelivery(destination: $0, priority: 0, objects: objects, alternatives: [object(revision, 3)])
            } + [NewDelivery(destination: "ris", priority: 0, message: OutboundMessage(id: "\(revision)", body: "b"))])
    }

    private func settle(_ destination: String, _ change: (inout DeliveryEntry) -> Void) async throws {
        for var delivery in try await ledger.deliveries(ofStudy: study) where delivery.destination == destination {
            change(&delivery)
            try await ledger.updateDelivery(delivery)
        }
    }

    @Test func sendsTheLatestResultsAgainToEverybodyThatWasOwedThem() async throws {
        try await conclude(1, to: "pacs", "archive", "old")
        for name in ["pacs", "archive", "old"] { try await settle(name) { $0.state = .delivered } }
        try await conclude(2, to: "pacs", "archive")
        try await settle("pacs") { delivery in
            delivery.state = .delivered
            delivery.attempts = 3
            for index in delivery.objects.indices {
                (delivery.objects[index].state, delivery.objects[index].status) = (.delivered, 0)
            }
        }
        // Refused its report, and was offered the alternative.
        try await settle("archive") { $0.objects[0].refuse(status: 0x0122, reason: "no such class") }
        let before = try await ledger.deliveries(ofStudy: study)
        let again = try await ledger.resendDeliveries(ofStudy: study)
        #expect(again.map(\.destination) == ["pacs", "archive"])
        #expect(again.allSatisfy { $0.state == .pending && $0.attempts == 0 && $0.message == nil })
        #expect(again[0].objects.map(\.object) == [object(2, 1), object(2, 2)])
        #expect(again[0].objects.allSatisfy { $0.state == .pending && $0.status == nil && $0.refusals == nil })
        #expect(again[0].objects[0].alternatives == [object(2, 3)])
        #expect(again[1].objects.map(\.object) == [object(2, 3), object(2, 2)])
        #expect(again[1].objects[0].alternatives == [object(2, 1)])
        // What was delivered stays as it was; what was open is withdrawn for it, and messages stay alone.
        let after = try await ledger.deliveries(ofStudy: study)
        #expect(after.count == before.count + 2)
        for (old, new) in zip(before, after) {
            let isWithdrawn = old.destination == "archive" && old.objects.first?.object.path.contains("/2/") == true
            #expect(new.state == (isWithdrawn ? .discarded : old.state), "\(old.id) to \(old.destination)")
        }
        let events = try #require(try await ledger.study(study)).events
        #expect(events.last?.kind == "operator" && events.last?.text == "results are sent again to pacs, archive")
        #expect(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 5).map(\.id) == [again[0].id])
    }

    @Test func sentAgainTwiceItIsOwedOnce() async throws {
        try await conclude(1, to: "pacs")
        try await settle("pacs") { $0.state = .dead }
        _ = try await ledger.resendDeliveries(ofStudy: study)
        let again = try await ledger.resendDeliveries(ofStudy: study)
        #expect(again.count == 1)
        #expect(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 5).map(\.id) == again.map(\.id))
    }

    @Test func whatHasNoReportIsNotSent() async throws {
        try await conclude(1)
        #expect(try await ledger.resendDeliveries(ofStudy: study).isEmpty)
        #expect(try await ledger.resendDeliveries(ofStudy: UID("9.9")!).isEmpty)
        #expect(try #require(try await ledger.study(study)).events.last?.kind == "concluded")
    }
}
