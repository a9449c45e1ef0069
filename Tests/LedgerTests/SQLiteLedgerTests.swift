import Foundation
import GRDB
import Testing
import WorkerProtocol

@testable import Ledger

@Suite struct SQLiteLedgerTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("ledger-\(UUID().uuidString)")
    private let study = UID("1.2.3")!

    private func ledger() throws -> SQLiteLedger {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return try SQLiteLedger(path: folder.appendingPathComponent("ledger.sqlite").path)
    }

    private func instance(_ number: Int, version: Int = 1) -> StoredInstance {
        var record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.4.\(number)")!,
            studyInstanceUID: study, seriesInstanceUID: UID("1.2.3.4")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        record.version = version
        record.callingAETitle = AETitle("CT1")
        return StoredInstance(
            record: record, path: "/spool/\(number).v\(version)",
            receivedAt: Date(timeIntervalSince1970: Double(number)))
    }

    private func analysis(_ outcome: Outcome = .positive, revision: String = "r1") -> AnalysisEntry {
        AnalysisEntry(
            studyInstanceUID: study, revisionDigest: revision, modelDigest: "m", configurationDigest: "c",
            route: "default",
            startedAt: .now, completedAt: .now, outcome: outcome, reason: "", completion: "grace",
            studyProbability: 0.9,
            threshold: 0.5, flaggedSlices: 1)
    }

    private let object = ComposedObject(
        path: "/results/a.dcm", sopClassUID: UID("1.2.840.10008.5.1.4.1.1.88.22")!, sopInstanceUID: UID("2.25.7")!)

    @Test func instancesAreRecordedOnce() async throws {
        let ledger = try ledger()
        #expect(try await ledger.recordInstances([instance(1), instance(2)]).count == 2)
        #expect(try await ledger.recordInstances([instance(2), instance(3)]).map(\.path) == ["/spool/3.v1"])
        #expect(try await ledger.instances(ofStudy: study) == [instance(1), instance(2), instance(3)])
        #expect(try await ledger.study(study)?.study.callingAETitle == "CT1")
    }

    @Test func earlierDeliveriesAreFoundByTheirStudy() async throws {
        let ledger = try ledger()
        let plan = try await ledger.database.read { database in
            try Row.fetchAll(
                database, sql: "EXPLAIN QUERY PLAN \(SQLiteLedger.withdrawal)", arguments: ["1.2.3", "pacs", 0]
            ).map { $0["detail"] as String }
        }
        #expect(plan.contains { $0.contains("delivery_by_study") }, "\(plan)")
    }

    /// Equal to Swift, not to SQLite.
    @Test func destinationsThatDifferInBytesAloneAreOneLane() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        try await ledger.conclude(
            analysis(), objects: [object],
            deliveries: ["k\u{e9}", "ke\u{301}"].map { NewDelivery(destination: $0, priority: 0, objects: [object]) })
        #expect(try await ledger.pendingLanes(at: .now, latest: .distantFuture).map(\.value.untried) == [2])
    }

    @Test func whoLooksDoesNotMakeTheNodeWait() async throws {
        let ledger = try ledger()
        let viewers = try ledger.forViewers()
        try await ledger.recordInstances([instance(1)])
        #expect(try await viewers.study(study)?.study.instanceCount == 1)
        let (isOver, most) = (DispatchSemaphore(value: 0), ViewerReads.connections + ViewerReads.mostWaiting)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<most + 1 {
                group.addTask {
                    do {
                        try await viewers.read { _ in isOver.wait() }
                        return true
                    } catch is LedgerBusy { return false }
                }
            }
            // One of them too many; all others stay.
            #expect(try await group.next() == false)
            try await ledger.recordInstances([instance(2)])
            #expect(try await ledger.study(study)?.study.instanceCount == 2)
            await #expect(throws: LedgerBusy.self) { _ = try await viewers.study(study) }
            for _ in 0..<most { isOver.signal() }
            for try await wasRead in group { #expect(wasRead) }
        }
        #expect(try await viewers.study(study)?.study.instanceCount == 2)
    }

    @Test func whatASeriesHasInCommonIsKeptOnce() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1), instance(2)])
        try await ledger.recordInstances([instance(3)])
        var other = instance(4)
        other.record.series.convolutionKernel = "BONE"
        try await ledger.recordInstances([other])
        #expect(try await ledger.instances(ofStudy: study) == [instance(1), instance(2), instance(3), other])
        let database = try DatabaseQueue(path: folder.appendingPathComponent("ledger.sqlite").path)
        #expect(try await database.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM common_attributes") } == 2)
    }

    @Test func framesOfAnInstanceAreKept() async throws {
        let ledger = try ledger()
        var frame = FrameAttributes()
        frame.position = [1, 2.5, -3]
        frame.type = ["ORIGINAL", "PRIMARY"]
        var enhanced = instance(1)
        enhanced.record.multiFrame = MultiFrame(
            [frame, FrameAttributes()],
            concatenation: .init(uid: UID("1.2.9")!, number: 1, total: 2, frameOffset: 0))
        var unreadable = instance(2)
        unreadable.record.multiFrame = MultiFrame([], problem: .tooMany)
        #expect(try await ledger.recordInstances([enhanced, unreadable, instance(3)]).count == 3)
        #expect(try await ledger.recordInstances([enhanced]).isEmpty)
        #expect(try await ledger.instances(ofStudy: study) == [enhanced, unreadable, instance(3)])
    }

    @Test func lostImagesAreKnownUntilTheyComeAndTheLatestOfThemOnly() async throws {
        let ledger = try ledger()
        let (image, other) = (instance(2).record.sopInstanceUID, UID("1.2.999")!)
        #expect(try await ledger.recordLostImages([(study, image), (study, nil), (other, nil)]) == [study, other])
        #expect(try await ledger.recordLostImages([(study, image)]) == [])
        #expect(try await ledger.lostImages(ofStudy: study) == LostImages(known: [image], hasOthers: true))
        try await ledger.forgetLostImages(ofStudy: study)
        try await ledger.recordInstances([instance(1)])
        #expect(try await ledger.lostImages(ofStudy: study) == LostImages(known: [image]))
        try await ledger.recordInstances([instance(2)])
        #expect(try await ledger.lostImages(ofStudy: study) == LostImages())
        // It is here.
        #expect(try await ledger.recordLostImages([(study, image)]) == [])
        #expect(try await ledger.lostImages(ofStudy: other) == LostImages(hasOthers: true))
        _ = try await ledger.recordLostImages((1...10_000).map { (UID("1.8.\($0)")!, nil) })
        #expect(try await ledger.lostImages(ofStudy: other) == LostImages())
        #expect(try await ledger.lostImages(ofStudy: UID("1.8.1")!) == LostImages(hasOthers: true))
    }

    @Test func aStudyThatLacksAnImageMoreIsConcludedNoMore() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        try await ledger.concludeUnchanged(study: study, because: "a test")
        #expect(try await ledger.unconcludedStudies() == [])
        #expect(try await ledger.recordLostImages([(study, UID("1.7")!)]) == [study])
        #expect(try await ledger.unconcludedStudies() == [study])
    }

    /// A ledger as an earlier build left it: the schema up to a migration, one study, and what `fill` writes.
    private func leaveLedger(
        upTo migration: String, _ fill: @escaping @Sendable (Database) throws -> Void
    ) async throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let database = try DatabaseQueue(path: folder.appendingPathComponent("ledger.sqlite").path)
        try LedgerSchema.migrator.migrate(database, upTo: migration)
        try await database.write { database in
            try database.execute(
                sql: """
                    INSERT INTO study (study_uid, state, first_received_at, last_received_at)
                    VALUES ('1.2.3', 'receiving', 1, 1);
                    """)
            try fill(database)
        }
        try database.close()
    }

    private func json(_ value: some Encodable) throws -> String {
        String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
    }

    @Test func rowsWithTheirOwnAttributesAsJSONAreReadAfterMigration() async throws {
        let record = instance(1).record
        let (common, own) = (try json(CommonAttributes(record)), try json(OwnAttributes(record)))
        try await leaveLedger(upTo: "common attributes") { database in
            try database.execute(
                sql: "INSERT INTO common_attributes (digest, attributes) VALUES ('d', ?)", arguments: [common])
            try database.execute(
                sql: """
                    INSERT INTO instance (study_uid, series_uid, sop_uid, version, path, record, received_at, common_id)
                    VALUES ('1.2.3', '1.2.3.4', '1.2.3.4.1', 1, '/spool/1.v1', ?, 1, 1)
                    """, arguments: [own])
        }
        #expect(try await ledger().instances(ofStudy: study) == [instance(1)])
    }

    @Test func rowsOfTheFirstSchemaAreReadAfterMigration() async throws {
        let record = try json(instance(1).record)
        try await leaveLedger(upTo: "first") { database in
            try database.execute(
                sql: """
                    INSERT INTO instance (study_uid, series_uid, sop_uid, version, path, record, received_at)
                    VALUES ('1.2.3', '1.2.3.4', '1.2.3.4.1', 1, '/spool/1.v1', ?, 1)
                    """, arguments: [record])
        }
        let ledger = try ledger()
        #expect(try await ledger.instances(ofStudy: study) == [instance(1)])
        try await ledger.recordInstances([instance(2)])
        #expect(try await ledger.instances(ofStudy: study) == [instance(1), instance(2)])
    }

    @Test func whatIsRecordedSurvivesReopening() async throws {
        try await ledger().recordInstances([instance(1)])
        #expect(try await ledger().unconcludedStudies() == [study])
    }

    @Test func anotherVersionOfAnInstanceLeavesAnEvent() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1), instance(1, version: 2)])
        #expect(try await ledger.study(study)?.events.map(\.kind) == ["conflict"])
    }

    @Test func concludingWritesResultsAndDeliveriesTogether() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 1)
        try await ledger.conclude(
            analysis(), objects: [object], deliveries: [.init(destination: "pacs", priority: 0, objects: [object])])
        #expect(try await ledger.unconcludedStudies().isEmpty)
        #expect(try await ledger.study(study)?.study.outcome == .positive)
        #expect(try await ledger.history(ofStudy: study).latest?.revisionDigest == "r1")
        #expect(try await ledger.pendingDeliveryCount() == 1)
        // The same object cannot be recorded twice: nothing of the second conclusion stays.
        await #expect(throws: (any Error).self) {
            try await ledger.conclude(analysis(revision: "r2"), objects: [object], deliveries: [])
        }
    }

    @Test func aStudyThatReceivedMoreWhileAnalysedStaysOpen() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 1)
        try await ledger.recordInstances([instance(2)])
        try await ledger.conclude(analysis(.negative), objects: [], deliveries: [])
        #expect(try await ledger.unconcludedStudies() == [study])
    }

    @Test func anAnalysisThatDoesNotSeeTheLatestDoesNotConcludeTheStudy() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1), instance(2)])
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 1)
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 2)
        try await ledger.conclude(analysis(.negative), objects: [], deliveries: [])
        #expect(try await ledger.unconcludedStudies() == [study])
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 2, because: "a test") == 1)
        try await ledger.concludeUnchanged(study: study, because: "nothing new")
        #expect(try await ledger.unconcludedStudies().isEmpty)
    }

    @Test func aStudyThatIsIgnoredWhileItIsAnalysedIsNotReported() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        #expect(try await ledger.record(.ignored, onStudy: study))
        let owed = [NewDelivery(destination: "pacs", priority: 0, objects: [object])]
        #expect(try await ledger.conclude(analysis(), objects: [object], deliveries: owed) == false)
        #expect(try await ledger.unconcludedStudies().isEmpty)
        #expect(try await ledger.pendingDeliveryCount() == 0)
        #expect(try await ledger.history(ofStudy: study).latest == nil)
        #expect(try await ledger.resultObjects(ofStudy: study).isEmpty)
        // What is released is reported.
        #expect(try await ledger.record(nil, onStudy: study))
        #expect(try await ledger.conclude(analysis(), objects: [object], deliveries: owed))
        #expect(try await ledger.pendingDeliveryCount() == 1)
    }

    @Test func anImageWhoseFileHadVanishedIsNewWhenItComesAgain() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1), instance(2)])
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 2, because: "a test") == 1)
        try await ledger.concludeUnchanged(study: study, because: "a test")
        #expect(try await ledger.recordInstances([instance(1)]).isEmpty)
        #expect(try await ledger.unconcludedStudies().isEmpty)
        let again = instance(1)
        #expect(try await ledger.recordInstances([again, instance(2)], placed: [again.path]) == [again])
        #expect(try await ledger.instances(ofStudy: study).map(\.path) == [again.path, instance(2).path])
        #expect(try await ledger.unconcludedStudies() == [study])
    }

    @Test func ownObjectsComingBackChangeNothing() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 1)
        try await ledger.conclude(analysis(), objects: [object], deliveries: [])
        var own = instance(9)
        own.record.sopInstanceUID = object.sopInstanceUID
        #expect(try await ledger.recordInstances([own]).isEmpty)
        #expect(try await ledger.unconcludedStudies().isEmpty)
        #expect(try await ledger.instances(ofStudy: study) == [instance(1)])
        #expect(try await ledger.instancePaths(ofStudy: study)[own.path] == .present)
    }

    @Test func urgentDeliveriesComeFirstAndOnlyWhenDue() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        let later = ComposedObject(path: "/b", sopClassUID: object.sopClassUID, sopInstanceUID: UID("2.25.8")!)
        try await ledger.conclude(
            analysis(), objects: [object, later],
            deliveries: [
                .init(destination: "pacs", priority: 1, objects: [later]),
                .init(destination: "pacs", priority: 0, objects: [object]),
            ])
        var due = try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 10)
        #expect(due.map { $0.objects[0].object } == [object, later])
        due[0].nextAttemptAt = .now + 60
        due[0].lastError = "refused"
        try await ledger.updateDelivery(due[0])
        #expect(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 10).count == 1)
        due[1].state = .delivered
        try await ledger.updateDelivery(due[1])
        let lanes = try await ledger.pendingLanes(at: .now, latest: .distantFuture)
        #expect(lanes.mapValues(\.untried) == ["pacs": 1])
        #expect(lanes["pacs"].map { $0.due > .now + 50 } == true)
        #expect(try await ledger.pendingDeliveryCount() == 1)
    }

    @Test func whatAClockThatWasAheadHasPutOffIsDue() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        try await conclude(ledger, 1)
        let now = Date.now
        var delivery = try #require(try await ledger.dueDeliveries(to: "pacs", at: now + 1, limit: 1).first)
        func due() async throws -> [Bool] {
            let due = try await ledger.dueDeliveries(to: "pacs", at: now, latest: now + 600, limit: 1)
            let lane = try #require(try await ledger.pendingLanes(at: now, latest: now + 600)["pacs"])
            // A moment loses some nanoseconds on its way.
            return [!due.isEmpty, lane.due <= now + 0.001]
        }
        delivery.nextAttemptAt = now + 600
        try await ledger.updateDelivery(delivery)
        #expect(try await due() == [false, false])
        delivery.nextAttemptAt = now + 601
        try await ledger.updateDelivery(delivery)
        #expect(try await due() == [true, true])
        (delivery.state, delivery.objects[0].state) = (.accepted, .accepted)
        try await ledger.updateDelivery(delivery)
        #expect(try await ledger.dueCommitments(at: now, latest: now + 601).isEmpty)
        #expect(try await ledger.dueCommitments(at: now, latest: now + 600).map(\.id) == [delivery.id])
        // A report may take longer than any pause.
        delivery.commitmentAskedAt = now
        try await ledger.updateDelivery(delivery)
        #expect(try await ledger.dueCommitments(at: now, latest: now + 600).isEmpty)
    }

    private func conclude(_ ledger: SQLiteLedger, _ number: Int, priority: Int = 1) async throws {
        let object = ComposedObject(
            path: "/results/\(number).dcm", sopClassUID: object.sopClassUID,
            sopInstanceUID: UID("2.25.10\(number)")!)
        var entry = analysis(.negative, revision: "r\(number)")
        entry.report = ImageReference(
            sopClassUID: object.sopClassUID, sopInstanceUID: object.sopInstanceUID,
            seriesInstanceUID: UID("2.25.20\(number)")!)
        entry.seriesInstanceUID = UID("1.2.3.4")
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        try await ledger.conclude(
            entry, objects: [object],
            deliveries: ["pacs", "archive"].map { .init(destination: $0, priority: priority, objects: [object]) })
    }

    @Test func aRevisionIsAsUrgentAsItsSuccessorAndIsWithdrawnAfterIt() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        try await conclude(ledger, 1, priority: 1)
        var first = try #require(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 1).first)
        first.nextAttemptAt = .now + 600
        try await ledger.updateDelivery(first)
        try await conclude(ledger, 2, priority: 0)
        var due = try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 10)
        #expect(due.map { $0.objects[0].object.path } == ["/results/1.dcm", "/results/2.dcm"])
        #expect(due.map(\.priority) == [0, 0])
        due[1].state = .delivered
        try await ledger.updateDelivery(due[1])
        #expect(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 10).isEmpty)
        let detail = try #require(try await ledger.study(study))
        let states = Dictionary(grouping: detail.deliveries, by: \.destination).mapValues { $0.map(\.state) }
        #expect(states == ["pacs": [.superseded, .delivered], "archive": [.pending, .pending]])
        #expect(detail.events.last?.text == "to pacs: 1 objects accepted")
        #expect(detail.events.contains { $0.text == "to pacs: 1 earlier withdrawn, it has a later revision" })
    }

    @Test func aReportThatIsTakenWithdrawsTheEarlierWhileItsImagesAreStillOwed() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        try await conclude(ledger, 1)
        try await conclude(ledger, 2)
        var due = try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 10)
        try #require(due.count == 2)
        due[1].objects.append(DeliveryObject(object: object, state: .pending, status: nil))
        try await ledger.updateDelivery(due[1])
        #expect(try await ledger.delivery(due[0].id)?.state == .pending)
        due[1].objects[0].state = .accepted
        try await ledger.updateDelivery(due[1])
        #expect(try await ledger.delivery(due[0].id)?.state == .superseded)
        #expect(try await ledger.delivery(due[1].id)?.state == .pending)
    }

    @Test func whatWasGivenUpIsWithdrawnWithTheRestAndNotTriedAgain() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        try await conclude(ledger, 1)
        var first = try #require(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 1).first)
        first.state = .dead
        try await ledger.updateDelivery(first)
        #expect(try await ledger.openWork(heldFor: "x").lanes.map(\.givenUp) == [0, 1])
        try await conclude(ledger, 2)
        #expect(try await ledger.delivery(first.id)?.state == .dead)
        var second = try #require(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 1).first)
        second.state = .delivered
        try await ledger.updateDelivery(second)
        #expect(try await ledger.delivery(first.id)?.state == .superseded)
        #expect(try await ledger.retryDelivery(first.id) == nil)
        #expect(try await ledger.openWork(heldFor: "x").lanes.map(\.destination) == ["archive"])
    }

    @Test func withTheClockSetBackTheLaterReportIsStillTheLastWord() async throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let path = folder.appendingPathComponent("ledger.sqlite").path
        func ledger(at seconds: Double) throws -> SQLiteLedger {
            let clock = WallClock(now: { Date(timeIntervalSince1970: seconds) }, sleep: { _ in })
            return try SQLiteLedger(path: path, clock: clock)
        }
        let earlier = try ledger(at: 2000)
        try await earlier.recordInstances([instance(1)])
        try await conclude(earlier, 1)
        let later = try ledger(at: 1000)
        try await conclude(later, 2)
        var due = try await later.dueDeliveries(to: "pacs", at: .now, limit: 9)
        #expect(due.map { $0.objects[0].object.path } == ["/results/1.dcm", "/results/2.dcm"])
        due[0].state = .delivered
        try await later.updateDelivery(due[0])
        #expect(try await later.dueDeliveries(to: "pacs", at: .now, limit: 9).map(\.id) == [due[1].id])
        // The other way about: what is earlier goes.
        due = try await later.dueDeliveries(to: "archive", at: .now, limit: 9)
        due[1].state = .delivered
        try await later.updateDelivery(due[1])
        #expect(try await later.delivery(due[0].id)?.state == .superseded)
    }

    @Test func historyNamesThePredecessorAndTheSettledSeries() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        #expect(try await ledger.history(ofStudy: study).nextRevision == 1)
        try await conclude(ledger, 1)
        let history = try await ledger.history(ofStudy: study)
        #expect(history.nextRevision == 2)
        #expect(history.predecessor?.sopInstanceUID == UID("2.25.101"))
        #expect(history.settledSeries == UID("1.2.3.4"))
        // An incomplete one settles nothing, and one without a report is no predecessor.
        var incomplete = analysis(.undetermined)
        incomplete.reason = "incomplete"
        incomplete.seriesInstanceUID = UID("1.2.3.5")
        let later = StudyHistory(history.analyses + [incomplete])
        #expect(later.settledSeries == nil)
        #expect(later.nextRevision == 2)
        #expect(later.predecessor?.sopInstanceUID == UID("2.25.101"))
    }

    @Test func onlyWhatIsConcludedAndDeliveredAndOldIsPurged() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        let later = Date(timeIntervalSince1970: 100)
        #expect(try await ledger.purgeOldestStudy(receivedBefore: later) == nil)
        try await conclude(ledger, 1)
        #expect(try await ledger.purgeOldestStudy(receivedBefore: later) == nil)
        for destination in ["pacs", "archive"] {
            var delivery = try #require(try await ledger.dueDeliveries(to: destination, at: .now, limit: 1).first)
            delivery.state = .delivered
            try await ledger.updateDelivery(delivery)
        }
        #expect(try await ledger.purgeOldestStudy(receivedBefore: Date(timeIntervalSince1970: 1)) == nil)
        let purged = try #require(try await ledger.purgeOldestStudy(receivedBefore: later))
        #expect(purged == (study, ["/spool/1.v1"]))
        #expect(try await ledger.purgeOldestStudy(receivedBefore: later) == nil)
        #expect(try await ledger.instances(ofStudy: study).map(\.isPurged) == [true])
        let received = try await ledger.instances(ofStudy: study)[0].receivedAt
        #expect(try await ledger.instancePaths(ofStudy: study) == ["/spool/1.v1": .purged(receivedAt: received)])
        #expect(try await ledger.study(study)?.study.purgedCount == 1)
        // Sent again it is new, once.
        var again = instance(1)
        again.receivedAt = later
        again.record.image.instanceNumber = 7
        #expect(try await ledger.recordInstances([again]) == [again])
        #expect(try await ledger.recordInstances([again]).isEmpty)
        #expect(try await ledger.instances(ofStudy: study) == [again])
        #expect(try await ledger.unconcludedStudies() == [study])
        // An analysis that was put together before does not see it.
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 0, because: "a test")
        try await ledger.concludeUnchanged(study: study, because: "a test")
        #expect(try await ledger.unconcludedStudies() == [study])
    }

    @Test func imagesOfAHeadThatNobodyWasToldOfStayUntilItIsIgnored() async throws {
        let ledger = try ledger()
        let later = Date(timeIntervalSince1970: 100)
        try await ledger.recordInstances([instance(1)])
        func conclude(_ outcome: Outcome, _ reason: String = "", to destinations: [String] = []) async throws {
            _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
            var entry = analysis(outcome)
            entry.reason = reason
            try await ledger.conclude(
                entry, objects: [],
                deliveries: destinations.map { NewDelivery(destination: $0, priority: 1, objects: [object]) })
        }
        // No route took it, or the like.
        for outcome in [Outcome.undetermined, .negative, .positive] {
            try await conclude(outcome)
            #expect(try await ledger.purgeOldestStudy(receivedBefore: later) == nil)
        }
        // One that was reported before, and is held.
        try await conclude(.negative, to: ["pacs"])
        var delivery = try #require(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 1).first)
        delivery.state = .delivered
        try await ledger.updateDelivery(delivery)
        try await conclude(.undetermined, "identity conflict: 2 patients")
        #expect(try await ledger.purgeOldestStudy(receivedBefore: later) == nil)
        _ = try await ledger.record(.ignored, onStudy: study)
        #expect(try await ledger.purgeOldestStudy(receivedBefore: later)?.study == study)
    }

    @Test func imagesOfWhatIsNoHeadGo() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        try await ledger.conclude(analysis(.notHeadCT), objects: [], deliveries: [])
        #expect(try await ledger.purgeOldestStudy(receivedBefore: Date(timeIntervalSince1970: 100))?.study == study)
    }

    // MARK: Storage commitment

    /// To one destination of the two.
    private func accepted(_ ledger: SQLiteLedger, _ number: Int = 1) async throws -> DeliveryEntry {
        try await ledger.recordInstances([instance(1)])
        try await conclude(ledger, number)
        var delivery = try #require(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 9).last)
        delivery.state = .accepted
        delivery.objects[0].state = .accepted
        try await ledger.updateDelivery(delivery)
        return delivery
    }

    @Test func whatIsAcceptedIsOwedAndSurvivesReopening() async throws {
        var ledger = try ledger()
        let delivery = try await accepted(ledger)
        #expect(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 1).isEmpty)
        #expect(try await ledger.beginCommitment(ofDelivery: delivery.id, under: UID("2.25.5")!))
        let asked = Date(timeIntervalSince1970: 1000)
        _ = try await ledger.changeDelivery(under: UID("2.25.5")!) {
            $0.commitmentAskedAt = asked
            $0.nextAttemptAt = .now + 60
        }
        ledger = try self.ledger()
        let detail = try #require(try await ledger.study(study))
        #expect(detail.study.pendingDeliveries == 2)
        #expect(detail.deliveries[0].state == .accepted)
        #expect(detail.deliveries[0].transactionUID == UID("2.25.5"))
        #expect(detail.deliveries[0].commitmentAskedAt == asked)
        #expect(try await ledger.uncommittedDeliveryCount() == 1)
        #expect(try await ledger.dueCommitments(at: .now, latest: .now + 3600).isEmpty)
        #expect(try await ledger.dueCommitments(at: .now + 61, latest: .now + 3600).map(\.id) == [delivery.id])
        #expect(detail.events.filter { $0.text == "to pacs: 1 objects accepted, commitment is asked for" }.count == 1)
    }

    @Test func whatIsAcceptedIsNotPurged() async throws {
        let ledger = try ledger()
        let delivery = try await accepted(ledger)
        var other = try #require(try await ledger.dueDeliveries(to: "archive", at: .now, limit: 1).first)
        other.state = .delivered
        try await ledger.updateDelivery(other)
        let later = Date(timeIntervalSince1970: 100)
        #expect(try await ledger.purgeOldestStudy(receivedBefore: later) == nil)
        #expect(try await ledger.beginCommitment(ofDelivery: delivery.id, under: UID("2.25.5")!))
        _ = try await ledger.changeDelivery(under: UID("2.25.5")!) { $0.state = .delivered }
        #expect(try await ledger.study(study)?.events.last?.text == "to pacs: 1 objects committed")
        #expect(try await ledger.purgeOldestStudy(receivedBefore: later)?.study == study)
    }

    @Test func onlyWhatIsAcceptedIsChangedAndOnlyUnderItsLatestTransaction() async throws {
        let ledger = try ledger()
        let delivery = try await accepted(ledger)
        #expect(try await ledger.beginCommitment(ofDelivery: delivery.id, under: UID("2.25.5")!))
        #expect(try await ledger.beginCommitment(ofDelivery: delivery.id, under: UID("2.25.6")!))
        #expect(try await ledger.changeDelivery(under: UID("2.25.5")!) { $0.state = .dead } == nil)
        let first = try await ledger.changeDelivery(under: UID("2.25.6")!) { $0.state = .delivered }
        #expect(first?.isChanged == true)
        let second = try await ledger.changeDelivery(under: UID("2.25.6")!) { $0.state = .dead }
        #expect(second?.isChanged == false)
        #expect(second?.delivery.state == .delivered)
        #expect(try await ledger.beginCommitment(ofDelivery: delivery.id, under: UID("2.25.7")!) == false)
    }

    /// What is accepted later must not be sent earlier, when the commitment of an earlier one fails.
    @Test func anAcceptedRevisionWithdrawsWhatIsNotYetCommittedOfTheEarlier() async throws {
        let ledger = try ledger()
        let first = try await accepted(ledger, 1)
        #expect(try await ledger.beginCommitment(ofDelivery: first.id, under: UID("2.25.5")!))
        _ = try await accepted(ledger, 2)
        let states = try await ledger.study(study)?.deliveries.filter { $0.destination == "pacs" }.map(\.state)
        #expect(states == [.superseded, .accepted])
        // Its report is still known, and changes nothing.
        #expect(try await ledger.changeDelivery(under: UID("2.25.5")!) { $0.state = .pending }?.isChanged == false)
    }

    @Test func deliveriesOfAnEarlierBuildAreReadAfterMigration() async throws {
        let objects = try json([DeliveryObject(object: object, state: .pending, status: nil)])
        try await leaveLedger(upTo: "frames of instances") { database in
            try database.execute(
                sql: """
                    INSERT INTO delivery
                        (study_uid, destination, state, priority, attempts, next_attempt_at, created_at, objects)
                    VALUES ('1.2.3', 'pacs', 'pending', 0, 0, 1, 1, ?)
                    """, arguments: [objects])
        }
        let delivery = try #require(try await ledger().dueDeliveries(to: "pacs", at: .now, limit: 1).first)
        #expect(delivery.transactionUID == nil)
        #expect(delivery.objects.map(\.object) == [object])
    }

    @Test func decisionsAndGapsSurviveReopening() async throws {
        var ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        #expect(try await ledger.record(.ignored, onStudy: study))
        #expect(try await ledger.record(.ignored, onStudy: UID("1.9")!) == false)
        try await ledger.recordAssociationGaps([0.5, 1.25], ofPeer: "10.0.0.1")
        try await ledger.recordAssociationGaps([2], ofPeer: "10.0.0.1")
        ledger = try self.ledger()
        #expect(try await ledger.decision(onStudy: study) == .ignored)
        #expect(try await ledger.associationGaps() == ["10.0.0.1": [2]])
        #expect(try await ledger.record(nil, onStudy: study))
        #expect(try await ledger.decision(onStudy: study) == nil)
    }

    @Test func anAbandonedAnalysisLeavesTheStudyOpen() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 1)
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 2)
        try await ledger.abandonAnalysis(ofStudy: study, because: "more arrived")
        #expect(try await ledger.study(study)?.study.state == .receiving)
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 1)
    }

    @Test func anInterruptedAnalysisDoesNotCount() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 1)
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 2)
        try await ledger.interruptAnalysis(ofStudy: study)
        #expect(try await ledger.study(study)?.study.state == .analysing)
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 2)
        try await ledger.concludeUnchanged(study: study, because: "a test")
        try await ledger.interruptAnalysis(ofStudy: study)
        #expect(try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test") == 1)
    }

    @Test func whatIsNotCommittedCanBeSentAgainAtOnce() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        try await conclude(ledger, 1)
        var accepted = try #require(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 1).first)
        (accepted.state, accepted.objects[0].state) = (.accepted, .accepted)
        try await ledger.updateDelivery(accepted)
        let transaction = UID("2.25.7")!
        #expect(try await ledger.beginCommitment(ofDelivery: accepted.id, under: transaction))
        let again = try #require(try await ledger.retryDelivery(accepted.id))
        #expect(again.state == .pending && again.objects[0].state == .pending)
        // A report on what was asked before says nothing any more.
        #expect(try await ledger.changeDelivery(under: transaction) { _ in } == nil)
    }

    @Test func anOperatorRetriesAndDiscardsWhatIsOpen() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance(1)])
        try await conclude(ledger, 1)
        var refused = try #require(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 1).first)
        refused.state = .dead
        refused.attempts = 7
        refused.objects[0].state = .dead
        try await ledger.updateDelivery(refused)
        #expect(try await ledger.deliveries(all: false, limit: 10).count == 2)
        let again = try #require(try await ledger.retryDelivery(refused.id))
        #expect(again.state == .pending && again.attempts == 0 && again.objects[0].state == .pending)
        #expect(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 1).first?.id == refused.id)
        #expect(try await ledger.discardDelivery(refused.id)?.state == .discarded)
        // An attempt that was under way does not bring it back; one that succeeded is what happened.
        try await ledger.updateDelivery(again)
        #expect(try await ledger.dueDeliveries(to: "pacs", at: .now, limit: 1).isEmpty)
        #expect(try await ledger.retryDelivery(refused.id) == nil)
        #expect(try await ledger.discardDelivery(99) == nil)
        #expect(try await ledger.deliveries(all: false, limit: 10).map(\.destination) == ["archive"])
        #expect(try await ledger.deliveries(all: true, limit: 10).count == 2)
    }

    @Test func aPurgedMultiFrameInstanceComesAgainWithItsFrames() async throws {
        let ledger = try ledger()
        var enhanced = instance(1)
        enhanced.record.multiFrame = MultiFrame([FrameAttributes(), FrameAttributes()])
        try await ledger.recordInstances([enhanced])
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "a test")
        try await ledger.concludeUnchanged(study: study, because: "a test")
        #expect(try await ledger.purgeOldestStudy(receivedBefore: Date(timeIntervalSince1970: 9)) != nil)
        var again = enhanced
        again.record.multiFrame = MultiFrame([FrameAttributes()])
        #expect(try await ledger.recordInstances([again]) == [again])
        #expect(try await ledger.instances(ofStudy: study) == [again])
    }

    @Test func aStudyOfAnEarlierSchemaHasFilesToForget() async throws {
        let common = try json(CommonAttributes(instance(1).record))
        try await leaveLedger(upTo: "columns of instances") { database in
            try database.execute(
                sql: "INSERT INTO common_attributes (digest, attributes) VALUES ('d', ?)", arguments: [common])
            try database.execute(
                sql: """
                    INSERT INTO instance (study_uid, series_uid, sop_uid, version, path, common_id, file_size,
                                          received_at)
                    VALUES ('1.2.3', '1.2.3.4', '1.2.3.4.1', 1, '/spool/1.v1', 1, 0, 1);
                    UPDATE study SET state = 'concluded';
                    """)
        }
        let ledger = try ledger()
        #expect(try await ledger.instances(ofStudy: study) == [instance(1)])
        let purged = try await ledger.purgeOldestStudy(receivedBefore: Date(timeIntervalSince1970: 9))
        #expect(purged?.paths == ["/spool/1.v1"])
    }
}
