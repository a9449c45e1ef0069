public import Foundation
internal import GRDB
internal import WorkerProtocol

extension SQLiteLedger {
    public func figures(ofDays days: [DateInterval]) async throws -> StudyFigures {
        guard let first = days.first, let last = days.last else { return StudyFigures(days: []) }
        let range: StatementArguments = [first.start.timeIntervalSince1970, last.end.timeIntervalSince1970]
        return try await read { database in
            var figures = StudyFigures(days: days.map(StudyFigures.Day.init))
            try Self.countStudies(range, &figures, database)
            figures.completions = try Self.completions(range, database)
            figures.destinations = try Self.destinations(range, database)
            return figures
        }
    }

    private static let ofRange = "s.last_received_at >= ? AND s.last_received_at < ?"

    private static func countStudies(
        _ range: StatementArguments, _ figures: inout StudyFigures, _ database: Database
    ) throws {
        var toFlag = figures.days.map { _ in [TimeInterval]() }
        var senders: [String?: StudyFigures.Sender] = [:]
        var reasons: [String: Int] = [:]
        var day = 0
        let rows = try Row.fetchCursor(
            database,
            sql: """
                SELECT s.last_received_at, s.outcome, s.reason, s.calling_ae, s.seen_until, s.flagged_at
                FROM study s WHERE \(ofRange) ORDER BY s.last_received_at
                """, arguments: range)
        while let row = try rows.next() {
            let at = Date(timeIntervalSince1970: row["last_received_at"])
            while day < figures.days.count - 1, at >= figures.days[day].interval.end { day += 1 }
            let outcome = (row["outcome"] as String?).flatMap(Outcome.init)
            if let outcome { figures.days[day].outcomes[outcome, default: 0] += 1 } else { figures.days[day].open += 1 }
            let title = row["calling_ae"] as String?
            senders[title, default: .init(callingAETitle: title)].studies += 1
            if outcome == .undetermined {
                senders[title]?.undetermined += 1
                reasons[withoutNumbers(row["reason"] ?? ""), default: 0] += 1
            }
            if let seen = row["seen_until"] as Double?, let flagged = row["flagged_at"] as Double? {
                let flag = StudyFigures.Flag(at: at, seconds: max(0, flagged - seen))
                figures.flags.append(flag)
                toFlag[day].append(flag.seconds)
            }
        }
        for index in figures.days.indices { figures.days[index].toFlag = Spans(toFlag[index]) }
        figures.senders = senders.values.sorted {
            ($1.studies, $0.callingAETitle ?? "") < ($0.studies, $1.callingAETitle ?? "")
        }
        figures.undetermined = ranked(reasons)
    }

    private static func ranked(_ counts: [String: Int]) -> [StudyFigures.Counted] {
        counts.map { StudyFigures.Counted($0.key, $0.value) }.sorted { ($1.count, $0.text) < ($0.count, $1.text) }
    }

    /// "slice 12 of 30 is missing" and "slice 7 of 28 is missing" are one reason.
    private static func withoutNumbers(_ reason: String) -> String {
        var text = ""
        for character in reason.prefix(160) {
            guard character.isASCII, character.isNumber else {
                text.append(character)
                continue
            }
            if text.last != "…" { text.append("…") }
        }
        return text
    }

    /// Of what was decided the rule alone, without doubts.
    private static func completions(
        _ range: StatementArguments, _ database: Database
    ) throws -> [StudyFigures.Counted] {
        let rows = try Row.fetchCursor(
            database,
            sql: """
                SELECT e.text, count(*) AS count FROM study s JOIN event e ON e.study_uid = s.study_uid
                WHERE \(ofRange) AND e.kind = 'complete' GROUP BY e.text
                """, arguments: range)
        var counts: [String: Int] = [:]
        while let row = try rows.next() {
            let rule = (row["text"] as String).prefix { $0 != ";" }
            counts[String(rule), default: 0] += row["count"] as Int
        }
        return ranked(counts)
    }

    private static func destinations(
        _ range: StatementArguments, _ database: Database
    ) throws -> [StudyFigures.Destination] {
        let rows = try Row.fetchCursor(
            database,
            sql: """
                SELECT d.destination, d.state, d.created_at, d.delivered_at
                FROM study s JOIN delivery d ON d.study_uid = s.study_uid WHERE \(ofRange)
                """, arguments: range)
        var found: [String: StudyFigures.Destination] = [:]
        var spans: [String: [TimeInterval]] = [:]
        while let row = try rows.next() {
            let name = row["destination"] as String
            var destination = found[name] ?? .init(name: name)
            switch DeliveryState(rawValue: row["state"]) {
            case .pending: destination.owed += 1
            case .dead: destination.givenUp += 1
            default: break
            }
            if let delivered = row["delivered_at"] as Double? {
                spans[name, default: []].append(max(0, delivered - (row["created_at"] as Double)))
            }
            found[name] = destination
        }
        for (name, seconds) in spans { found[name]?.delivered = Spans(seconds) }
        return found.values.sorted { $0.name < $1.name }
    }

    public func standing() async throws -> LedgerStanding {
        try await read { database in
            var standing = LedgerStanding()
            let studies = try Row.fetchAll(
                database,
                sql: """
                    SELECT state, count(*) AS count, min(open_since) AS oldest FROM study
                    WHERE state IN ('receiving', 'analysing') GROUP BY state
                    """)
            for row in studies {
                if row["state"] == StudyState.receiving.rawValue {
                    standing.receiving = Self.queue(row)
                } else {
                    standing.analysing = Self.queue(row)
                }
            }
            let deliveries = try Row.fetchAll(
                database,
                sql: """
                    SELECT state, count(*) AS count, min(created_at) AS oldest FROM delivery
                    WHERE state IN ('pending', 'accepted', 'dead') GROUP BY state
                    """)
            for row in deliveries {
                switch DeliveryState(rawValue: row["state"]) {
                case .pending: standing.pending = Self.queue(row)
                case .accepted: standing.uncommitted = Self.queue(row)
                default: standing.givenUp = Self.queue(row)
                }
            }
            let latest = try String.fetchOne(database, sql: "SELECT entry FROM analysis ORDER BY id DESC LIMIT 1")
            if let entry = try latest.map({ try Self.value(AnalysisEntry.self, $0) }) {
                standing.latestAnalysis = DateInterval(
                    start: entry.startedAt, end: max(entry.startedAt, entry.completedAt))
            }
            return standing
        }
    }

    private static func queue(_ row: Row) -> LedgerStanding.Queue {
        .init(count: row["count"], oldest: (row["oldest"] as Double?).map(Date.init(timeIntervalSince1970:)))
    }

    public func spoolStanding(receivedSince moment: Date) async throws -> SpoolStanding {
        try await read { database in
            var standing = SpoolStanding()
            let held = try Row.fetchOne(
                database,
                sql: "SELECT count(*) AS studies, min(last_received_at) AS oldest FROM study WHERE has_files = 1")
            standing.oldest = (held?["oldest"] as Double?).map(Date.init(timeIntervalSince1970:))
            standing.held = try Self.amount(
                """
                SELECT count(DISTINCT i.study_uid) AS studies, count(*) AS images, sum(i.file_size) AS bytes
                FROM study s JOIN instance i ON i.study_uid = s.study_uid
                WHERE s.has_files = 1 AND i.purged_at IS NULL
                """, [], database)
            standing.received = try Self.amount(
                """
                SELECT count(DISTINCT i.study_uid) AS studies, count(*) AS images, sum(i.file_size) AS bytes
                FROM study s JOIN instance i ON i.study_uid = s.study_uid
                WHERE s.last_received_at >= ?1 AND i.received_at >= ?1
                """, [moment.timeIntervalSince1970], database)
            return standing
        }
    }

    private static func amount(
        _ sql: String, _ arguments: StatementArguments, _ database: Database
    ) throws -> SpoolStanding.Amount {
        guard let row = try Row.fetchOne(database, sql: sql, arguments: arguments) else { return .init() }
        return .init(
            studies: row["studies"], images: row["images"], bytes: UInt64(max(0, row["bytes"] as Int64? ?? 0)))
    }
}
