import Foundation
import Ledger
import Testing
import WorkerProtocol

@testable import AlertDispatcher

/// What a destination does with several deliveries, and with what it refuses.
@Suite struct OutboxLaneTests {
    private let study = OutboxBench.study
    private func object(_ number: Int, _ reportClass: ReportClass = .enhanced) -> ComposedObject {
        var object = OutboxBench.object(number)
        object.sopClassUID = reportClass.sopClassUID
        return object
    }
    private func deliveries(_ ledger: SQLiteLedger) async throws -> [DeliveryEntry] {
        try await ledger.study(study)?.deliveries ?? []
    }

    // MARK: Order

    @Test func afterAnOutageAllGoesInOrderOfUrgencyAndAge() async throws {
        let ledger = try await OutboxBench.owing([
            .init(destination: "pacs", priority: 1, objects: [object(1)]),
            .init(destination: "pacs", priority: 0, objects: [object(2)]),
            .init(destination: "pacs", priority: 1, objects: [object(3)]),
            .init(destination: "pacs", priority: 0, objects: [object(4)]),
        ])
        let taken = Array(repeating: Script.statuses([0]), count: 4)
        let pacs = ScriptedDestination(name: "pacs", [.down, .down, .down] + taken)
        try await OutboxBench.running(ledger, [pacs]) { try await ledger.pendingDeliveryCount() == 0 }
        // While it is down only the first is tried: the others would fare the same.
        #expect(await pacs.asked.map { $0[0] } == [2, 2, 2, 2, 4, 1, 3].map { object($0) })
        #expect(try await deliveries(ledger).map(\.attempts) == [1, 4, 1, 1])
    }

    @Test func aDeliveryAtWhichThePeerFallsSilentIsOvertakenAfterThreeAttempts() async throws {
        let ledger = try await OutboxBench.owing([
            .init(destination: "pacs", priority: 0, objects: [object(1)]),
            .init(destination: "pacs", priority: 0, objects: [object(2)]),
        ])
        let pacs = ScriptedDestination(
            name: "pacs", [.silent, .silent, .silent, .silent, .statuses([0]), .statuses([0])])
        let time = SteppedTime()
        try await OutboxBench.running(ledger, [pacs], policy: .hourly, clock: time.clock) {
            let attempts = try await deliveries(ledger).map(\.attempts)
            time.set(hours: 2 * min(attempts[0], 3))
            return attempts == [4, 0]
        }
        // Another outbox knows of no pause of the destination; that of the delivery is in the ledger.
        try await OutboxBench.running(ledger, [pacs], policy: .hourly, clock: time.clock) {
            if try await deliveries(ledger).map(\.state) == [.pending, .delivered] { time.set(hours: 8) }
            return try await ledger.pendingDeliveryCount() == 0
        }
        #expect(await pacs.asked.map { $0[0] } == [1, 1, 1, 1, 2, 1].map { object($0) })
    }

    @Test func somethingNewIsTriedBeforeThePauseEnds() async throws {
        let ledger = try await OutboxBench.owing([.init(destination: "pacs", priority: 0, objects: [object(1)])])
        let pacs = ScriptedDestination(name: "pacs", [.down, .statuses([0]), .statuses([0])])
        var looksSinceRecorded = 0
        try await OutboxBench.running(ledger, [pacs], policy: .init(first: .seconds(3600), most: .seconds(3600))) {
            if try await deliveries(ledger).map(\.attempts) == [1] { looksSinceRecorded += 1 }
            // By then the lane has paused.
            if looksSinceRecorded == 20, try await deliveries(ledger).count == 1 {
                try await ledger.conclude(
                    OutboxBench.analysis, objects: [],
                    deliveries: [.init(destination: "pacs", priority: 0, objects: [object(2)])])
            }
            return try await ledger.pendingDeliveryCount() == 0
        }
        #expect(await pacs.asked.map { $0[0] } == [object(1), object(1), object(2)])
    }

    // MARK: Other SOP classes

    private func owingReport() async throws -> SQLiteLedger {
        try await OutboxBench.owing([
            .init(
                destination: "pacs", priority: 0, objects: [object(1, .comprehensive3d), object(9)],
                alternatives: [object(2, .comprehensive), object(3)])
        ])
    }

    @Test func aReportThatIsRefusedIsSentInTheNextClassAtOnce() async throws {
        let ledger = try await owingReport()
        let pacs = ScriptedDestination(name: "pacs", [.statuses([0xA900]), .statuses([0x0122]), .statuses([0, 0])])
        try await OutboxBench.running(ledger, [pacs], policy: .init(first: .seconds(3600), most: .seconds(3600))) {
            try await ledger.pendingDeliveryCount() == 0
        }
        #expect(await pacs.asked.map { $0[0].sopInstanceUID.string } == ["2.25.1", "2.25.2", "2.25.3"])
        let delivery = try #require(try await deliveries(ledger).first)
        #expect(delivery.state == .delivered)
        #expect(delivery.objects.map(\.object) == [object(3), object(9)])
    }

    @Test func aReportRefusedInEveryClassIsDeadAndTheOthersAreDelivered() async throws {
        let ledger = try await owingReport()
        let refusals = Array(repeating: Script.statuses([0xC000]), count: 3)
        let pacs = ScriptedDestination(name: "pacs", refusals + [.statuses([0])] + refusals)
        try await OutboxBench.running(ledger, [pacs]) { try await ledger.pendingDeliveryCount() == 0 }
        var delivery = try #require(try await deliveries(ledger).first)
        #expect(delivery.state == .dead)
        #expect(delivery.objects.map(\.state) == [.dead, .delivered])
        #expect(delivery.lastError?.contains("0xC000") == true)
        // Tried again by an operator, from the first class on.
        _ = try await ledger.retryDelivery(delivery.id)
        try await OutboxBench.running(ledger, [pacs]) { try await ledger.pendingDeliveryCount() == 0 }
        delivery = try #require(try await deliveries(ledger).first)
        #expect(delivery.state == .dead)
        #expect(await pacs.asked.suffix(3).map { $0[0].sopInstanceUID.string } == ["2.25.1", "2.25.2", "2.25.3"])
    }

    // MARK: Fallback

    private func pacs(_ script: [Script], after: Duration = .zero, commitment: (any Commitment)? = nil)
        -> ScriptedDestination
    {
        ScriptedDestination(
            name: "pacs", script, commitment: commitment, fallback: .init(name: "backup", after: after))
    }

    @Test func whileADestinationIsOutOfReachItsFallbackIsSentEverything() async throws {
        let ledger = try await OutboxBench.owing([
            .init(destination: "pacs", priority: 0, objects: [object(1), object(2)]),
            .init(destination: "pacs", priority: 1, objects: [object(3)]),
        ])
        // One object is taken before the connection is lost for good.
        let pacs = pacs([.statuses([0, 0xA700])], after: .milliseconds(100))
        let backup = ScriptedDestination(name: "backup", [.statuses([0, 0]), .statuses([0])])
        try await OutboxBench.running(ledger, [pacs, backup]) { try await ledger.pendingDeliveryCount() == 0 }
        #expect(await backup.asked.contains([object(1), object(2)]))
        let taken = try await deliveries(ledger)
        #expect(taken.map(\.state) == [.delivered, .delivered])
        #expect(taken.map(\.takenBy) == ["backup", "backup"])
        let texts = try await ledger.study(study)?.events.map(\.text) ?? []
        #expect(texts.contains("to pacs: 2 objects accepted by backup in its place"))
    }

    @Test func whoHasTakenItIsAskedForCommitment() async throws {
        let ledger = try await OutboxBench.owing([.init(destination: "pacs", priority: 0, objects: [object(1)])])
        let archive = ScriptedCommitment([.report([:])])
        let pacs = pacs([], commitment: ScriptedCommitment([]))
        let backup = ScriptedDestination(name: "backup", [.statuses([0])], commitment: archive)
        try await OutboxBench.running(ledger, [pacs, backup], commits: true) {
            try await deliveries(ledger).first?.state == .delivered
        }
        #expect(await archive.asked == [[object(1)]])
    }

    @Test func aReportThatIsNotCommittedIsNotSentInAnotherClass() async throws {
        let ledger = try await owingReport()
        let archive = ScriptedCommitment([.report([0: 0x0122])])
        let pacs = ScriptedDestination(name: "pacs", [.statuses([0, 0])], commitment: archive)
        try await OutboxBench.running(ledger, [pacs], commits: true) {
            try await deliveries(ledger).first?.state == .dead
        }
        #expect(await pacs.asked.count == 1)
    }

    @Test func withoutItsFallbackTheDestinationIsTriedOn() async throws {
        let ledger = try await OutboxBench.owing([.init(destination: "pacs", priority: 0, objects: [object(1)])])
        let pacs = pacs([.down, .down, .statuses([0])])
        let backup = ScriptedDestination(name: "backup", [])
        try await OutboxBench.running(ledger, [pacs, backup]) { try await ledger.pendingDeliveryCount() == 0 }
        let delivery = try #require(try await deliveries(ledger).first)
        #expect(delivery.state == .delivered && delivery.takenBy == nil)
    }

    // MARK: Messages

    @Test func messagesAreSentOneAfterTheOtherUntilEachIsTaken() async throws {
        let ledger = try await OutboxBench.owing(
            (1...4).map { .init(destination: "ris", priority: 0, message: .init(id: "\($0)", body: "body \($0)")) })
        let ris = ScriptedReceiver([
            nil, .delivered, .retry(reason: "AE"), .delivered, .refused(reason: "no such patient"), .delivered,
        ])
        let time = SteppedTime()
        try await OutboxBench.running(ledger, [ris], policy: .hourly, clock: time.clock) {
            switch try await deliveries(ledger).map(\.attempts) {
            case [1, 0, 0, 0]: time.set(hours: 2)
            case [2, 1, 1, 1]: time.set(hours: 4)
            default: break
            }
            return try await ledger.pendingDeliveryCount() == 0
        }
        #expect(await ris.asked == ["1", "1", "2", "3", "4", "2"])
        #expect(try await deliveries(ledger).map(\.state) == [.delivered, .delivered, .delivered, .dead])
        #expect(try await deliveries(ledger).last?.lastError == "no such patient")
        #expect(try await deliveries(ledger).last?.isUnheard == false)
    }

    @Test func aMessageIsUnheardWhileItsReceiverIsOutOfReachAndNoMoreOnceItAnswered() async throws {
        let ledger = try await OutboxBench.owing([
            .init(destination: "ris", priority: 0, message: .init(id: "1", body: "body"))
        ])
        try await OutboxBench.running(ledger, [ScriptedReceiver([nil, nil])]) {
            try await deliveries(ledger).first.map { $0.attempts > 1 } == true
        }
        #expect(try await deliveries(ledger).first?.isUnheard == true)
        try await OutboxBench.running(ledger, [ScriptedReceiver([.retry(reason: "AE"), nil])]) {
            try await deliveries(ledger).first?.isUnheard == false
        }
        // Whatever an operator does.
        let id = try #require(try await deliveries(ledger).first?.id)
        #expect(try await ledger.retryDelivery(id)?.isUnheard == false)
        #expect(try await ledger.discardDelivery(id)?.isUnheard == false)
    }
}
