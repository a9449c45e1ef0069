import Foundation
import Ledger
import Logging
import Testing
import WorkerProtocol

@testable import AlertDispatcher

@Suite struct StoreStatusTests {
    @Test(arguments: [0x0000, 0xB000, 0xB006, 0xB007, 0x0111] as [UInt16])
    func acceptedObjectsAreDelivered(status: UInt16) {
        #expect(StoreStatusTable.fate(status, comment: "") == .delivered(status: status))
    }

    @Test(arguments: [0xA700, 0xA7FF, 0x0110, 0x0112, 0xFE00] as [UInt16])
    func passingTroubleIsTriedAgain(status: UInt16) {
        if case .retry = StoreStatusTable.fate(status, comment: "") {} else { Issue.record("\(status)") }
    }

    @Test(arguments: [0xA900, 0xC000, 0xCFFF, 0x0122, 0x0124] as [UInt16])
    func refusalsAreFinal(status: UInt16) {
        if case .refused(_, let reason) = StoreStatusTable.fate(status, comment: "no patient") {
            #expect(reason.contains("no patient"))
        } else {
            Issue.record("\(status)")
        }
    }
}

@Suite struct OutboxTests {
    private let study = UID("1.2.3")!

    private func object(_ number: Int) -> ComposedObject {
        ComposedObject(
            path: "/r/\(number)", sopClassUID: ReportClass.enhanced.sopClassUID, sopInstanceUID: UID("2.25.\(number)")!)
    }

    private func owing(_ deliveries: [NewDelivery]) async throws -> SQLiteLedger {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let ledger = try SQLiteLedger(path: folder.appendingPathComponent("l.sqlite").path)
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.1")!, studyInstanceUID: study,
            seriesInstanceUID: UID("1.8")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        try await ledger.recordInstances([StoredInstance(record: record, path: "/x", receivedAt: .now)])
        let objects = deliveries.flatMap(\.objects).reduce(into: [ComposedObject]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        try await ledger.conclude(
            AnalysisEntry(
                studyInstanceUID: study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c", route: "d",
                startedAt: .now, completedAt: .now, outcome: .positive, reason: "", completion: "", studyProbability: 1,
                threshold: 0.5, flaggedSlices: 1), objects: objects, deliveries: deliveries)
        return ledger
    }

    private func running(
        _ ledger: SQLiteLedger, _ destinations: [any Destination], mostAge: Duration? = nil,
        until done: () async throws -> Bool
    ) async throws {
        let outbox = Outbox(
            ledger: ledger, destinations: destinations,
            policy: .init(first: .milliseconds(10), most: .milliseconds(40), mostAge: mostAge),
            clock: .system, logger: Logger(label: "test"))
        let task = Task { try await outbox.run() }
        for _ in 0..<400 where try await !done() { try await Task.sleep(for: .milliseconds(10)) }
        #expect(try await done())
        task.cancel()
        try await task.value
    }

    @Test func triesUntilEveryObjectIsAcceptedAndSendsNoneTwiceAfterThat() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1), object(2)])])
        // First nothing can be reached, then one of two objects is taken, then the other.
        let pacs = ScriptedDestination(name: "pacs", [nil, [0x0000, 0xA700], [0x0000]])
        try await running(ledger, [pacs]) { try await ledger.pendingDeliveryCount() == 0 }
        #expect(await pacs.asked == [[object(1), object(2)], [object(1), object(2)], [object(2)]])
        let delivery = try #require(try await ledger.study(study)?.deliveries.first)
        #expect(delivery.state == .delivered)
        #expect(delivery.attempts == 3)
    }

    @Test func aRefusedObjectEndsTheDeliveryAsDeadWithItsReason() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1), object(2)])])
        let pacs = ScriptedDestination(name: "pacs", [[0xC001, 0x0000]])
        try await running(ledger, [pacs]) { try await ledger.pendingDeliveryCount() == 0 }
        let delivery = try #require(try await ledger.study(study)?.deliveries.first)
        #expect(delivery.state == .dead)
        #expect(delivery.lastError?.contains("0xC001") == true)
        #expect(delivery.objects.map(\.state) == [.dead, .delivered])
    }

    @Test func whatIsOlderThanConfiguredIsGivenUpWithItsReason() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1)])])
        let pacs = ScriptedDestination(name: "pacs", Array(repeating: [0xA700], count: 1000))
        try await running(ledger, [pacs], mostAge: .milliseconds(100)) {
            try await ledger.pendingDeliveryCount() == 0
        }
        let delivery = try #require(try await ledger.study(study)?.deliveries.first)
        #expect(delivery.state == .dead)
        #expect(delivery.lastError == "too old to be tried again: peer is out of resources (0xA700)")
    }

    @Test func oneStuckDestinationDelaysNoOther() async throws {
        let ledger = try await owing([
            .init(destination: "stuck", priority: 0, objects: [object(1)]),
            .init(destination: "pacs", priority: 1, objects: [object(1)]),
        ])
        let pacs = ScriptedDestination(name: "pacs", [[0x0000]])
        try await running(ledger, [StuckDestination(), pacs]) { await pacs.asked.count == 1 }
    }

    @Test func aDestinationThatIsNoLongerConfiguredKeepsItsDeliveries() async throws {
        let ledger = try await owing([.init(destination: "gone", priority: 0, objects: [object(1)])])
        try await running(ledger, []) {
            try await ledger.study(study)?.deliveries.first?.lastError?.contains("no peer is named gone") == true
        }
        #expect(try await ledger.pendingDeliveryCount() == 1)
    }

    @Test func pausesDoubleUpToTheMost() {
        let policy = Outbox.RetryPolicy(first: .seconds(5), most: .seconds(60))
        let pauses = (1...6).map { policy.pause(afterAttempt: $0, jitter: 0.5) }
        for (pause, expected) in zip(pauses, [5.0, 10, 20, 40, 60, 60]) { #expect(abs(pause - expected) < 1e-9) }
        #expect(abs(policy.pause(afterAttempt: 1000, jitter: 1) - 72) < 1e-9)
        #expect(abs(policy.pause(afterAttempt: 1, jitter: 0) - 4) < 1e-9)
    }
}

/// Answers with the statuses of its script, one line for each attempt; nil: not reachable.
private actor ScriptedDestination: Destination {
    nonisolated let name: String
    private var script: [[UInt16]?]
    private(set) var asked: [[ComposedObject]] = []

    init(name: String, _ script: [[UInt16]?]) {
        self.name = name
        self.script = script
    }

    func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate] {
        asked.append(objects)
        guard !script.isEmpty, let statuses = script.removeFirst() else { throw WorkerError(.failed, "cannot connect") }
        return Dictionary(
            uniqueKeysWithValues: zip(objects, statuses).map {
                ($0.sopInstanceUID, StoreStatusTable.fate($1, comment: ""))
            })
    }
}

private struct StuckDestination: Destination {
    let name = "stuck"
    func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate] {
        try await Task.sleep(for: .seconds(3600))
        return [:]
    }
}
