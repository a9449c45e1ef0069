import Foundation
import Ledger
import Logging
import TestPrograms
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
    private let study = OutboxBench.study

    private func object(_ number: Int) -> ComposedObject { OutboxBench.object(number) }
    private func owing(_ deliveries: [NewDelivery]) async throws -> SQLiteLedger {
        try await OutboxBench.owing(deliveries)
    }
    private func running(
        _ ledger: SQLiteLedger, _ destinations: [any Destination], mostAge: Duration? = nil,
        commitments: CommitmentDesk? = nil, until done: () async throws -> Bool
    ) async throws {
        try await OutboxBench.running(
            ledger, destinations, policy: .init(first: .milliseconds(10), most: .milliseconds(40), mostAge: mostAge),
            commitments: commitments, until: done)
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

    @Test func whatIsTakenIsNotSentAgainWhileTheLedgerRefusesToRecordIt() async throws {
        let ledger = try await owing([
            .init(destination: "pacs", priority: 0, objects: [object(1)]),
            .init(destination: "pacs", priority: 0, objects: [object(2)]),
        ])
        try await OutboxBench.refuseToRecord(ledger)
        let clock = WallClock(
            now: { Date() },
            sleep: { pause in
                // The third between two tries to record it: nothing else waits as long.
                if pause > .seconds(3) { try await OutboxBench.recordAgain(ledger) }
                try await Task.sleep(for: min(pause, .milliseconds(5)))
            })
        let pacs = ScriptedDestination(name: "pacs", [[0x0000], [0x0000]])
        try await OutboxBench.running(ledger, [pacs], clock: clock) { try await ledger.pendingDeliveryCount() == 0 }
        #expect(await pacs.asked == [[object(1)], [object(2)]])
        #expect(try await ledger.study(study)?.deliveries.map(\.attempts) == [1, 1])
    }

    @Test func whatWasAnsweredBeforeTheDeadlineStaysAnswered() async throws {
        let said = FileManager.default.temporaryDirectory.appendingPathComponent("said-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: said) }
        let answer = SendEvent.response(sopInstanceUID: object(1).sopInstanceUID, status: 0, comment: "")
        try (workerFrame(Hello(verb: "send", confinement: .init())) + workerFrame(answer)).write(to: said)
        // One process: what is killed leaves nobody behind who holds the channel.
        let program = WorkerProgram(
            path: "/bin/sh", arguments: ["-c", "cat \"$0\" >&3; exec cat <&3 >/dev/null", said.path])
        let pacs = DICOMDestination(
            name: "pacs", peer: RemotePeer(aeTitle: AETitle("PACS1")!, host: "127.0.0.1", port: 104),
            callingAETitle: AETitle("ICHNODE")!, program: program, deadline: .seconds(4))
        let fates = try await pacs.deliver([object(1), object(2)])
        #expect(fates[object(1).sopInstanceUID] == .delivered(status: 0))
        #expect(fates[object(2).sopInstanceUID] == .retry(status: nil, reason: "the peer took too long"))
    }

    @Test func aDestinationThatIsNoLongerConfiguredKeepsItsDeliveries() async throws {
        let ledger = try await owing([.init(destination: "gone", priority: 0, objects: [object(1)])])
        try await running(ledger, []) {
            try await ledger.study(study)?.deliveries.first?.lastError?.contains("no destination is named gone") == true
        }
        #expect(try await ledger.pendingDeliveryCount() == 1)
    }

    // MARK: Storage commitment

    private func desk(_ ledger: SQLiteLedger, _ destinations: [any Destination]) -> CommitmentDesk {
        OutboxBench.desk(ledger, destinations)
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

    @Test func thatASecondReportDidNotComeStaysSaidWhenAllIsAcceptedAgain() async throws {
        let ledger = try await owing([.init(destination: "pacs", priority: 0, objects: [object(1)])])
        let archive = ScriptedCommitment([.silence, .silence, .hang], timeout: .milliseconds(50))
        let pacs = ScriptedDestination(name: "pacs", [[0], [0], [0]], commitment: archive)
        try await commitment(ledger, pacs) {
            try await delivery(ledger).map { $0.state == .accepted && $0.attempts == 3 } == true
        }
        #expect(try await delivery(ledger)?.lastError == DeliveryEntry.unreported)
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
