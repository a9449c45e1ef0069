import Foundation
import Ledger
import Logging
import ServiceLifecycle
import Testing
import WorkerProtocol

@testable import StoreSCP

@Suite struct StudyAssemblerTests {
    private let study = UID("1.2.3")!
    private let ledger: SQLiteLedger

    init() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        ledger = try SQLiteLedger(path: folder.appendingPathComponent("l.sqlite").path)
    }

    private func instance(_ number: Int, study: UID? = nil, at date: Date) -> StoredInstance {
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.\(number)")!,
            studyInstanceUID: study ?? self.study, seriesInstanceUID: UID("1.8")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        return StoredInstance(record: record, path: "/\(study ?? self.study)/\(number)", receivedAt: date)
    }

    /// Runs the assembler with a clock that the test sets.
    private func assembling(
        evidence: @escaping StudyAssembler.FindEvidence = { _, _ in SeriesEvidence() },
        counts: @escaping StudyAssembler.AskCounts = { _, _ in nil },
        retrieve: StudyAssembler.RetrieveSeries? = nil, elapsed: (@Sendable () -> Duration)? = nil,
        _ body: (StudyAssembler, (Double) -> Void, (Int) async throws -> [AssembledStudy]) async throws -> Void
    ) async throws {
        let time = LockedTime()
        let clock = WallClock(
            now: { time.now }, sleep: { _ in try await Task.sleep(for: .milliseconds(2)) }, elapsed: elapsed)
        let assembler = StudyAssembler(
            policy: .init(grace: .seconds(2), quietTime: .seconds(60), deadline: .seconds(600)), ledger: ledger,
            clock: clock, logger: Logger(label: "test"), evidence: evidence, counts: counts,
            retrieval: { _ in retrieve })
        let running = Task { try await assembler.run() }
        let collector = Collector(assembler.events)
        try await body(assembler, { time.now += $0 }) { count in
            // Time for what must not happen; and patience for what must, on a busy machine.
            try await Task.sleep(for: .milliseconds(60))
            for _ in 0..<1000 where await collector.assembled.count < count {
                try await Task.sleep(for: .milliseconds(10))
            }
            let all = await collector.assembled
            try #require(all.count == count)
            return all
        }
        running.cancel()
    }

    @Test func aStudyIsAssembledOnceTheGraceHasPassed() async throws {
        try await assembling { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            advance(30)
            _ = try await assembled(0)
            await assembler.ended("a", at: start + 30)
            advance(1.9)
            _ = try await assembled(0)
            advance(0.2)
            let study = try await assembled(1)[0]
            #expect(study.decision == .complete(.grace))
            #expect(study.instances.count == 1)
        }
    }

    @Test func anotherAssociationOfThePeerWithinTheGraceGoesOn() async throws {
        try await assembling { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(1)
            await assembler.opened("b", peer: "p", at: start + 1)
            advance(10)
            _ = try await assembled(0)
            await assembler.arrived(instance(2, at: start + 11), association: "b")
            await assembler.ended("b", at: start + 11)
            advance(2.1)
            let found = try await assembled(1)[0]
            #expect(found.instances.count == 2)
        }
    }

    @Test func anAssociationThatBringsAnotherStudyHoldsNoOther() async throws {
        try await assembling { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.opened("b", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.arrived(instance(1, study: UID("7.7"), at: start), association: "b")
            await assembler.ended("a", at: start)
            advance(2.1)
            let found = try await assembled(1)[0]
            #expect(found.studyInstanceUID == study)
        }
    }

    @Test func missingSlicesKeepItWaitingAndTheDeadlineMakesItIncomplete() async throws {
        let evidence: StudyAssembler.FindEvidence = {
            instances, _ in .init(missing: instances.count < 3 ? [.slice(atMillimetres: 3)] : [])
        }
        try await assembling(evidence: evidence) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(599)
            _ = try await assembled(0)
            advance(2)
            let found = try await assembled(1)[0]
            #expect(found.decision == .incomplete(.deadline, reasons: [.slice(atMillimetres: 3)]))
        }
    }

    @Test func theMissingSliceCompletesIt() async throws {
        let evidence: StudyAssembler.FindEvidence = {
            instances, _ in .init(missing: instances.count < 2 ? [.slice(atMillimetres: 2)] : [])
        }
        try await assembling(evidence: evidence) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(100)
            _ = try await assembled(0)
            await assembler.opened("b", peer: "q", at: start + 100)
            await assembler.arrived(instance(2, at: start + 100), association: "b")
            await assembler.ended("b", at: start + 100)
            advance(2.1)
            let found = try await assembled(1)[0]
            #expect(found.decision == .complete(.grace))
        }
    }

    @Test func aPeerWithAnAssociationForEachImageIsGivenTwiceItsPause() async throws {
        try await assembling { assembler, advance, assembled in
            var now = Date(timeIntervalSince1970: 10_000)
            func pass(_ seconds: Double) {
                now += seconds
                advance(seconds)
            }
            func send(_ number: Int, of study: UID) async {
                await assembler.opened("\(study) \(number)", peer: "p", at: now)
                await assembler.arrived(instance(number, study: study, at: now), association: "\(study) \(number)")
                await assembler.ended("\(study) \(number)", at: now)
            }
            // Pauses within the grace, from which a longer grace is learned.
            for number in 1...10 {
                await send(number, of: UID("7.7")!)
                pass(1.9)
            }
            _ = try await assembled(0)
            pass(2)
            _ = try await assembled(1)
            await send(1, of: study)
            pass(3.7)
            _ = try await assembled(1)
            await send(2, of: study)
            // And a longer one yet from that pause.
            pass(7.3)
            _ = try await assembled(1)
            pass(0.2)
            #expect(try await assembled(2)[1].instances.count == 2)
        }
    }

    @Test func aStudyThatComesAgainMuchLaterTeachesNoPause() {
        var gaps = AssociationGaps()
        #expect(gaps.percentile99 == nil)
        for _ in 0..<7 { gaps.add(1) }
        #expect(gaps.percentile99 == nil)
        for _ in 0..<300 { gaps.add(1) }
        #expect(gaps.percentile99 == 1)
        gaps.add(30)
        gaps.add(30)
        gaps.add(30)
        // Three of 256 are more than one in a hundred.
        #expect(gaps.percentile99 == 30)
        for _ in 0..<256 { gaps.add(2) }
        #expect(gaps.percentile99 == 2)
    }

    /// A series of so many images, of which every second may be missing.
    @Sendable private func doubtful(_ records: [StoredInstance], _ settled: UID?) -> SeriesEvidence {
        SeriesEvidence(
            seriesInstanceUID: UID("1.8"), imageCount: records.count,
            doubts: [.wideSpacing(millimetres: 5, thickness: 2.5)])
    }

    @Test func thePACSIsAskedTwiceAndItsCountEndsTheWaiting() async throws {
        let asked = LockedCount()
        let counts: StudyAssembler.AskCounts = { _, _ in
            asked.increment()
            return [UID("1.8")!: 1]
        }
        try await assembling(evidence: doubtful, counts: counts) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(1.9)
            _ = try await assembled(0)
            #expect(asked.value == 0)
            advance(0.2)
            try await asked.reaches(1)
            // Its answer has to arrive before time goes on.
            try await Task.sleep(for: .milliseconds(500))
            _ = try await assembled(0)
            #expect(asked.value == 1)
            advance(2.1)
            let found = try await assembled(1)[0]
            #expect(found.decision == .complete(.held))
            #expect(asked.value == 2)
        }
    }

    @Test func anAnswerToWhatWasAskedBeforePeersChangedIsNone() async throws {
        let (asked, released) = (LockedCount(), LockedCount())
        let counts: StudyAssembler.AskCounts = { _, _ in
            asked.increment()
            // Later there is nobody to ask.
            guard asked.value == 1 else { return nil }
            try await released.reaches(1)
            return [UID("1.8")!: 5]
        }
        try await assembling(evidence: doubtful, counts: counts) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(2.1)
            try await asked.reaches(1)
            await assembler.reconsider()
            try await asked.reaches(2)
            released.increment()
            // The answer has to arrive before time goes on.
            try await Task.sleep(for: .milliseconds(500))
            advance(60)
            let found = try await assembled(1)[0]
            #expect(found.decision == .complete(.quiet, doubts: [.wideSpacing(millimetres: 5, thickness: 2.5)]))
        }
    }

    @Test func aPACSThatDoesNotAnswerLeavesItToTime() async throws {
        let asked = LockedCount()
        let counts: StudyAssembler.AskCounts = { _, _ in
            asked.increment()
            throw WorkerError(.failed, "nobody there")
        }
        try await assembling(evidence: doubtful, counts: counts) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(30)
            try await asked.reaches(1)
            advance(29)
            _ = try await assembled(0)
            #expect(asked.value == 1)
            advance(2)
            let found = try await assembled(1)[0]
            #expect(found.decision == .complete(.quiet, doubts: [.wideSpacing(millimetres: 5, thickness: 2.5)]))
        }
    }

    /// A series of three images.
    @Sendable private func gapped(_ records: [StoredInstance], _ settled: UID?) -> SeriesEvidence {
        SeriesEvidence(
            seriesInstanceUID: UID("1.8"), imageCount: records.count,
            missing: records.count < 3 ? [.slice(atMillimetres: 2)] : [])
    }

    @Test func missingImagesAreAskedForAgainOnlyWhenSomethingCame() async throws {
        let asked = LockedCount()
        let retrieve: StudyAssembler.RetrieveSeries = { series, study in
            #expect(series == UID("1.8"))
            #expect(study == UID("1.2.3"))
            asked.increment()
            return "1 images sent"
        }
        try await assembling(evidence: gapped, retrieve: retrieve) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(1.9)
            _ = try await assembled(0)
            #expect(asked.value == 0)
            advance(0.2)
            try await asked.reaches(1)
            advance(100)
            _ = try await assembled(0)
            #expect(asked.value == 1)
            await assembler.opened("b", peer: "q", at: start + 102.1)
            await assembler.arrived(instance(2, at: start + 102.1), association: "b")
            _ = try await assembled(0)
            await assembler.ended("b", at: start + 102.1)
            _ = try await assembled(0)
            #expect(asked.value == 1)
            advance(2.1)
            try await asked.reaches(2)
            await assembler.opened("c", peer: "q", at: start + 104.2)
            await assembler.arrived(instance(3, at: start + 104.2), association: "c")
            await assembler.ended("c", at: start + 104.2)
            advance(2.1)
            let found = try await assembled(1)[0]
            #expect(found.decision == .complete(.grace))
            #expect(asked.value == 2)
        }
    }

    @Test(arguments: [nil, "the peer does not know the move destination"])
    func whatCameOfTheQuestionIsInTheStudysHistory(failure: String?) async throws {
        let start = Date(timeIntervalSince1970: 10_000)
        let first = instance(1, at: start)
        _ = try await ledger.recordInstances([first])
        let retrieve: StudyAssembler.RetrieveSeries = { _, _ in
            if let failure { throw WorkerError(.failed, failure) }
            return "1 images sent"
        }
        try await assembling(evidence: gapped, retrieve: retrieve) { assembler, advance, assembled in
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(first, association: "a")
            await assembler.ended("a", at: start)
            advance(2.1)
            var events: [StudyEvent] = []
            for _ in 0..<1000 where events.isEmpty {
                try await Task.sleep(for: .milliseconds(10))
                events = try await ledger.study(study)?.events.filter { $0.kind == "retrieve" } ?? []
            }
            #expect(events.map(\.text) == [failure ?? "1 images sent"])
            _ = try await assembled(0)
        }
    }

    /// Where nothing is asked for, pauses between associations of an unfinished study are the peer's own.
    @Test(arguments: [true, false]) func anAssociationThatWasAskedForTeachesNoPause(asks: Bool) async throws {
        let asked = LockedCount()
        let retrieve: StudyAssembler.RetrieveSeries = { _, _ in
            asked.increment()
            return "1 images sent"
        }
        // One pause less than tells anything.
        try await ledger.recordAssociationGaps(Array(repeating: 10, count: 7), ofPeer: "p")
        try await assembling(evidence: gapped, retrieve: asks ? retrieve : nil) { assembler, advance, assembled in
            try await assembler.recallGaps()
            var now = Date(timeIntervalSince1970: 10_000)
            for number in 1...3 {
                now += 10
                advance(10)
                _ = try await assembled(0)
                if asks { try await asked.reaches(number - 1) }
                await assembler.opened("\(number)", peer: "p", at: now)
                await assembler.arrived(instance(number, at: now), association: "\(number)")
                await assembler.ended("\(number)", at: now)
            }
            advance(2.1)
            _ = try await assembled(asks ? 1 : 0)
            advance(18)
            _ = try await assembled(1)
        }
    }

    @Test func fewStudiesAreAskedForAtOnce() async throws {
        let (asked, answered) = (LockedCount(), LockedCount())
        let retrieve: StudyAssembler.RetrieveSeries = { _, _ in
            asked.increment()
            try await answered.reaches(1)
            return "0 images sent"
        }
        try await assembling(evidence: gapped, retrieve: retrieve) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            for number in 1...5 {
                await assembler.opened("\(number)", peer: "p", at: start)
                await assembler.arrived(
                    instance(1, study: UID("7.\(number)")!, at: start), association: "\(number)")
                await assembler.ended("\(number)", at: start)
            }
            advance(2.1)
            try await asked.reaches(4)
            _ = try await assembled(0)
            #expect(asked.value == 4)
            answered.increment()
            try await asked.reaches(5)
            #expect(asked.value == 5)
        }
    }

    @Test func anOperatorCanForceIt() async throws {
        try await assembling { assembler, _, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            #expect(await assembler.force(UID("9.9")!) == false)
            #expect(await assembler.force(study))
            let found = try await assembled(1)[0]
            #expect(found.decision == .complete(.forced))
        }
    }
}

/// What analyses and operators give back.
extension StudyAssemblerTests {
    @Test func aStudyHeldBackWaitsForTheQuietTimeOrForMore() async throws {
        let doubts = [CompletionReason.cutOff(end: "upper")]
        try await assembling { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            try await ledger.recordInstances([instance(1, at: start)])
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(2.1)
            let first = try await assembled(1)[0]
            #expect(first.decision == .complete(.grace))
            await assembler.holdBack(first, because: doubts)
            #expect(
                await assembler.waiting(study)
                    == "waits until 58 s from now: the upper end of the series shows brain: the head is cut off")
            advance(57)
            _ = try await assembled(1)
            advance(2)
            #expect(try await assembled(2)[1].decision == .complete(.quiet, doubts: doubts))
            // What arrives lifts the doubt.
            await assembler.holdBack(first, because: doubts)
            await assembler.opened("b", peer: "p", at: start + 61)
            await assembler.arrived(instance(2, at: start + 61), association: "b")
            await assembler.ended("b", at: start + 61)
            advance(5)
            let last = try await assembled(3)[2]
            #expect(last.decision == .complete(.grace))
            #expect(last.instances.count == 2)
        }
    }

    /// It is as whole as it is by then, and nothing was seen in the pixels of what is new.
    @Test func aStudyHeldBackOfWhichMoreHasBeenAssembledIsAllOfIt() async throws {
        try await assembling { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            for number in 1...2 {
                try await ledger.recordInstances([instance(number, at: start)])
                await assembler.opened("a", peer: "p", at: start)
                await assembler.arrived(instance(number, at: start), association: "a")
                await assembler.ended("a", at: start)
                advance(2.1)
                _ = try await assembled(number)
            }
            await assembler.holdBack(try await assembled(2)[0], because: [CompletionReason.cutOff(end: "upper")])
            _ = try await assembled(2)
            advance(2.1)
            let last = try await assembled(3)[2]
            #expect(last.decision == .complete(.grace))
            #expect(last.instances.count == 2 && last.lastArrival >= start)
        }
    }

    @Test func whatComesWhileAStudyIsAnalysedIsJudgedByWhatThatSettled() async throws {
        let series = UID("1.8")!
        let evidence: StudyAssembler.FindEvidence = { _, settled in
            SeriesEvidence(seriesInstanceUID: series, missing: settled == nil ? [.slice(atMillimetres: 3)] : [])
        }
        try await assembling(evidence: evidence) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.concluded(study, settling: series)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(5)
            _ = try await assembled(0)
            await assembler.concluded(study, settling: series)
            let found = try await assembled(1)[0]
            #expect(found.settledSeries == series && found.decidedSeries == series)
            #expect(found.decision == .complete(.grace))
        }
    }

    @Test func anImageThatWasLostIsWaitedForUntilALaterAssociationBringsOne() async throws {
        let evidence: StudyAssembler.FindEvidence = { instances, _ in
            SeriesEvidence(seriesInstanceUID: UID("1.8"), imageCount: instances.count)
        }
        try await assembling(evidence: evidence) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            for id in ["a", "b"] { await assembler.opened(id, peer: "p", at: start) }
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.arrived(instance(2, at: start), association: "b")
            advance(1)
            await assembler.ended("a", at: start + 1, .imageLost)
            // One that was open before may not even know.
            await assembler.arrived(instance(3, at: start + 1), association: "b")
            await assembler.ended("b", at: start + 1)
            advance(300)
            _ = try await assembled(0)
            await assembler.opened("c", peer: "p", at: start + 301)
            await assembler.arrived(instance(4, at: start + 301), association: "c")
            await assembler.ended("c", at: start + 301)
            advance(2.1)
            #expect(try await assembled(1)[0].decision == .complete(.grace))
        }
    }

    @Test func anImageThatWasLostForGoodMakesItIncomplete() async throws {
        let evidence: StudyAssembler.FindEvidence = { instances, _ in
            SeriesEvidence(seriesInstanceUID: UID("1.8"), imageCount: instances.count)
        }
        try await assembling(evidence: evidence) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start, .imageLost)
            advance(601)
            let found = try await assembled(1)[0]
            #expect(found.decision == .incomplete(.deadline, reasons: [.imageLost]))
        }
    }

    /// By its name, whichever association it was on; over a restart too.
    @Test(arguments: [false, true])
    func anImageThatIsKnownToBeLostIsWaitedForAndNoOther(isResumed: Bool) async throws {
        let evidence: StudyAssembler.FindEvidence = { instances, _ in
            SeriesEvidence(seriesInstanceUID: UID("1.8"), imageCount: instances.count)
        }
        let lost = LostObject(
            sopClassUID: "1.2.840.10008.5.1.4.1.1.2", sopInstanceUID: UID("1.9.2"), studyInstanceUID: study)
        try await assembling(evidence: evidence) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            func send(_ number: Int, at date: Date) async throws {
                try await ledger.recordInstances([instance(number, at: date)])
                await assembler.opened("\(number)", peer: "p", at: date)
                await assembler.arrived(instance(number, at: date), association: "\(number)")
                await assembler.ended("\(number)", at: date)
            }
            // Before anything of it is here.
            await assembler.opened("b", peer: "p", at: start)
            _ = try await ledger.recordLostImages([(study, lost.sopInstanceUID)])
            await assembler.lost(lost, association: "b", at: start, isNew: true)
            await assembler.ended("b", at: start, .brokeOff)
            if isResumed {
                try await ledger.recordInstances([instance(1, at: start)])
                await assembler.resume(
                    study, instances: [instance(1, at: start)], wasAssembled: true,
                    lost: try await ledger.lostImages(ofStudy: study))
            } else {
                try await send(1, at: start)
            }
            try await send(3, at: start + 1)
            advance(599)
            _ = try await assembled(0)
            advance(3)
            #expect(try await assembled(1)[0].decision == .incomplete(.deadline, reasons: [.imageLost]))
            // Still, when more of it comes.
            try await send(4, at: start + 602)
            advance(5)
            _ = try await assembled(1)
            try await send(2, at: start + 607)
            advance(2.1)
            #expect(try await assembled(2)[1].decision == .complete(.grace))
            // It is here: refused once more it is not lost.
            #expect(try await ledger.recordLostImages([(study, lost.sopInstanceUID)]) == [])
            // Of what is concluded one is lost that nobody knew of, and it is sent in vain once more.
            let further = LostObject(
                sopClassUID: lost.sopClassUID, sopInstanceUID: UID("1.9.5"), studyInstanceUID: study)
            for isNew in [true, false] {
                let new = try await ledger.recordLostImages([(study, further.sopInstanceUID)])
                #expect(new == (isNew ? [study] : []))
                await assembler.lost(further, association: "x", at: start + 610, isNew: isNew)
                advance(700)
                let found = try await assembled(3)[2]
                #expect(found.decision == .incomplete(.deadline, reasons: [.imageLost]))
            }
        }
    }

    @Test func anImageOfWhichNothingIsKnownKeepsThePeersStudiesWaiting() async throws {
        try await assembling { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            for (id, conclusion) in [("a", AssociationConclusion.released), ("b", .imageLost)] {
                await assembler.opened(id, peer: "p", at: start)
                if id == "a" { await assembler.arrived(instance(1, at: start), association: id) }
                await assembler.ended(id, at: start, conclusion)
            }
            advance(59)
            _ = try await assembled(0)
            advance(2)
            #expect(try await assembled(1)[0].decision == .complete(.quiet))
        }
    }

    @Test func anOperatorHasAConcludedStudyAnalysedAgain() async throws {
        try await assembling { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            #expect(await assembler.reprocess(study) == false)
            try await ledger.recordInstances([instance(1, at: start), instance(2, at: start)])
            #expect(await assembler.reprocess(study))
            let found = try await assembled(1)[0]
            #expect(found.decision == .complete(.forced))
            #expect(found.isReprocessed)
            #expect(found.instances.count == 2)
        }
    }

    @Test func aPeersPausesAreKnownAfterARestart() async throws {
        try await ledger.recordAssociationGaps(Array(repeating: 9, count: 8), ofPeer: "p")
        try await assembling { assembler, advance, assembled in
            try await assembler.recallGaps()
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(17)
            _ = try await assembled(0)
            await assembler.opened("b", peer: "p", at: start + 17)
            await assembler.arrived(instance(2, at: start + 17), association: "b")
            await assembler.ended("b", at: start + 17)
            advance(35)
            _ = try await assembled(1)
        }
        #expect(try await ledger.associationGaps() == ["p": Array(repeating: 9, count: 8) + [17]])
    }

    @Test func aPurgedImageThatComesAgainTakesItsPlace() async throws {
        let start = Date(timeIntervalSince1970: 10_000)
        try await ledger.recordInstances([instance(1, at: start - 100), instance(2, at: start - 100)])
        let evidence: StudyAssembler.FindEvidence = { instances, _ in
            let purged = instances.count(where: \.isPurged)
            return SeriesEvidence(missing: purged > 0 ? [.purged(purged)] : [])
        }
        var before = instance(3, at: start - 100)
        before.isPurged = true
        let purged = before
        try await assembling(evidence: evidence) { assembler, advance, assembled in
            await assembler.resume(study, instances: [purged], wasAssembled: true)
            advance(5)
            _ = try await assembled(0)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(3, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(5)
            #expect(try await assembled(1)[0].instances.map(\.isPurged) == [false])
        }
    }
}

/// What becomes of studies that wait when the clock is set.
extension StudyAssemblerTests {
    @Test(arguments: [true, false]) func aClockThatIsSetBackKeepsNoStudyWaiting(isResumed: Bool) async throws {
        try await assembling { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            if isResumed {
                await assembler.resume(study, instances: [instance(1, at: start)], wasAssembled: true)
            } else {
                await assembler.opened("a", peer: "p", at: start)
                await assembler.arrived(instance(1, at: start), association: "a")
                await assembler.ended("a", at: start)
            }
            advance(-3600)
            _ = try await assembled(0)
            // Less in all than it was set back by.
            for _ in 0..<1000 where await assembler.waiting(study) != nil {
                advance(3)
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(try await assembled(1)[0].decision == .complete(.grace))
        }
    }

    @Test(arguments: [90.0, 86_400])
    func aClockThatIsSetAheadEndsNoWaiting(seconds: Double) async throws {
        let evidence: StudyAssembler.FindEvidence = { _, _ in .init(missing: [.slice(atMillimetres: 3)]) }
        let passed = LockedTime()
        let elapsed: @Sendable () -> Duration = { .seconds(passed.now.timeIntervalSince1970) }
        try await assembling(evidence: evidence, elapsed: elapsed) { assembler, advance, assembled in
            let start = Date(timeIntervalSince1970: 10_000)
            await assembler.opened("a", peer: "p", at: start)
            await assembler.arrived(instance(1, at: start), association: "a")
            await assembler.ended("a", at: start)
            advance(seconds)
            for _ in 0..<500 where await assembler.waiting(study)?.hasPrefix("waits until") != true {
                try await Task.sleep(for: .milliseconds(10))
                passed.now += 1
                advance(1)
            }
            _ = try await assembled(0)
            passed.now += 600
            advance(600)
            let found = try await assembled(1)[0]
            #expect(found.decision == .incomplete(.deadline, reasons: [.slice(atMillimetres: 3)]))
        }
    }
}

/// `@unchecked Sendable` is safe because `value` is guarded by `lock`.
private final class LockedTime: @unchecked Sendable {
    private let lock = NSLock()
    private var value = Date(timeIntervalSince1970: 10_000)
    var now: Date {
        get { lock.withLock { value } }
        set { lock.withLock { value = newValue } }
    }
}

/// `@unchecked Sendable` is safe because `count` is guarded by `lock`.
private final class LockedCount: @unchecked Sendable {
    private let lock = NSLock()
    private var count = 0
    var value: Int { lock.withLock { count } }
    func increment() { lock.withLock { count += 1 } }

    /// Waits, with patience for a busy machine.
    func reaches(_ wanted: Int) async throws {
        for _ in 0..<1000 where value < wanted { try await Task.sleep(for: .milliseconds(10)) }
    }
}

private actor Collector {
    private(set) var assembled: [AssembledStudy] = []
    init(_ events: AsyncStream<AssemblyEvent>) {
        Task { for await event in events { if case .assembled(let study) = event { await add(study) } } }
    }
    private func add(_ study: AssembledStudy) { assembled.append(study) }
}

@Suite struct IntakeBufferTests {
    @Test(.timeLimit(.minutes(1)))
    func nobodyWaitsForRoomOnceTheNodeStops() async {
        let buffer = IntakeBuffer()
        for _ in 0..<IntakeBuffer.capacity { await buffer.add(.nudge) }
        let more = Task { await buffer.add(.nudge) }
        await buffer.stopHoldingBack()
        await more.value
        let all = await buffer.next(atMost: IntakeBuffer.capacity + 2)
        #expect(all?.count == IntakeBuffer.capacity + 1)
    }
}
