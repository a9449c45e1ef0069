import Foundation
import Synchronization
import Testing
import WorkerProtocol

@testable import Ledger

/// What counts as not done, in every state that a study can be in.
@Suite struct OpenWorkTests {
    private let time = Time()
    private let study = UID("1.2.3")!
    private let object = ComposedObject(
        path: "/r/1", sopClassUID: UID("1.2.840.10008.5.1.4.1.1.88.22")!, sopInstanceUID: UID("2.25.7")!)

    private final class Time: Sendable {
        let now = Mutex(Date(timeIntervalSince1970: 1000))
        var clock: WallClock { WallClock(now: { self.now.withLock { $0 } }, sleep: { _ in }) }
        func set(_ seconds: Double) { now.withLock { $0 = Date(timeIntervalSince1970: seconds) } }
    }

    private func ledger() throws -> SQLiteLedger {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return try SQLiteLedger(path: folder.appendingPathComponent("l.sqlite").path, clock: time.clock)
    }

    private func receive(_ ledger: SQLiteLedger, _ number: Int, at seconds: Double) async throws {
        time.set(seconds)
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.\(number)")!,
            studyInstanceUID: study, seriesInstanceUID: UID("1.8")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        try await ledger.recordInstances([
            StoredInstance(record: record, path: "/\(number)", receivedAt: time.clock.now())
        ])
    }

    private func conclude(
        _ ledger: SQLiteLedger, _ outcome: Outcome = .negative, reason: String = "", seeing count: Int = 1,
        at seconds: Double, to destinations: String...
    ) async throws {
        time.set(seconds)
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: count, because: "a test")
        let entry = AnalysisEntry(
            studyInstanceUID: study, revisionDigest: "\(seconds)", modelDigest: "m", configurationDigest: "c",
            route: "d", startedAt: time.clock.now(), completedAt: time.clock.now(), outcome: outcome, reason: reason,
            completion: "", studyProbability: nil, threshold: nil, flaggedSlices: 0)
        try await ledger.conclude(
            entry, objects: [],
            deliveries: destinations.map { NewDelivery(destination: $0, priority: 1, objects: [object]) })
    }

    private func settle(_ ledger: SQLiteLedger, _ destination: String, _ state: DeliveryState) async throws {
        for var delivery in try await ledger.deliveries(all: false, limit: 10)
        where delivery.destination == destination && delivery.state == .pending {
            delivery.state = state
            for index in delivery.objects.indices { delivery.objects[index].state = state }
            try await ledger.updateDelivery(delivery)
        }
    }

    private func open(_ ledger: SQLiteLedger) async throws -> [OpenWork.Study] {
        try await ledger.openWork(heldFor: "identity conflict").studies
    }

    @Test func countsWhatIsUnderWayAndOwed() async throws {
        let ledger = try ledger()
        #expect(try await ledger.backlog() == Backlog(studies: [:]))
        try await receive(ledger, 1, at: 1000)
        try await receive(ledger, 2, at: 1500)
        let start = Date(timeIntervalSince1970: 1000)
        #expect(try await ledger.backlog() == Backlog(studies: [.receiving: 1], openSince: start))
        try await conclude(ledger, seeing: 2, at: 2000, to: "pacs", "archive")
        let owed = Date(timeIntervalSince1970: 2000)
        let lanes = ["archive", "pacs"].map {
            OpenWork.Lane(destination: $0, owed: 1, owedSince: owed, givenUp: 0)
        }
        #expect(try await ledger.backlog() == Backlog(studies: [.concluded: 1], lanes: lanes))
        try await settle(ledger, "pacs", .dead)
        try await settle(ledger, "archive", .delivered)
        let refused = OpenWork.Lane(destination: "pacs", owed: 0, owedSince: nil, givenUp: 1)
        #expect(try await ledger.backlog() == Backlog(studies: [.concluded: 1], lanes: [refused]))
    }

    @Test func aStudyIsOpenFromItsFirstImageUntilSomebodyHasItsResult() async throws {
        let ledger = try ledger()
        #expect(try await open(ledger).isEmpty)
        try await receive(ledger, 1, at: 1000)
        try await receive(ledger, 2, at: 1500)
        var study = try #require(try await open(ledger).first)
        #expect(study.state == .receiving && study.since == Date(timeIntervalSince1970: 1000))
        time.set(1600)
        _ = try await ledger.beginAnalysis(ofStudy: self.study, seeing: 2, because: "a test")
        study = try #require(try await open(ledger).first)
        #expect(study.state == .analysing && study.since == Date(timeIntervalSince1970: 1000))
        try await conclude(ledger, seeing: 2, at: 1700, to: "a", "b")
        study = try #require(try await open(ledger).first)
        #expect(study.state == .concluded && study.since == Date(timeIntervalSince1970: 1000))
        #expect(study.owedTo == ["a", "b"] && study.refusedBy.isEmpty)
        try await settle(ledger, "b", .dead)
        study = try #require(try await open(ledger).first)
        #expect(study.owedTo == ["a"] && study.refusedBy == ["b"])
        try await settle(ledger, "a", .accepted)
        #expect(try await open(ledger).isEmpty)
    }

    @Test func aLateImageBeginsAnew() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        try await conclude(ledger, at: 1100, to: "a", "b")
        try await settle(ledger, "a", .delivered)
        try await receive(ledger, 2, at: 90_000)
        #expect(try await open(ledger).map(\.since) == [Date(timeIntervalSince1970: 90_000)])
        // It changes nothing: what is there of the earlier report counts.
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 2, because: "a test")
        try await ledger.concludeUnchanged(study: study, because: "a test")
        #expect(try await open(ledger).isEmpty)
        // A revision that nobody has yet.
        try await receive(ledger, 3, at: 95_000)
        try await conclude(ledger, seeing: 3, at: 95_010, to: "a")
        #expect(try await open(ledger).map(\.owedTo) == [["a", "b"]])
        try await settle(ledger, "a", .delivered)
        #expect(try await open(ledger).isEmpty)
    }

    @Test func whatArrivesWithinAnAnalysisIsOpenFromItsEndOn() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        try await receive(ledger, 2, at: 1001)
        try await conclude(ledger, seeing: 1, at: 1100, to: "a")
        try await settle(ledger, "a", .delivered)
        #expect(try await open(ledger).map(\.since) == [Date(timeIntervalSince1970: 1100)])
    }

    @Test func aStudyAnalysedAgainByHandIsOpenFromThenOn() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        try await conclude(ledger, at: 1100, to: "a")
        try await settle(ledger, "a", .delivered)
        time.set(50_000)
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        #expect(try await open(ledger).map(\.since) == [Date(timeIntervalSince1970: 50_000)])
    }

    @Test func whatNoRouteTakesIsOpenAndWhatIsHeldOrNoHeadIsNot() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        try await conclude(ledger, .notHeadCT, at: 1100)
        #expect(try await open(ledger).isEmpty)
        try await conclude(ledger, .undetermined, reason: "no route takes X", at: 1200)
        #expect(try await open(ledger).map(\.owedTo) == [[]])
        try await conclude(ledger, .undetermined, reason: "identity conflict: two patients", at: 1300)
        #expect(try await open(ledger).isEmpty)
        #expect(try await ledger.openWork(heldFor: "identity conflict").held == [study])
        // Released, and not analysed: then it has no result.
        _ = try await ledger.record(.released, onStudy: study)
        #expect(try await ledger.openWork(heldFor: "identity conflict").held.isEmpty)
        #expect(try await open(ledger).map(\.owedTo) == [[]])
    }

    @Test func whatIsReleasedIsOpenFromThenOnAndIsTakenUpAfterARestart() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        try await conclude(ledger, .undetermined, reason: "identity conflict: two patients", at: 1100)
        time.set(50_000)
        #expect(try await ledger.reopen(study, releasing: true, because: "released"))
        #expect(try await ledger.decision(onStudy: study) == .released)
        #expect(try await ledger.unconcludedStudies() == [study])
        var found = try #require(try await open(ledger).first)
        #expect(found.state == .receiving && found.since == Date(timeIntervalSince1970: 50_000))
        #expect(try await ledger.purgeOldestStudy(receivedBefore: .distantFuture) == nil)
        #expect(try await ledger.study(study)?.events.last?.text == "released")
        try await conclude(ledger, at: 50_010, to: "a")
        found = try #require(try await open(ledger).first)
        #expect(found.state == .concluded && found.since == Date(timeIntervalSince1970: 50_000))
        #expect(found.owedTo == ["a"])
    }

    @Test func anAnalysisThatBeganBeforeARequestForAnotherDoesNotEndIt() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        #expect(try await ledger.reopen(study, releasing: false, because: "analysed again by hand"))
        try await ledger.concludeUnchanged(study: study, because: "a test")
        #expect(try await ledger.unconcludedStudies() == [study])
        try await conclude(ledger, at: 1100)
        #expect(try await ledger.unconcludedStudies().isEmpty)
    }

    @Test func whatAnOperatorHadOpenedAgainIsSoUntilAnAnalysisEndsThatBeganAfterIt() async throws {
        let ledger = try ledger()
        func reopen() async throws {
            #expect(try await ledger.reopen(study, releasing: false, because: "analysed again by hand"))
        }
        try await receive(ledger, 1, at: 1000)
        #expect(try await ledger.isReopened(study) == false)
        try await conclude(ledger, at: 1100)
        // Images that change nothing, and that came before or after, are none of its business.
        try await receive(ledger, 2, at: 1200)
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 2, because: "a test")
        try await ledger.concludeUnchanged(study: study, because: "a test")
        #expect(try await ledger.isReopened(study) == false)
        try await ledger.recordEvent("operator", "ignored", ofStudy: study)
        #expect(try await ledger.isReopened(study) == false)
        // By a clock that was set back.
        time.set(500)
        try await reopen()
        #expect(try await ledger.isReopened(study))
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 2, because: "a test")
        try await ledger.abandonAnalysis(ofStudy: study, because: "a test")
        #expect(try await ledger.isReopened(study))
        // Within an analysis.
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 2, because: "a test")
        try await reopen()
        try await ledger.concludeUnchanged(study: study, because: "a test")
        #expect(try await ledger.isReopened(study))
        try await conclude(ledger, seeing: 2, at: 1300)
        #expect(try await ledger.isReopened(study) == false)
        try await receive(ledger, 3, at: 1400)
        #expect(try await ledger.isReopened(study) == false)
    }

    @Test func whatHasNoImagesLeftIsNotReleased() async throws {
        let ledger = try ledger()
        #expect(try await ledger.reopen(study, releasing: true, because: "released") == false)
        try await receive(ledger, 1, at: 1000)
        _ = try await ledger.record(.ignored, onStudy: study)
        try await conclude(ledger, at: 1100)
        #expect(try await ledger.purgeOldestStudy(receivedBefore: .distantFuture)?.study == study)
        #expect(try await ledger.reopen(study, releasing: true, because: "released") == false)
        #expect(try await ledger.decision(onStudy: study) == .ignored)
        #expect(try await ledger.unconcludedStudies().isEmpty)
        // Sent again.
        try await receive(ledger, 1, at: 1200)
        #expect(try await ledger.reopen(study, releasing: true, because: "released"))
        #expect(try await ledger.decision(onStudy: study) == nil)
    }

    @Test func aStudyIsOpenOnceWhateverIsOpenOfIt() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        try await conclude(ledger, at: 1100, to: "a", "b")
        try await settle(ledger, "b", .dead)
        // Analysed again, it has no route any more; what it is owed of the earlier report stays.
        try await conclude(ledger, .undetermined, reason: "no route takes X", at: 1200)
        var open = try await open(ledger)
        #expect(open.map(\.owedTo) == [["a"]] && open.map(\.refusedBy) == [["b"]])
        _ = try await ledger.backlog()

        // An analysis after the clock was set back.
        try await conclude(ledger, .undetermined, reason: "a slice is missing", at: 900, to: "a")
        open = try await self.open(ledger)
        #expect(open.map(\.studyInstanceUID) == [study] && open.map(\.refusedBy) == [["b"]])
        try await settle(ledger, "a", .delivered)
        #expect(try await self.open(ledger).isEmpty)
    }

    @Test func whatIsIgnoredIsNotOpen() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        _ = try await ledger.record(.ignored, onStudy: study)
        #expect(try await open(ledger).isEmpty)
        try await conclude(ledger, at: 1100, to: "a")
        #expect(try await open(ledger).isEmpty)
    }

    @Test func aLaneIsOwedWhatItHasNotTakenAndWhatItDoesNotAnswerFor() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        try await conclude(ledger, at: 1100, to: "a", "b", "c")
        try await settle(ledger, "b", .dead)
        try await settle(ledger, "c", .accepted)
        let since = Date(timeIntervalSince1970: 1100)
        var lanes = try await ledger.openWork(heldFor: "x").lanes
        #expect(
            lanes == [
                .init(destination: "a", owed: 1, owedSince: since, givenUp: 0),
                .init(destination: "b", owed: 0, owedSince: nil, givenUp: 1),
            ])
        var accepted = try #require(try await ledger.deliveries(all: false, limit: 10).first { $0.state == .accepted })
        accepted.lastError = "cannot connect"
        try await ledger.updateDelivery(accepted)
        lanes = try await ledger.openWork(heldFor: "x").lanes
        #expect(lanes.last == .init(destination: "c", owed: 1, owedSince: since, givenUp: 0))
    }

    @Test func whatIsSentAgainForWantOfAReportWasTakenAndIsOwedFromTheSecondTimeOn() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        try await conclude(ledger, at: 1100, to: "a")
        let since = Date(timeIntervalSince1970: 1100)
        func step(
            _ state: DeliveryState, attempts: Int, _ error: String?, isOwed: Bool, isOpen: Bool = false
        ) async throws {
            var delivery = try #require(try await ledger.deliveries(all: true, limit: 1).first)
            (delivery.state, delivery.attempts, delivery.lastError) = (state, attempts, error)
            try await ledger.updateDelivery(delivery)
            let lane = OpenWork.Lane(destination: "a", owed: 1, owedSince: since, givenUp: 0)
            #expect(try await ledger.openWork(heldFor: "x").lanes == (isOwed ? [lane] : []), "\(state) \(attempts)")
            #expect(try await open(ledger).isEmpty == !isOpen, "\(state) \(attempts)")
        }
        let unreported = DeliveryEntry.unreported
        try await step(.accepted, attempts: 1, nil, isOwed: false)
        try await step(.pending, attempts: 1, unreported, isOwed: false)
        try await step(.accepted, attempts: 2, nil, isOwed: false)
        try await step(.pending, attempts: 2, unreported, isOwed: true)
        try await step(.accepted, attempts: 3, unreported, isOwed: true)
        try await step(.pending, attempts: 3, unreported, isOwed: true)
        // Now it does not even accept it.
        try await step(.pending, attempts: 4, "out of resources", isOwed: true, isOpen: true)
        try await step(.delivered, attempts: 5, nil, isOwed: false)
        let texts = try #require(try await ledger.study(study)).events.map(\.text)
        #expect(!texts.contains { $0.contains("cannot be asked for") })
    }

    @Test func aMessageIsNoResult() async throws {
        let ledger = try ledger()
        try await receive(ledger, 1, at: 1000)
        time.set(1100)
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        let entry = AnalysisEntry(
            studyInstanceUID: study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c", route: "d",
            startedAt: time.clock.now(), completedAt: time.clock.now(), outcome: .positive, reason: "", completion: "",
            studyProbability: 1, threshold: 0.5, flaggedSlices: 1)
        try await ledger.conclude(
            entry, objects: [],
            deliveries: [
                NewDelivery(destination: "pacs", priority: 0, objects: [object]),
                NewDelivery(destination: "paging", priority: 0, message: OutboundMessage(id: "1", body: "{}")),
            ])
        try await settle(ledger, "paging", .delivered)
        #expect(try await open(ledger).map(\.owedTo) == [["pacs"]])
    }

    @Test func alertsAndTheirMessagesAreWrittenTogetherOrNotAtAll() async throws {
        struct Failure: Error {}
        let ledger = try ledger()
        let condition = OperatorCondition(.diskShort, "spool", "full")
        await #expect(throws: Failure.self) {
            _ = try await ledger.updateOperatorAlerts(to: [condition]) { _ in throw Failure() }
        }
        #expect(try await ledger.operatorAlerts(all: true, limit: 10).isEmpty)
        let raised = try await ledger.updateOperatorAlerts(to: [condition]) { changes in
            changes.map { _ in NewDelivery(destination: "mail", priority: 2, message: .init(id: "1", body: "b")) }
        }
        #expect(raised.map(\.text) == ["full"])
        let owed = try #require(try await ledger.dueDeliveries(to: "mail", at: time.clock.now(), limit: 5).first)
        #expect(owed.message == OutboundMessage(id: "1", body: "b") && owed.studyInstanceUID == nil)
        // An operator may withdraw it like any other.
        #expect(try await ledger.discardDelivery(owed.id)?.state == .discarded)
    }
}
