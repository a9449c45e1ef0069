import Foundation
import Ledger
import Logging
import Synchronization
import Testing
import WorkerProtocol

@testable import AlertDispatcher

@Suite struct OperatorAlertPolicyTests {
    private let now = Date(timeIntervalSince1970: 1_000_000)
    private let policy = OperatorAlertPolicy(
        noResult: .seconds(1200), destinationFailing: .seconds(900), diskBelow: 1000, crashes: 5,
        crashWindow: .seconds(3600), certificate: .seconds(86400))

    private func kinds(_ facts: OperatorFacts, active: Set<OperatorAlertKind> = []) -> [OperatorAlertKind] {
        policy.conditions(facts, active: active, at: now).map(\.kind)
    }

    private func study(_ state: StudyState, age: Double) -> OpenWork.Study {
        OpenWork.Study(studyInstanceUID: UID("1.2.3")!, state: state, since: now - age, lastReceivedAt: now)
    }

    @Test func nothingIsWrongWithANodeThatHasNothingToDo() { #expect(kinds(OperatorFacts()).isEmpty) }

    @Test(arguments: StudyState.allCases)
    func aStudyWithoutAResultIsSaidAfterItsTimeInEveryState(state: StudyState) {
        #expect(kinds(OperatorFacts(work: OpenWork(studies: [study(state, age: 1199)]))).isEmpty)
        let found = policy.conditions(
            OperatorFacts(work: OpenWork(studies: [study(state, age: 1200)])), active: [], at: now)
        #expect(found.map(\.kind) == [.noResult])
        #expect(found.map(\.subject) == ["1.2.3"])
    }

    @Test func aStudysTextSaysWhatItIsStuckAt() {
        var texts: [String] = []
        for (state, owed, refused) in [
            (StudyState.receiving, [], []), (.analysing, [], []), (.concluded, ["a"], []), (.concluded, ["a"], ["b"]),
            (.concluded, [], []),
        ] as [(StudyState, [String], [String])] {
            var study = study(state, age: 5000)
            (study.owedTo, study.refusedBy) = (owed, refused)
            texts += policy.conditions(OperatorFacts(work: OpenWork(studies: [study])), active: [], at: now).map(\.text)
        }
        #expect(Set(texts).count == 5)
        for (text, part) in zip(
            texts, ["waits", "does not end", "not taken by a", "refused for good by b", "no route"])
        {
            #expect(text.contains(part))
        }
    }

    @Test func aDestinationFailsWhenSomethingIsOwedForTooLongOrItIsOutOfReach() {
        func lane(_ age: Double?) -> OperatorFacts {
            let lane = OpenWork.Lane(destination: "pacs", owed: 1, owedSince: age.map { now - $0 }, givenUp: 0)
            return OperatorFacts(work: OpenWork(lanes: [lane]))
        }
        #expect(kinds(lane(nil)).isEmpty)
        #expect(kinds(lane(899)).isEmpty)
        #expect(kinds(lane(900)) == [.destinationFailing])
        #expect(kinds(OperatorFacts(unreachable: ["pacs": now - 899])).isEmpty)
        #expect(kinds(OperatorFacts(unreachable: ["pacs": now - 900])) == [.destinationFailing])
        var both = lane(900)
        both.unreachable = ["pacs": now - 900]
        #expect(kinds(both) == [.destinationFailing])
    }

    @Test func whatBeganAheadOfTheClockIsOverdue() {
        func kinds(ahead: Double) -> [OperatorAlertKind] {
            let lane = OpenWork.Lane(destination: "pacs", owed: 1, owedSince: now + ahead, givenUp: 0)
            let work = OpenWork(studies: [study(.receiving, age: -ahead)], lanes: [lane])
            return self.kinds(OperatorFacts(work: work))
        }
        #expect(kinds(ahead: 60).isEmpty)
        #expect(kinds(ahead: 61) == [.noResult, .destinationFailing])
    }

    @Test func whatWasGivenUpIsSaidAtOnce() {
        let lane = OpenWork.Lane(destination: "pacs", owed: 0, owedSince: nil, givenUp: 1)
        #expect(kinds(OperatorFacts(work: OpenWork(lanes: [lane]))) == [.deliveryGivenUp])
    }

    @Test func aShortDiskIsOverWithSomeMoreRoom() {
        #expect(kinds(OperatorFacts(freeBytes: 1000)).isEmpty)
        #expect(kinds(OperatorFacts(freeBytes: 999)) == [.diskShort])
        #expect(kinds(OperatorFacts(freeBytes: 1049), active: [.diskShort]) == [.diskShort])
        #expect(kinds(OperatorFacts(freeBytes: 1050), active: [.diskShort]).isEmpty)
        #expect(kinds(OperatorFacts(freeBytes: 5000, rejectsForRoom: true)) == [.diskShort])
        #expect(kinds(OperatorFacts(freeBytes: nil)).isEmpty)
    }

    @Test func crashesAreSaidAboveTheRateAndEachVerbAlone() {
        #expect(kinds(OperatorFacts(crashes: ["decode": 5, "infer": 5])).isEmpty)
        let found = policy.conditions(OperatorFacts(crashes: ["decode": 5, "infer": 6]), active: [], at: now)
        #expect(found.map(\.subject) == ["infer"])
    }

    @Test func aCertificateIsSaidBeforeItExpires() {
        func certificate(_ left: Double?) -> OperatorFacts {
            OperatorFacts(certificates: [.init(file: "/c", expires: left.map { now + $0 })])
        }
        #expect(kinds(certificate(86400)).isEmpty)
        #expect(kinds(certificate(86399)) == [.certificateExpiring])
        #expect(kinds(certificate(-1)) == [.certificateExpiring])
        #expect(kinds(certificate(nil)) == [.certificateExpiring])
    }

    @Test func aStudyThatIsHeldIsSaid() {
        #expect(kinds(OperatorFacts(work: OpenWork(held: [UID("1.2")!]))) == [.identityConflict])
    }
}

@Suite struct OperatorAlertWatchTests {
    /// What a test changes while the watch looks.
    private final class Surroundings: Sendable {
        struct State {
            var now = Date(timeIntervalSince1970: 1_000_000)
            var crashes: [String: Int] = [:]
            var isHead = true
            var isUnreadable = false
            var asked = 0
            var freeBytes: UInt64 = 5000
            var interval = Duration.seconds(600)
            var slept: [Duration] = []
        }
        let state = Mutex(State())
        func change(_ body: (inout State) -> Void) { state.withLock { body(&$0) } }
        var interval: Duration { state.withLock { $0.interval } }
        var clock: WallClock { WallClock(now: { self.state.withLock { $0.now } }, sleep: { _ in }) }
    }

    private struct Words: OperatorAlertChannel {
        let name = "words"
        func messages(of changes: [OperatorAlertEntry], at moment: Date) throws -> [OutboundMessage] {
            changes.map { OutboundMessage(id: "\($0.id)\($0.clearedAt == nil ? "+" : "-")", body: $0.text) }
        }
    }

    private let around = Surroundings()

    private func ledger() throws -> SQLiteLedger {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return try SQLiteLedger(path: folder.appendingPathComponent("l.sqlite").path, clock: around.clock)
    }

    private func watch(_ ledger: SQLiteLedger, clock: WallClock? = nil) -> OperatorAlertWatch {
        OperatorAlertWatch(
            policy: OperatorAlertPolicy(
                noResult: .seconds(1200), destinationFailing: .seconds(900), diskBelow: 1000, crashes: 2,
                crashWindow: .seconds(3600), certificate: .seconds(86400)),
            interval: around.interval, ledger: ledger,
            sources: .init(
                disk: { [around] in around.state.withLock { ($0.freeBytes, false) } }, unreachable: { [:] },
                crashes: { [around] in around.state.withLock { $0.crashes } }, certificates: { [] },
                mayBeHead: { [around] _ in
                    let (isHead, isUnreadable) = around.state.withLock {
                        $0.asked += 1
                        return ($0.isHead, $0.isUnreadable)
                    }
                    if isUnreadable { throw WorkerError(.failed, "cannot be read") }
                    return isHead
                }, heldReason: "identity conflict"),
            channels: [Words()], clock: clock ?? around.clock, logger: Logger(label: "test"))
    }

    private func owed(_ ledger: SQLiteLedger) async throws -> [String?] {
        try await ledger.deliveries(all: true, limit: 100).reversed().map { $0.message?.id }
    }

    @Test func anAlertIsRaisedOnceClearedAndCountedWhenItComesAgain() async throws {
        let ledger = try ledger()
        for (free, after) in [(999, 1), (900, 1), (5000, 2), (5000, 2), (10, 3)] as [(UInt64, Int)] {
            around.change { $0.freeBytes = free }
            // As after a restart, each time.
            try await watch(ledger).look()
            #expect(try await owed(ledger).count == after)
        }
        #expect(try await owed(ledger) == ["1+", "1-", "2+"])
        let alerts = try await ledger.operatorAlerts(all: true, limit: 10)
        #expect(alerts.map(\.occurrence) == [2, 1])
        #expect(alerts.map { $0.clearedAt == nil } == [true, false])
        #expect(try await ledger.operatorAlerts(all: false, limit: 10).map(\.id) == [2])
        #expect(try await ledger.deliveries(all: true, limit: 1)[0].studyInstanceUID == nil)
    }

    @Test func crashesLeaveTheWindow() async throws {
        let ledger = try ledger()
        let watch = watch(ledger)
        try await watch.look()
        for (passed, crashes, active) in [(10, 2, 0), (10, 3, 1), (3589, 3, 1), (11, 3, 0), (10, 5, 0), (10, 6, 1)] {
            around.change {
                $0.now += Double(passed)
                $0.crashes = ["decode": crashes]
            }
            try await watch.look()
            let found = try await ledger.operatorAlerts(all: false, limit: 10).filter { $0.kind == .processCrashes }
            #expect(found.count == active, "\(passed) \(crashes)")
        }
    }

    @Test func aShorterIntervalHoldsFromThePauseOnInWhichItComes() async throws {
        let clock = WallClock(now: around.clock.now) { [around] duration in
            around.change {
                $0.slept.append(duration)
                $0.interval = .milliseconds(2500)
            }
            if around.state.withLock({ $0.slept.count }) == 5 { throw CancellationError() }
        }
        let watch = try watch(ledger(), clock: clock)
        try await watch.run()
        #expect(around.state.withLock { $0.slept } == [1000, 1000, 500, 1000, 1000].map { Duration.milliseconds($0) })
        // After each look and each sleep that ended.
        #expect(watch.pulse.count == 6)
    }

    /// A study of one image has come.
    private func oneImage(in ledger: SQLiteLedger) async throws -> (record: InstanceRecord, receivedAt: Date) {
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.1")!,
            studyInstanceUID: UID("1.2.3")!, seriesInstanceUID: UID("1.8")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        let start = around.clock.now()
        try await ledger.recordInstances([StoredInstance(record: record, path: "/x", receivedAt: start)])
        return (record, start)
    }

    @Test func onlyAnOverdueStudyIsLookedAtAndNoneThatIsNoHead() async throws {
        let ledger = try ledger()
        let (record, start) = try await oneImage(in: ledger)
        let watch = watch(ledger)
        around.change { ($0.now, $0.isHead) = (start + 1199, false) }
        try await watch.look()
        #expect(around.state.withLock { $0.asked } == 0)
        around.change { $0.now = start + 1200 }
        try await watch.look()
        try await watch.look()
        #expect(around.state.withLock { $0.asked } == 1)
        #expect(try await ledger.operatorAlerts(all: true, limit: 10).isEmpty)
        // By other rules it is none either.
        await watch.reconsider()
        try await watch.look()
        #expect(around.state.withLock { $0.asked } == 2)
        #expect(try await ledger.operatorAlerts(all: true, limit: 10).isEmpty)
        // More of it arrives, and now it is one.
        var second = record
        second.sopInstanceUID = UID("1.9.2")!
        try await ledger.recordInstances([StoredInstance(record: second, path: "/y", receivedAt: start + 1200)])
        around.change { $0.isHead = true }
        try await watch.look()
        #expect(try await ledger.operatorAlerts(all: true, limit: 10).map(\.subject) == ["1.2.3"])
    }

    @Test func aStudyThatCannotBeReadBackIsSaidAndHidesNothing() async throws {
        let ledger = try ledger()
        let (_, start) = try await oneImage(in: ledger)
        around.change { ($0.now, $0.isHead, $0.isUnreadable, $0.freeBytes) = (start + 1200, false, true, 999) }
        let watch = watch(ledger)
        try await watch.look()
        let active = try await ledger.operatorAlerts(all: false, limit: 10).map(\.kind)
        #expect(Set(active) == [.noResult, .diskShort])
        // It can be again, and is no head.
        around.change { $0.isUnreadable = false }
        try await watch.look()
        #expect(try await ledger.operatorAlerts(all: false, limit: 10).map(\.kind) == [.diskShort])
    }
}
