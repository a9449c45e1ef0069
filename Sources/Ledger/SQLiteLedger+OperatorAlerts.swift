internal import Foundation
internal import GRDB
internal import WorkerProtocol

extension SQLiteLedger {
    // MARK: Open work

    public func openWork(heldFor reason: String) async throws -> OpenWork {
        try await read { database in
            var work = OpenWork()
            work.held = try String.fetchAll(database, sql: Self.heldStudies, arguments: [reason]).compactMap { UID($0) }
            work.lanes = try Self.openLanes(database)
            work.studies = try Row.fetchAll(database, sql: Self.openStudies, arguments: [reason])
                .compactMap(Self.openStudy)
            let indices = Dictionary(work.studies.indices.map { (work.studies[$0].id, $0) }) { first, _ in first }
            for row in try Row.fetchAll(database, sql: Self.openResults) {
                guard let index = indices[row["study_uid"]], work.studies[index].state == .concluded else { continue }
                if row["state"] == DeliveryState.dead.rawValue {
                    work.studies[index].refusedBy.append(row["destination"])
                } else {
                    work.studies[index].owedTo.append(row["destination"])
                }
            }
            return work
        }
    }

    /// Waiting or being analysed; concluded, with results that nobody has taken; concluded without anybody to send to.
    /// A study may be among the last two both, of an earlier report and of the latest.
    private static let openStudies = """
        SELECT study_uid, state, open_since, last_received_at FROM study
        WHERE state IN ('receiving', 'analysing') AND \(isNotIgnored)
        UNION
        SELECT study_uid, state, open_since, last_received_at FROM study s
        WHERE study_uid IN (SELECT study_uid FROM delivery WHERE state IN ('pending', 'dead') AND message IS NULL)
        AND state = 'concluded' AND \(isNotIgnored)
        AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.study_uid = s.study_uid AND d.created_at >= \(lastAnalysis)
                        AND d.message IS NULL
                        AND (d.state IN ('accepted', 'delivered') OR (d.state = 'pending' AND \(isUnreported))))
        UNION
        SELECT study_uid, state, open_since, last_received_at FROM study s
        WHERE state = 'concluded' AND outcome = 'undetermined' AND \(isNotIgnored)
        AND NOT (decision IS NULL AND reason LIKE ? || '%')
        AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.study_uid = s.study_uid AND d.created_at >= \(lastAnalysis))
        ORDER BY 3
        """

    static let isNotIgnored = "(decision IS NULL OR decision <> 'ignored')"
    /// Not by the time: the clock may have been set back since an earlier one.
    private static let lastAnalysis = """
        coalesce((SELECT a.completed_at FROM analysis a WHERE a.study_uid = s.study_uid ORDER BY a.id DESC LIMIT 1), 0)
        """

    /// It was accepted, and is sent again because no report of commitment came.
    private static let isUnreported = "coalesce(last_error, '') = '\(DeliveryEntry.unreported)'"

    private static let openResults = """
        SELECT DISTINCT study_uid, destination, state FROM delivery
        WHERE state IN ('pending', 'dead') AND message IS NULL ORDER BY destination
        """

    /// A report of commitment that does not come once may have been lost.
    private static let lanes = """
        SELECT destination, sum(CASE state WHEN 'dead' THEN 0 ELSE 1 END) AS owed,
               min(CASE state WHEN 'dead' THEN NULL ELSE created_at END) AS owed_since,
               sum(CASE state WHEN 'dead' THEN 1 ELSE 0 END) AS given_up
        FROM delivery WHERE state = 'dead' OR (state = 'accepted' AND last_error IS NOT NULL)
        OR (state = 'pending' AND NOT (attempts <= \(DeliveryEntry.mostUnreported) AND \(isUnreported)))
        GROUP BY destination ORDER BY destination
        """

    private static let heldStudies = """
        SELECT study_uid FROM study WHERE state = 'concluded' AND outcome = 'undetermined' AND decision IS NULL
        AND reason LIKE ? || '%' ORDER BY open_since
        """

    static func openLanes(_ database: Database) throws -> [OpenWork.Lane] {
        try Row.fetchAll(database, sql: lanes).map { row in
            let owedSince: Double? = row["owed_since"]
            return OpenWork.Lane(
                destination: row["destination"], owed: row["owed"],
                owedSince: owedSince.map(Date.init(timeIntervalSince1970:)), givenUp: row["given_up"])
        }
    }

    private static func openStudy(_ row: Row) -> OpenWork.Study? {
        guard let uid = UID(row["study_uid"] as String), let state = StudyState(rawValue: row["state"]) else {
            return nil
        }
        return OpenWork.Study(
            studyInstanceUID: uid, state: state, since: Date(timeIntervalSince1970: row["open_since"]),
            lastReceivedAt: Date(timeIntervalSince1970: row["last_received_at"]))
    }

    // MARK: Alerts

    public func updateOperatorAlerts(
        to conditions: [OperatorCondition],
        messages: @escaping @Sendable ([OperatorAlertEntry]) throws -> [NewDelivery]
    ) async throws -> [OperatorAlertEntry] {
        let now = clock.now()
        return try await database.write { database in
            let active = try Row.fetchAll(
                database, sql: "SELECT * FROM operator_alert WHERE cleared_at IS NULL ORDER BY id"
            ).map(Self.operatorAlert)
            let holding = Dictionary(conditions.map { ([$0.kind.rawValue, $0.subject], $0) }) { first, _ in first }
            var known: Set<[String]> = []
            var changes: [OperatorAlertEntry] = []
            for var alert in active {
                let key = [alert.kind.rawValue, alert.subject]
                known.insert(key)
                if let condition = holding[key] {
                    guard condition.text != alert.text else { continue }
                    alert.text = condition.text
                } else {
                    alert.clearedAt = now
                    changes.append(alert)
                }
                try database.execute(
                    sql: "UPDATE operator_alert SET text = ?, cleared_at = ? WHERE id = ?",
                    arguments: [alert.text, alert.clearedAt?.timeIntervalSince1970, alert.id])
            }
            for condition in conditions where known.insert([condition.kind.rawValue, condition.subject]).inserted {
                changes.append(try Self.raise(condition, now, database))
            }
            guard !changes.isEmpty else { return [] }
            for delivery in try messages(changes) { try Self.insert(delivery, study: nil, at: now, into: database) }
            return changes
        }
    }

    private static func raise(
        _ condition: OperatorCondition, _ now: Date, _ database: Database
    ) throws -> OperatorAlertEntry {
        let earlier = try Int.fetchOne(
            database, sql: "SELECT count(*) FROM operator_alert WHERE kind = ? AND subject = ?",
            arguments: [condition.kind.rawValue, condition.subject])
        let occurrence = 1 + (earlier ?? 0)
        try database.execute(
            sql: "INSERT INTO operator_alert (kind, subject, text, occurrence, raised_at) VALUES (?, ?, ?, ?, ?)",
            arguments: [
                condition.kind.rawValue, condition.subject, condition.text, occurrence, now.timeIntervalSince1970,
            ])
        return OperatorAlertEntry(
            id: database.lastInsertedRowID, kind: condition.kind, subject: condition.subject, text: condition.text,
            occurrence: occurrence, raisedAt: now)
    }

    public func operatorAlerts(
        _ standing: OperatorAlertStanding, limit: Int, offset: Int
    ) async throws -> LedgerPage<OperatorAlertEntry> {
        let filter =
            switch standing {
            case .all: ""
            case .active: "WHERE cleared_at IS NULL"
            case .over: "WHERE cleared_at IS NOT NULL"
            }
        return try await read { database in
            LedgerPage(
                try Row.fetchAll(
                    database, sql: "SELECT * FROM operator_alert \(filter) ORDER BY id DESC LIMIT ? OFFSET ?",
                    arguments: [max(0, limit), max(0, offset)]
                ).map(Self.operatorAlert),
                of: try Int.fetchOne(database, sql: "SELECT count(*) FROM operator_alert \(filter)") ?? 0)
        }
    }

    public func operatorAlerts(about subject: String, limit: Int) async throws -> [OperatorAlertEntry] {
        try await read { database in
            // The kinds are named for the index.
            let kinds = OperatorAlertKind.allCases.map { "'\($0.rawValue)'" }.joined(separator: ", ")
            return try Row.fetchAll(
                database,
                sql: """
                    SELECT * FROM operator_alert WHERE kind IN (\(kinds)) AND subject = ? ORDER BY id DESC LIMIT ?
                    """,
                arguments: [subject, limit]
            ).map(Self.operatorAlert)
        }
    }

    private static func operatorAlert(_ row: Row) throws -> OperatorAlertEntry {
        guard let kind = OperatorAlertKind(rawValue: row["kind"]) else {
            throw LedgerError(reason: "an operator alert of an unknown kind")
        }
        let clearedAt: Double? = row["cleared_at"]
        return OperatorAlertEntry(
            id: row["id"], kind: kind, subject: row["subject"], text: row["text"], occurrence: row["occurrence"],
            raisedAt: Date(timeIntervalSince1970: row["raised_at"]),
            clearedAt: clearedAt.map(Date.init(timeIntervalSince1970:)))
    }
}

extension OpenWork.Study {
    fileprivate var id: String { studyInstanceUID.string }
}
