import Foundation
import Synchronization
import Testing
import WorkerProtocol

@testable import Ledger

@Suite struct FiguresTests {
    private final class Time: Sendable {
        let now = Mutex(Date(timeIntervalSince1970: 0))
        var clock: WallClock { WallClock(now: { self.now.withLock { $0 } }, sleep: { _ in }) }
        func set(_ date: Date) { now.withLock { $0 = date } }
    }

    private let time = Time()
    private let object = ComposedObject(
        path: "/r/1", sopClassUID: UID("1.2.840.10008.5.1.4.1.1.88.22")!, sopInstanceUID: UID("2.25.7")!)

    private static let berlin: Calendar = {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = TimeZone(identifier: "Europe/Berlin")!
        return calendar
    }()

    private func date(_ text: String) -> Date { ISO8601DateFormatter().date(from: text)! }

    private func ledger() throws -> SQLiteLedger {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("figures-\(UUID()).sqlite")
        return try SQLiteLedger(path: file.path, clock: time.clock)
    }

    private func receive(
        _ ledger: SQLiteLedger, _ study: Int, at moment: Date, from title: String = "CT1"
    ) async throws {
        time.set(moment)
        var record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!,
            sopInstanceUID: UID("1.9.\(study).\(UInt32.random(in: 0...(.max)))")!,
            studyInstanceUID: UID("1.2.\(study)")!, seriesInstanceUID: UID("1.8.\(study)")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        record.callingAETitle = AETitle(title)
        record.fileSize = 1000
        try await ledger.recordInstances([
            StoredInstance(record: record, path: "/\(UUID())", receivedAt: moment)
        ])
    }

    private func conclude(
        _ ledger: SQLiteLedger, _ study: Int, _ outcome: Outcome, reason: String = "", rule: String = "a rule",
        at moment: Date, to destinations: [String] = []
    ) async throws {
        time.set(moment)
        let uid = UID("1.2.\(study)")!
        _ = try await ledger.beginAnalysis(ofStudy: uid, seeing: 1, because: rule)
        let entry = AnalysisEntry(
            studyInstanceUID: uid, revisionDigest: "\(moment)", modelDigest: "m", configurationDigest: "c", route: "d",
            startedAt: moment - 2, completedAt: moment, outcome: outcome, reason: reason, completion: rule,
            studyProbability: nil, threshold: nil, flaggedSlices: 0,
            lastArrival: try await ledger.study(uid)?.study.lastReceivedAt)
        try await ledger.conclude(
            entry, objects: [],
            deliveries: destinations.map { NewDelivery(destination: $0, priority: 1, objects: [object]) })
    }

    private func settle(
        _ ledger: SQLiteLedger, _ study: Int, _ destination: String, _ state: DeliveryState, at moment: Date
    ) async throws {
        time.set(moment)
        for var delivery in try await ledger.deliveries(ofStudy: UID("1.2.\(study)")!)
        where delivery.destination == destination {
            delivery.state = state
            if state == .delivered { delivery.deliveredAt = moment }
            for index in delivery.objects.indices { delivery.objects[index].state = state }
            try await ledger.updateDelivery(delivery)
        }
    }

    /// The clocks of Berlin go forward on 29 March 2026 and back on 25 October.
    @Test(arguments: [("2026-03-30T12:00:00Z", 23.0), ("2026-10-26T12:00:00Z", 25.0)])
    func daysAreFromMidnightToMidnightWhereClocksChange(until: String, hours: Double) {
        let days = StudyFigures.days(3, until: date(until), in: Self.berlin)
        #expect(days.map { $0.duration / 3600 } == [24, hours, 24])
        #expect(zip(days, days.dropFirst()).allSatisfy { $0.end == $1.start })
        #expect(days.last?.contains(date(until)) == true)
    }

    @Test func aStudyIsOfTheDayOfItsLastImage() async throws {
        let ledger = try ledger()
        let days = StudyFigures.days(3, until: date("2026-10-26T12:00:00Z"), in: Self.berlin)
        // 25 October ends at 23:00 UTC: an hour later than by 24-hour days.
        for (study, moment) in [
            (1, "2026-10-24T21:59:59Z"), (2, "2026-10-24T22:00:00Z"), (3, "2026-10-25T22:59:59Z"),
            (4, "2026-10-25T23:00:00Z"),
        ] { try await receive(ledger, study, at: date(moment)) }
        // Neither before the first day nor after the last.
        try await receive(ledger, 5, at: days[0].start - 1)
        try await receive(ledger, 6, at: days[2].end)
        let figures = try await ledger.figures(ofDays: days)
        #expect(figures.days.map(\.studies) == [1, 2, 1])
        #expect(figures.days.map(\.open) == [1, 2, 1])
    }

    @Test func countsOutcomesSendersRulesAndReasons() async throws {
        let ledger = try ledger()
        let day = DateInterval(start: date("2026-11-20T00:00:00Z"), duration: 86400)
        let noon = day.start + 43200
        let studies: [(Outcome, String, String, String)] = [
            (.positive, "", "declared", "CT1"), (.negative, "", "declared; though slice 3 is far", "CT1"),
            (.undetermined, "slice 12 of 30 is missing", "deadline passed; slice 12 of 30 is missing", "CT2"),
            (.undetermined, "slice 7 of 28 is missing", "deadline passed; slice 7 of 28 is missing", "CT1"),
            (.notHeadCT, "", "declared", "CT1"),
        ]
        for (study, each) in studies.enumerated() {
            try await receive(ledger, study, at: noon, from: each.3)
            try await conclude(ledger, study, each.0, reason: each.1, rule: each.2, at: noon + 5)
        }
        let figures = try await ledger.figures(ofDays: [day])
        #expect(figures.days[0].outcomes == [.positive: 1, .negative: 1, .undetermined: 2, .notHeadCT: 1])
        #expect(figures.completions == [.init("declared", 3), .init("deadline passed", 2)])
        #expect(figures.undetermined == [.init("slice … of … is missing", 2)])
        #expect(figures.senders.map(\.callingAETitle) == ["CT1", "CT2"])
        #expect(figures.senders.map(\.studies) == [4, 1])
        #expect(figures.senders.map(\.undetermined) == [1, 1])
    }

    @Test func timeToFlagEndsWithTheFirstAcceptance() async throws {
        let ledger = try ledger()
        let day = DateInterval(start: date("2026-11-20T00:00:00Z"), duration: 86400)
        let noon = day.start + 43200
        for study in 1...6 {
            try await receive(ledger, study, at: noon)
            try await conclude(ledger, study, .negative, at: noon + 5, to: ["a", "b", "c"])
            // The second destination is slower, and the third refuses; the sixth study is not taken by anybody.
            guard study < 6 else { continue }
            try await settle(ledger, study, "a", .delivered, at: noon + 5 + Double(study))
            try await settle(ledger, study, "b", .delivered, at: noon + 500)
            try await settle(ledger, study, "c", .dead, at: noon + 500)
        }
        let figures = try await ledger.figures(ofDays: [day])
        #expect(figures.days[0].toFlag.seconds == [6, 7, 8, 9, 10])
        #expect(figures.days[0].toFlag.percentile(50) == 8)
        #expect(figures.days[0].toFlag.percentile(95) == 10)
        #expect(figures.toFlag(since: noon + 1).count == 0)
        #expect(figures.toFlag(since: noon).count == 5)
        #expect(figures.destinations.map(\.name) == ["a", "b", "c"])
        #expect(figures.destinations.map(\.delivered.seconds) == [[1, 2, 3, 4, 5], [495, 495, 495, 495, 495], []])
        #expect(figures.destinations.map(\.owed) == [1, 1, 1])
        #expect(figures.destinations.map(\.givenUp) == [0, 0, 5])
    }

    @Test func aPercentileOfTooFewIsNone() {
        #expect(Spans([1, 2, 3, 4]).percentile(50) == nil)
        #expect(Spans([5, 1, 2, 4, 3]).percentile(50) == 3)
        #expect(Spans((1...100).map(Double.init)).percentile(95) == 95)
        #expect(Spans((1...20).map(Double.init)).percentile(95) == 19)
    }

    @Test func standsAsItIs() async throws {
        let ledger = try ledger()
        let noon = date("2026-11-20T12:00:00Z")
        #expect(try await ledger.standing() == LedgerStanding())
        try await receive(ledger, 1, at: noon)
        try await receive(ledger, 2, at: noon + 10)
        try await receive(ledger, 3, at: noon + 20)
        _ = try await ledger.beginAnalysis(ofStudy: UID("1.2.3")!, seeing: 1, because: "a rule")
        try await receive(ledger, 4, at: noon + 30)
        try await conclude(ledger, 4, .negative, at: noon + 40, to: ["a", "b"])
        try await settle(ledger, 4, "b", .dead, at: noon + 50)
        let standing = try await ledger.standing()
        #expect(standing.receiving == .init(count: 2, oldest: noon))
        #expect(standing.analysing == .init(count: 1, oldest: noon + 20))
        #expect(standing.pending == .init(count: 1, oldest: noon + 40))
        #expect(standing.givenUp == .init(count: 1, oldest: noon + 40))
        #expect(standing.uncommitted == .init())
        #expect(standing.latestAnalysis == DateInterval(start: noon + 38, end: noon + 40))
    }

    @Test func theSpoolHoldsWhatIsNotRemoved() async throws {
        let ledger = try ledger()
        let noon = date("2026-11-20T12:00:00Z")
        for study in 1...3 { try await receive(ledger, study, at: noon + Double(study)) }
        try await conclude(ledger, 1, .notHeadCT, at: noon + 10)
        #expect(try await ledger.purgeOldestStudy(receivedBefore: noon + 20)?.study == UID("1.2.1"))
        let standing = try await ledger.spoolStanding(receivedSince: noon + 3)
        #expect(standing.held == .init(studies: 2, images: 2, bytes: 2000))
        #expect(standing.oldest == noon + 2)
        #expect(standing.received == .init(studies: 1, images: 1, bytes: 1000))
    }
}
