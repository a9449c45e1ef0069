import Foundation
import GRDB
import Testing
import WorkerProtocol

@testable import Ledger

@Suite struct StudyQueryTests {
    private let file = FileManager.default.temporaryDirectory.appendingPathComponent("studies-\(UUID()).sqlite").path
    private let now = Date(timeIntervalSince1970: 1_700_000_000)

    private func ledger() throws -> SQLiteLedger {
        let now = now
        return try SQLiteLedger(path: file, clock: WallClock(now: { now }, sleep: { _ in }))
    }

    private func instance(
        _ study: String, name: String? = nil, id: String? = nil, accession: String? = nil, description: String? = nil,
        hoursAgo: Double = 1, number: Int = 1
    ) -> StoredInstance {
        var record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("\(study).9.\(number)")!,
            studyInstanceUID: UID(study)!, seriesInstanceUID: UID("\(study).9")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        record.patient = PatientIdentity(name: name, id: id, birthDate: "19500131", sex: "F")
        record.study.accessionNumber = accession
        record.study.description = description
        record.study.date = "20231114"
        record.study.time = "101500.25"
        return StoredInstance(
            record: record, path: "/spool/\(study)/\(number)", receivedAt: now.addingTimeInterval(-3600 * hoursAgo))
    }

    private let report = ComposedObject(
        path: "/results/a.dcm", sopClassUID: UID("1.2.840.10008.5.1.4.1.1.88.22")!, sopInstanceUID: UID("2.25.7")!)

    private func conclude(
        _ ledger: SQLiteLedger, _ study: String, _ outcome: Outcome, object: ComposedObject? = nil,
        lastArrival: Date? = nil
    ) async throws {
        _ = try await ledger.beginAnalysis(ofStudy: UID(study)!, seeing: 1, because: "a test")
        try await ledger.conclude(
            AnalysisEntry(
                studyInstanceUID: UID(study)!, revisionDigest: "r", modelDigest: "m", configurationDigest: "c",
                route: "default", startedAt: now, completedAt: now, outcome: outcome, reason: "", completion: "grace",
                studyProbability: 0.9, threshold: 0.5, flaggedSlices: 1, lastArrival: lastArrival),
            objects: object.map { [$0] } ?? [],
            deliveries: object.map { [NewDelivery(destination: "pacs", priority: 0, objects: [$0])] } ?? [])
    }

    private func found(_ ledger: SQLiteLedger, _ text: String) async throws -> [String] {
        try await ledger.studies(matching: StudyQuery(text: text, order: .newest)).rows.map(\.studyInstanceUID.string)
    }

    @Test func patientsAreFoundAsTheyAreWritten() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([
            instance("1.2.1", name: "DOE^JANE^^DR", id: "P100%", accession: "A_17", description: "CT Schädel nativ"),
            instance("1.2.2", name: "Müller^Jörg=山田^太郎", id: "P1001", accession: "AX17", description: "CCT"),
            instance("1.2.30", name: "O'NEIL^Jane", id: "12"),
        ])
        #expect(try await found(ledger, "jane doe") == ["1.2.1"])
        #expect(try await found(ledger, "Doe, Jane") == ["1.2.1"])
        #expect(try await found(ledger, "DOE^JANE") == ["1.2.1"])
        #expect(try await found(ledger, "muller jorg") == ["1.2.2"])
        #expect(try await found(ledger, "MÜLLER") == ["1.2.2"])
        #expect(try await found(ledger, "太郎") == ["1.2.2"])
        #expect(try await found(ledger, "schadel") == ["1.2.1"])
        #expect(try await found(ledger, "o'neil") == ["1.2.30"])
        // Wildcards of SQL are letters like others.
        #expect(try await found(ledger, "100%") == ["1.2.1"])
        #expect(try await found(ledger, "a_17") == ["1.2.1"])
        #expect(try await found(ledger, "\\") == ["1.2.1", "1.2.2", "1.2.30"])
        // Only the beginning of a UID, and only where it is written as one.
        #expect(try await found(ledger, "1.2.3") == ["1.2.30"])
        #expect(try await found(ledger, "2.3").isEmpty)
        #expect(try await found(ledger, "12") == ["1.2.30"])
        #expect(try await found(ledger, "jane miller").isEmpty)
    }

    @Test func rowsSayWhoseTheyAreAndWhen() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance("1.2.1", name: "DOE^JANE", id: "P1")])
        let row = try #require(try await ledger.studies(matching: StudyQuery()).rows.first)
        #expect(row.patientName == "DOE^JANE" && row.patientID == "P1" && row.birthDate == "19500131" && row.sex == "F")
        #expect(row.studyDate == "20231114" && row.studyTime == "101500.25" && row.instanceCount == 1)
        #expect(row.timeToFlag == nil && row.isLate == false)
        #expect(try await ledger.study(UID("1.2.1")!)?.study.patientName == "DOE^JANE")
    }

    @Test func whatIsUrgentComesFirst() async throws {
        let ledger = try ledger()
        let hours: [(String, Double)] = [
            ("1.1", 30), ("1.2", 2), ("1.3", 3), ("1.4", 4), ("1.5", 1), ("1.6", 5), ("1.7", 40), ("1.8", 3.5),
            ("1.9", 6),
        ]
        try await ledger.recordInstances(hours.map { instance($0, hoursAgo: $1) })
        try await conclude(ledger, "1.2", .negative)
        try await conclude(ledger, "1.3", .positive)
        try await conclude(ledger, "1.4", .undetermined)
        try await conclude(ledger, "1.6", .positive)
        try await conclude(ledger, "1.8", .notHeadCT)
        try await conclude(ledger, "1.9", .undetermined)
        _ = try await ledger.record(.ignored, onStudy: UID("1.9")!)
        // Concluded now, of what came long ago: news.
        try await conclude(ledger, "1.7", .positive)
        try await setActivity(["1.2": 2, "1.3": 3, "1.4": 4, "1.6": 5, "1.7": 0.5, "1.8": 3.5, "1.9": 6])
        // More of a positive study arrives: it stays in sight.
        try await ledger.recordInstances([instance("1.3", hoursAgo: 2.9, number: 2)])
        _ = try await ledger.updateOperatorAlerts(to: [OperatorCondition(.noResult, "1.5", "late")]) { _ in [] }

        let listing = try await ledger.studies(matching: StudyQuery())
        // Positive: 1.7, 1.3, 1.6; a person: 1.5 late, 1.4; under way: 1.1; then the rest.
        let order = listing.rows.map(\.studyInstanceUID.string)
        #expect(order == ["1.7", "1.3", "1.6", "1.5", "1.4", "1.1", "1.2", "1.8", "1.9"])
        #expect(listing.rows.filter { $0.isLate == true }.map(\.studyInstanceUID.string) == ["1.5"])
        #expect(listing.total == 9 && listing.counts.all == 9 && listing.counts.underWay == 3)
        #expect(listing.counts.outcomes == [.positive: 3, .undetermined: 2, .negative: 1, .notHeadCT: 1])
        try await setActivity(["1.6": 25, "1.4": 26])
        let later = try await ledger.studies(matching: StudyQuery()).rows.map(\.studyInstanceUID.string)
        #expect(later == ["1.7", "1.3", "1.5", "1.1", "1.2", "1.8", "1.9", "1.6", "1.4"])
    }

    /// As if all had been concluded when it came.
    private func setActivity(_ hoursAgo: [String: Double]) async throws {
        let database = try DatabaseQueue(path: file)
        try await database.write { [now] database in
            for (study, hours) in hoursAgo {
                try database.execute(
                    sql: "UPDATE study SET active_at = ? WHERE study_uid = ?",
                    arguments: [now.timeIntervalSince1970 - 3600 * hours, study])
            }
        }
    }

    @Test func aPeriodLeavesOutWhatIsOldAndDone() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([
            instance("1.1", hoursAgo: 30), instance("1.2", hoursAgo: 30), instance("1.3", hoursAgo: 2),
        ])
        for study in ["1.2", "1.3"] { try await conclude(ledger, study, .negative) }
        try await setActivity(["1.2": 30, "1.3": 2])
        let day = StudyQuery(since: now.addingTimeInterval(-86400), order: .newest)
        #expect(try await ledger.studies(matching: day).rows.map(\.studyInstanceUID.string) == ["1.3", "1.1"])
        _ = try await ledger.updateOperatorAlerts(to: [OperatorCondition(.noResult, "1.2", "late")]) { _ in [] }
        #expect(try await ledger.studies(matching: day).total == 3)
        let before = StudyQuery(until: now.addingTimeInterval(-86400), order: .newest)
        #expect(try await ledger.studies(matching: before).rows.map(\.studyInstanceUID.string) == ["1.1", "1.2"])
    }

    @Test func standingsAreFilteredAndCountedBeside() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances((1...7).map { instance("1.\($0)", hoursAgo: Double($0)) })
        for number in 1...3 { try await conclude(ledger, "1.\(number)", .positive) }
        try await conclude(ledger, "1.4", .negative)
        let positive = try await ledger.studies(matching: StudyQuery(outcomes: [.positive], limit: 2))
        #expect(positive.rows.count == 2 && positive.total == 3)
        #expect(positive.counts.all == 7 && positive.counts.underWay == 3)
        let rest = try await ledger.studies(matching: StudyQuery(outcomes: [.positive], limit: 2, offset: 2))
        #expect(rest.rows.count == 1)
        let open = try await ledger.studies(matching: StudyQuery(states: [.receiving, .analysing], order: .newest))
        #expect(open.rows.map(\.studyInstanceUID.string) == ["1.5", "1.6", "1.7"])
        #expect(try await ledger.studies(matching: StudyQuery(limit: 0)).rows.isEmpty)
    }

    @Test func countsOfSeveralQueriesAreThoseOfEach() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([
            instance("1.2.1", name: "DOE^JANE", hoursAgo: 1), instance("1.2.2", name: "DOE^JOHN", hoursAgo: 50),
            instance("1.2.3", name: "ROE", hoursAgo: 60),
        ])
        try await conclude(ledger, "1.2.2", .positive)
        let queries = [
            StudyQuery(text: "doe"), StudyQuery(text: "doe j%"), StudyQuery(), StudyQuery(outcomes: [.positive]),
            StudyQuery(text: "roe", states: [.receiving, .concluded], until: now - 86400),
            StudyQuery(text: "1.2.3", since: now - 3600, limit: 0),
        ]
        var each: [Int] = []
        for query in queries { each.append(try await ledger.studies(matching: query).total) }
        #expect(try await ledger.studyCounts(matching: queries) == each)
        #expect(each[0] == 2 && each[2] == 3 && each[3] == 1 && each[4] == 1)
        #expect(try await ledger.studyCounts(matching: []) == [])
    }

    @Test func timeToFlagEndsWithTheFirstAcceptanceOfTheReport() async throws {
        let ledger = try ledger()
        let study = UID("1.2.1")!
        try await ledger.recordInstances([instance("1.2.1", hoursAgo: 1)])
        try await conclude(ledger, "1.2.1", .positive, object: report, lastArrival: now - 3600)
        #expect(try await ledger.study(study)?.study.timeToFlag == nil)
        // What comes later is not what the analysis saw.
        try await ledger.recordInstances([instance("1.2.1", hoursAgo: 0.5, number: 2)])
        var delivery = try #require(try await ledger.dueDeliveries(to: "pacs", at: now, limit: 1).first)
        delivery.lastError = "no connection"
        try await ledger.updateDelivery(delivery)
        #expect(try await ledger.study(study)?.study.flaggedAt == nil)
        (delivery.state, delivery.objects[0].state) = (.delivered, .delivered)
        try await ledger.updateDelivery(delivery)
        #expect(try await ledger.study(study)?.study.timeToFlag == 3600)

        // A revision begins anew; an acceptance of what it revises says nothing of it.
        var revised = report
        revised.sopInstanceUID = UID("2.25.8")!
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 2, because: "a test")
        try await Task.sleep(for: .milliseconds(1))
        try await conclude(ledger, "1.2.1", .negative, object: nil)
        #expect(try await ledger.study(study)?.study.flaggedAt == nil)
    }

    @Test func whatAnOperatorAskedForHasNoTimeToFlag() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance("1.2.1", hoursAgo: 72)])
        try await conclude(ledger, "1.2.1", .positive, object: report)
        var delivery = try #require(try await ledger.dueDeliveries(to: "pacs", at: now, limit: 1).first)
        (delivery.state, delivery.objects[0].state) = (.delivered, .delivered)
        try await ledger.updateDelivery(delivery)
        let row = try #require(try await ledger.study(UID("1.2.1")!)?.study)
        #expect(row.flaggedAt == now && row.seenUntil == nil && row.timeToFlag == nil)
        let day = DateInterval(start: now - 86400 * 4, end: now)
        #expect(try await ledger.figures(ofDays: [day]).days[0].toFlag.count == 0)
    }

    @Test func messagesAndRefusedReportsFlagNothing() async throws {
        let ledger = try ledger()
        try await ledger.recordInstances([instance("1.2.1")])
        try await conclude(ledger, "1.2.1", .positive, object: report)
        var delivery = try #require(try await ledger.dueDeliveries(to: "pacs", at: now, limit: 1).first)
        delivery.state = .dead
        delivery.objects[0].state = .dead
        try await ledger.updateDelivery(delivery)
        let row = try #require(try await ledger.study(UID("1.2.1")!)?.study)
        #expect(row.flaggedAt == nil && row.givenUpDeliveries == 1 && row.pendingDeliveries == 0)
    }

    @Test func whatAnEarlierBuildRecordedIsFoundAfterMigration() async throws {
        let common = try SQLiteLedger.json(CommonAttributes(instance("1.2.3", name: "ÖZ^ALI", id: "7").record))
        let database = try DatabaseQueue(path: file)
        try LedgerSchema.migrator.migrate(database, upTo: "operator alerts")
        try await database.write { database in
            try database.execute(
                sql: """
                    INSERT INTO study (study_uid, state, outcome, first_received_at, last_received_at, concluded_at)
                    VALUES ('1.2.3', 'concluded', 'positive', 100, 110, 130),
                           ('1.2.4', 'receiving', NULL, 200, 200, NULL);
                    INSERT INTO common_attributes (digest, attributes) VALUES ('d', ?);
                    INSERT INTO instance (study_uid, series_uid, sop_uid, version, path, common_id, file_size,
                                          received_at)
                    VALUES ('1.2.3', '1.2.3.9', '1.2.3.9.1', 1, '/spool/1', 1, 1, 110);
                    INSERT INTO delivery (study_uid, destination, state, priority, attempts, next_attempt_at,
                                          created_at, delivered_at, objects)
                    VALUES ('1.2.3', 'pacs', 'delivered', 0, 1, 130, 130, 142.5, '[]');
                    """, arguments: [common])
        }
        try database.close()
        let ledger = try ledger()
        let row = try #require(try await ledger.studies(matching: StudyQuery(text: "oz ali")).rows.first)
        #expect(row.patientName == "ÖZ^ALI" && row.patientID == "7" && row.timeToFlag == 32.5)
        let all = try await ledger.studies(matching: StudyQuery(order: .newest)).rows
        #expect(all.map(\.studyInstanceUID.string) == ["1.2.4", "1.2.3"])
        #expect(all.map(\.patientName) == [nil, "ÖZ^ALI"])
    }
}
