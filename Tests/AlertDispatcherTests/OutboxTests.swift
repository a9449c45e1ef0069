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

    /// - Parameter commitments: beside the outbox.
    private func running(
        _ ledger: SQLiteLedger, _ destinations: [any Destination], mostAge: Duration? = nil,
        commitments: CommitmentDesk? = nil,
        until done: () async throws -> Bool
    ) async throws {
        let outbox = Outbox(
            ledger: ledger, destinations: destinations,
            policy: .init(first: .milliseconds(10), most: .milliseconds(40), mostAge: mostAge),
            clock: .system, logger: Logger(label: "test"))
        let task = Task { try await outbox.run() }
        let other = Task { try await commitments?.run() }
        for _ in 0..<400 where try await !done() { try await Task.sleep(for: .milliseconds(10)) }
        #expect(try await done())
        task.cancel()
        other.cancel()
        try await task.value
        try await other.value
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

    // MARK: Storage commitment

    private func desk(_ ledger: SQLiteLedger, _ destinations: [any Destination]) -> CommitmentDesk {
        CommitmentDesk(
            ledger: ledger, destinations: destinations,
            policy: .init(first: .milliseconds(10), most: .milliseconds(40)), clock: .system,
            logger: Logger(label: "test"))
    }

    private func delivery(_ ledger: SQLiteLedger) async throws -> DeliveryEntry? {
        try await ledger.study(study)?.deliveries.first
    }

    private func commitment(
        _ ledger: SQLiteLedger, _ pacs: ScriptedDestination, until done: () async throws -> Bool
    ) async throws {
        try await running(ledger, [pacs], commitments: desk(ledger, [pacs]), until: done)
    }

    @Test func whatIsAcceptedIsDeliveredWhenItIsCommitted() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1), object(2)])])
        let archive = ScriptedCommitment([.unreachable, .report([:])])
        let pacs = ScriptedDestination(name: "pacs", [[0, 0]], commitment: archive)
        try await commitment(ledger, pacs) { try await delivery(ledger)?.state == .delivered }
        #expect(await archive.asked == [[object(1), object(2)], [object(1), object(2)]])
        #expect(await Set(archive.transactions).count == 2)
        #expect(await pacs.asked.count == 1)
        let texts = try await ledger.study(study)?.events.map(\.text).suffix(3)
        #expect(
            texts == [
                "to pacs: 2 objects accepted, commitment is asked for",
                "to pacs: commitment cannot be asked for: cannot connect", "to pacs: 2 objects committed",
            ])
    }

    @Test func whatIsNotCommittedIsSentAndAskedForAgainAlone() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1), object(2)])])
        let archive = ScriptedCommitment([.report([1: 0x0112]), .report([:])])
        let pacs = ScriptedDestination(name: "pacs", [[0, 0], nil, [0]], commitment: archive)
        try await commitment(ledger, pacs) { try await delivery(ledger)?.state == .delivered }
        #expect(await pacs.asked == [[object(1), object(2)], [object(2)], [object(2)]])
        #expect(await archive.asked == [[object(1), object(2)], [object(2)]])
        #expect(try await delivery(ledger)?.attempts == 3)
    }

    @Test func whatIsNeverCommittedIsGivenUpWithItsReason() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1), object(2)])])
        let pacs = ScriptedDestination(
            name: "pacs", [[0, 0]], commitment: ScriptedCommitment([.report([1: 0x0122])]))
        try await commitment(ledger, pacs) { try await delivery(ledger)?.state == .dead }
        let ended = try #require(try await delivery(ledger))
        #expect(ended.objects.map(\.state) == [.delivered, .dead])
        #expect(ended.lastError?.contains("commits no objects of this SOP class (0x122)") == true)
    }

    @Test func withoutAReportInTimeAllIsSentAgain() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1)])])
        let archive = ScriptedCommitment([.silence, .silence, .report([:])], timeout: .milliseconds(50))
        let pacs = ScriptedDestination(name: "pacs", [[0], [0], [0]], commitment: archive)
        try await commitment(ledger, pacs) { try await delivery(ledger)?.state == .delivered }
        #expect(await pacs.asked.count == 3)
        let texts = try await ledger.study(study)?.events.map(\.text) ?? []
        #expect(texts.count { $0.contains("no report of commitment came in time") } == 1)
    }

    @Test func aReportOnAnotherAssociationMayComeBeforeTheResponseAndTwice() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1)])])
        let archive = ScriptedCommitment([.reportBefore([:])])
        let pacs = ScriptedDestination(name: "pacs", [[0]], commitment: archive)
        let desk = desk(ledger, [pacs])
        await archive.tell { await desk.take($0) }
        try await running(ledger, [pacs], commitments: desk) { await archive.asked.count == 1 }
        #expect(try await delivery(ledger)?.state == .delivered)
        let transaction = try #require(try await delivery(ledger)?.transactionUID)
        #expect(await archive.answers == [.recorded])
        let report = CommitmentReport(transactionUID: transaction, committed: [object(1).sopInstanceUID])
        #expect(await desk.take(report) == .recorded)
        #expect(await desk.take(CommitmentReport(transactionUID: UID("1.2")!, committed: [])) == .unknown)
    }

    /// The request waits for a report on its own association while the object is sent again because of another.
    @Test func aRequestThatEndsLateSaysNothingOfWhatWasSentMeanwhile() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1)])])
        let archive = ScriptedCommitment([.reportBefore([0: 0x0112], .seconds(1)), .report([:])])
        let pacs = ScriptedDestination(name: "pacs", [[0], [0]], commitment: archive)
        let desk = desk(ledger, [pacs])
        await archive.tell { await desk.take($0) }
        try await running(ledger, [pacs], commitments: desk) { try await delivery(ledger)?.state == .delivered }
        #expect(await pacs.asked.count == 2)
        #expect(await archive.asked.count == 2)
    }

    @Test func anObjectThatAReportDoesNotNameIsSentAgain() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1), object(2)])])
        let archive = ScriptedCommitment([.silence])
        let pacs = ScriptedDestination(name: "pacs", [[0, 0]], commitment: archive)
        let desk = desk(ledger, [pacs])
        try await running(ledger, [pacs], commitments: desk) {
            try await delivery(ledger)?.commitmentAskedAt != nil
        }
        let transaction = try #require(try await delivery(ledger)?.transactionUID)
        let report = CommitmentReport(transactionUID: transaction, committed: [object(1).sopInstanceUID])
        #expect(await desk.take(report) == .recorded)
        #expect(try await delivery(ledger)?.objects.map(\.state) == [.delivered, .pending])
    }

    @Test func aPeerThatIsNoLongerAskedHasDeliveredWhatItAccepted() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1)])])
        let archive = ScriptedCommitment([.unreachable])
        let asked = ScriptedDestination(name: "pacs", [[0]], commitment: archive)
        try await commitment(ledger, asked) { try await delivery(ledger)?.lastError == "cannot connect" }
        try await commitment(ledger, ScriptedDestination(name: "pacs", [])) {
            try await delivery(ledger)?.state == .delivered
        }
        #expect(try await ledger.study(study)?.events.last?.text == "to pacs: 1 objects accepted")
    }

    @Test func oneDestinationThatHangsWhenAskedDelaysNoOther() async throws {
        let ledger = try await owing([
            .init(destination: "stuck", priority: 0, objects: [object(1)]),
            .init(destination: "pacs", priority: 1, objects: [object(1)]),
        ])
        let stuck = ScriptedDestination(name: "stuck", [[0]], commitment: ScriptedCommitment([.hang]))
        let pacs = ScriptedDestination(name: "pacs", [[0]], commitment: ScriptedCommitment([.report([:])]))
        try await running(ledger, [stuck, pacs], commitments: desk(ledger, [stuck, pacs])) {
            try await ledger.study(study)?.deliveries.map(\.state) == [.accepted, .delivered]
        }
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
    nonisolated let commitment: (any Commitment)?
    private var script: [[UInt16]?]
    private(set) var asked: [[ComposedObject]] = []

    init(name: String, _ script: [[UInt16]?], commitment: (any Commitment)? = nil) {
        self.name = name
        self.commitment = commitment
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

/// Answers requests for commitment one after the other.
private actor ScriptedCommitment: Commitment {
    enum Answer {
        case unreachable, silence, hang
        /// At once; with Failure Reasons by index of the object.
        case report([Int: UInt16])
        /// On another association, before the response.
        case reportBefore([Int: UInt16], Duration = .zero)
    }

    nonisolated let timeout: Duration
    private var script: [Answer]
    private var told: (@Sendable (CommitmentReport) async -> CommitmentAnswer)?
    private(set) var asked: [[ComposedObject]] = []
    private(set) var transactions: [UID] = []
    private(set) var answers: [CommitmentAnswer] = []

    init(_ script: [Answer], timeout: Duration = .seconds(3600)) {
        self.script = script
        self.timeout = timeout
    }

    func tell(_ taker: @escaping @Sendable (CommitmentReport) async -> CommitmentAnswer) { told = taker }

    func request(_ objects: [ComposedObject], under transaction: UID) async throws -> CommitmentReport? {
        transactions.append(transaction)
        let uids = objects.map(\.sopInstanceUID)
        defer { asked.append(objects) }
        guard !script.isEmpty else { throw WorkerError(.failed, "cannot connect") }
        switch script.removeFirst() {
        case .unreachable: throw WorkerError(.failed, "cannot connect")
        case .silence: return nil
        case .hang:
            try await Task.sleep(for: .seconds(3600))
            return nil
        case .report(let failures): return Self.report(transaction, uids, failures)
        case .reportBefore(let failures, let pause):
            if let answer = await told?(Self.report(transaction, uids, failures)) { answers.append(answer) }
            try await Task.sleep(for: pause)
            return nil
        }
    }

    private static func report(_ transaction: UID, _ uids: [UID], _ failures: [Int: UInt16]) -> CommitmentReport {
        CommitmentReport(
            transactionUID: transaction, committed: uids.indices.filter { failures[$0] == nil }.map { uids[$0] },
            failed: failures.map { .init(sopInstanceUID: uids[$0.key], reason: $0.value) })
    }
}
