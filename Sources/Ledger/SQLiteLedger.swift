internal import Dispatch
public import Foundation
internal import GRDB
public import WorkerProtocol

/// The ledger in one SQLite file, write-ahead logged, fsynced at every transaction.
public final class SQLiteLedger: Ledger {
    let database: DatabasePool
    let clock: WallClock
    /// Of the schema that this version of the node writes.
    public static var schemaVersion: Int { LedgerSchema.version }
    /// nil: its reads are the node's own.
    private let viewers: ViewerReads?

    /// Opens or creates the file and brings its schema up to date: see `LedgerUpgrade`.
    /// - Parameter progress: is told all the time what it does where that takes long.
    /// - Throws: `LedgerError` for a ledger of a later version, and where there is no room for that.
    public init(
        path: String, clock: WallClock = .system, progress: @escaping @Sendable (String) -> Void = { _ in }
    ) throws {
        var configuration = Configuration()
        configuration.busyMode = .timeout(10)
        configuration.qos = .default
        configuration.prepareDatabase(Self.keepCacheSmall)
        self.clock = clock
        viewers = nil
        database = try DatabasePool(path: path, configuration: configuration)
        // WAL with synchronous=FULL: a committed transaction survives a power cut. Not in `prepareDatabase`: after it,
        // the pool gives its one writer NORMAL, under which only checkpoints are fsynced.
        try database.writeWithoutTransaction {
            try $0.execute(sql: "PRAGMA synchronous = FULL; PRAGMA cache_size = -2000")
        }
        try LedgerUpgrade(database: database, progress: progress).run()
    }

    /// For the many connections that only read, and have the system's own cache of the file: each would come to hold
    /// 2 MiB, and so holds 0.5.
    static func keepCacheSmall(_ database: Database) throws { try database.execute(sql: "PRAGMA cache_size = -512") }

    private init(_ ledger: SQLiteLedger, viewers: ViewerReads) {
        (database, clock, self.viewers) = (ledger.database, ledger.clock, viewers)
    }

    /// The same ledger for those who look at it: however many they are, nothing that the node reads itself waits for
    /// them. Its reads throw `LedgerBusy` where too many wait.
    public func forViewers() throws -> SQLiteLedger {
        SQLiteLedger(self, viewers: try ViewerReads(path: database.path))
    }

    func read<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        if let viewers { try await viewers.read(body) } else { try await database.read(body) }
    }

    /// Returns when the one that writes has nothing before this to do; changes nothing.
    public func waitForWriter() async throws { try await database.writeWithoutTransaction { _ in } }

    // MARK: Receiving

    @discardableResult
    public func recordInstances(_ instances: [StoredInstance], placed: Set<String>) async throws -> [StoredInstance] {
        try await database.write { database in
            var writer = InstanceWriter(database)
            let new = try instances.filter { try writer.insert($0, isPlaced: placed.contains($0.path)) }
            try writer.finish()
            try Self.find(instances, database)
            return new
        }
    }

    public func instances(ofStudy uid: UID) async throws -> [StoredInstance] {
        try await instances(ofStudy: uid, limit: .max)
    }

    public func firstInstance(ofStudy uid: UID) async throws -> StoredInstance? {
        try await instances(ofStudy: uid, limit: 1).first
    }

    /// In order of arrival, at most so many.
    private func instances(ofStudy uid: UID, limit: Int) async throws -> [StoredInstance] {
        try await read { database in
            var common: [Int64: CommonAttributes] = [:]
            return try Row.fetchAll(
                database,
                sql: """
                    SELECT i.*, c.attributes, f.multi_frame FROM instance i
                    JOIN common_attributes c ON c.id = i.common_id LEFT JOIN instance_frames f ON f.path = i.path
                    WHERE i.study_uid = ? AND i.sop_uid NOT IN (SELECT sop_uid FROM result_object) ORDER BY i.id
                    LIMIT ?
                    """,
                arguments: [uid.string, limit]
            ).map { row in
                // Read and held once.
                let shared = try common[row["common_id"]] ?? Self.value(CommonAttributes.self, row["attributes"])
                common[row["common_id"]] = shared
                return StoredInstance(
                    record: InstanceRecord(shared, try Self.ownAttributes(row)), path: row["path"],
                    receivedAt: Date(timeIntervalSince1970: row["received_at"]),
                    isPurged: (row["purged_at"] as Double?) != nil)
            }
        }
    }

    private static func ownAttributes(_ row: Row) throws -> OwnAttributes {
        guard let uid = UID(row["sop_uid"] as String) else {
            throw LedgerError(reason: "a row with a SOP Instance UID that is none")
        }
        let position = [row["position_x"], row["position_y"], row["position_z"]].compactMap { $0 as Double? }
        return OwnAttributes(
            sopInstanceUID: uid, fileSize: row["file_size"], version: row["version"],
            instanceNumber: row["instance_number"], acquisitionNumber: row["acquisition_number"],
            acquisitionDateTime: row["acquisition_date_time"], position: position.count == 3 ? position : nil,
            multiFrame: try (row["multi_frame"] as String?).map { try value(MultiFrame.self, $0) })
    }

    public func instancePaths(ofStudy uid: UID) async throws -> [String: FileStanding] {
        try await read { database in
            let rows = try Row.fetchAll(
                database, sql: "SELECT path, purged_at, received_at FROM instance WHERE study_uid = ?",
                arguments: [uid.string])
            return Dictionary(
                rows.map { row -> (String, FileStanding) in
                    guard (row["purged_at"] as Double?) != nil else { return (row["path"], .present) }
                    return (row["path"], .purged(receivedAt: Date(timeIntervalSince1970: row["received_at"])))
                }
            ) { first, _ in first }
        }
    }

    /// Anybody who may send can have an image refused, of any study.
    private static let mostLostImages = 10_000

    public func recordLostImages(_ images: [(study: UID, instance: UID?)]) async throws -> Set<UID> {
        let now = clock.now()
        return try await database.write { database in
            var new: Set<UID> = []
            for image in images {
                try database.execute(
                    sql: """
                        INSERT OR IGNORE INTO lost_image (study_uid, sop_uid) SELECT ?1, ?2
                        WHERE NOT EXISTS (SELECT 1 FROM instance
                                          WHERE sop_uid = ?2 AND study_uid = ?1 AND purged_at IS NULL)
                        """,
                    arguments: [image.study.string, image.instance?.string ?? ""])
                if database.changesCount > 0 { new.insert(image.study) }
            }
            for study in new { try Self.open(study, now, database) }
            try database.execute(
                sql: "DELETE FROM lost_image WHERE id <= (SELECT max(id) FROM lost_image) - ?",
                arguments: [Self.mostLostImages])
            return new
        }
    }

    /// Not concluded, unless none of its images is left.
    private static func open(_ study: UID, _ now: Date, _ database: Database) throws {
        try database.execute(
            sql: """
                UPDATE study SET state = 'receiving',
                                 open_since = CASE state WHEN 'concluded' THEN ?1 ELSE open_since END
                WHERE study_uid = ?2 AND state <> 'receiving'
                AND EXISTS (SELECT 1 FROM instance i WHERE i.study_uid = ?2 AND i.purged_at IS NULL
                            AND i.sop_uid NOT IN (SELECT sop_uid FROM result_object))
                """,
            arguments: [now.timeIntervalSince1970, study.string])
    }

    /// What has come is not lost.
    private static func find(_ instances: [StoredInstance], _ database: Database) throws {
        guard try Bool.fetchOne(database, sql: "SELECT EXISTS (SELECT 1 FROM lost_image)") == true else { return }
        let delete = try database.cachedStatement(sql: "DELETE FROM lost_image WHERE study_uid = ? AND sop_uid = ?")
        for record in instances.lazy.map(\.record) {
            try delete.execute(arguments: [record.studyInstanceUID.string, record.sopInstanceUID.string])
        }
    }

    public func forgetLostImages(ofStudy uid: UID) async throws {
        try await database.write { database in
            try database.execute(
                sql: "DELETE FROM lost_image WHERE study_uid = ? AND sop_uid = ''", arguments: [uid.string])
        }
    }

    public func lostImages(ofStudy uid: UID) async throws -> LostImages {
        try await read { database in
            let found = try String.fetchAll(
                database, sql: "SELECT sop_uid FROM lost_image WHERE study_uid = ?", arguments: [uid.string])
            return LostImages(known: Set(found.compactMap { UID($0) }), hasOthers: found.contains(""))
        }
    }

    // MARK: Studies

    public func beginAnalysis(ofStudy uid: UID, seeing count: Int, because decision: String) async throws -> Int {
        let now = clock.now()
        return try await database.write { database in
            try Self.event("complete", decision, uid, now, database)
            try database.execute(
                sql: """
                    UPDATE study SET attempts = attempts + 1,
                                     state = CASE WHEN (SELECT count(*) FROM instance i WHERE i.study_uid = ?1
                                                        AND i.purged_at IS NULL
                                                        AND i.sop_uid NOT IN (SELECT sop_uid FROM result_object)) = ?2
                                             THEN 'analysing' ELSE state END,
                                     open_since = CASE state WHEN 'concluded' THEN ?3 ELSE open_since END
                    WHERE study_uid = ?1
                    """,
                arguments: [uid.string, count, now.timeIntervalSince1970])
            return try Int.fetchOne(
                database, sql: "SELECT attempts FROM study WHERE study_uid = ?", arguments: [uid.string]) ?? 0
        }
    }

    public func unconcludedStudies() async throws -> [UID] {
        try await read { database in
            try String.fetchAll(
                database, sql: "SELECT study_uid FROM study WHERE state <> 'concluded' ORDER BY first_received_at"
            ).compactMap { UID($0) }
        }
    }

    public func recordVerdicts(_ verdicts: [SeriesVerdictEntry], ofStudy uid: UID) async throws {
        try await database.write { database in
            try database.execute(
                sql: "UPDATE study SET verdicts = ? WHERE study_uid = ?",
                arguments: [try Self.json(verdicts), uid.string])
        }
    }

    public func recordEvent(_ kind: String, _ text: String, ofStudy uid: UID) async throws {
        let now = clock.now()
        try await database.write { try Self.event(kind, text, uid, now, $0) }
    }

    @discardableResult
    public func conclude(
        _ analysis: AnalysisEntry, objects: [ComposedObject], deliveries: [NewDelivery]
    ) async throws -> Bool {
        let now = clock.now()
        return try await database.write { database in
            let uid = analysis.studyInstanceUID
            guard try Self.decision(onStudy: uid, database) != .ignored else {
                try Self.concludeUnchanged(uid, "ignored by an operator while it was analysed", now, database)
                return false
            }
            try database.execute(
                sql: """
                    INSERT INTO analysis (study_uid, revision_digest, outcome, completed_at, entry)
                    VALUES (?, ?, ?, ?, ?)
                    """,
                arguments: [
                    uid.string, analysis.revisionDigest, analysis.outcome.rawValue,
                    analysis.completedAt.timeIntervalSince1970, try Self.json(analysis),
                ])
            for object in objects {
                try database.execute(
                    sql: "INSERT INTO result_object (sop_uid, study_uid, sop_class_uid, path) VALUES (?, ?, ?, ?)",
                    arguments: [object.sopInstanceUID.string, uid.string, object.sopClassUID.string, object.path])
            }
            if let priority = deliveries.map(\.priority).min() {
                try database.execute(
                    sql: """
                        UPDATE delivery SET priority = min(priority, ?), next_attempt_at = min(next_attempt_at, ?)
                        WHERE study_uid = ? AND state = 'pending'
                        """,
                    arguments: [priority, now.timeIntervalSince1970, uid.string])
            }
            for delivery in deliveries { try Self.insert(delivery, study: uid, at: now, into: database) }
            try database.execute(
                sql: """
                    UPDATE study SET state = CASE state WHEN 'analysing' THEN 'concluded' ELSE state END,
                                     outcome = ?1, reason = ?2, probability = ?3, concluded_at = ?4, attempts = 0,
                                     active_at = max(active_at, ?4), seen_until = ?6, flagged_at = NULL,
                                     open_since = CASE state WHEN 'receiving' THEN ?4 ELSE open_since END
                    WHERE study_uid = ?5
                    """,
                arguments: [
                    analysis.outcome.rawValue, analysis.reason, analysis.studyProbability, now.timeIntervalSince1970,
                    uid.string, analysis.lastArrival?.timeIntervalSince1970,
                ])
            try Self.event("concluded", "\(analysis.outcome.rawValue): \(analysis.reason)", uid, now, database)
            return true
        }
    }

    static func insert(_ delivery: NewDelivery, study: UID?, at now: Date, into database: Database) throws {
        try database.execute(
            sql: """
                INSERT INTO delivery (study_uid, destination, state, priority, attempts, next_attempt_at, created_at,
                                      objects, message)
                VALUES (?, ?, 'pending', ?, 0, ?, ?, ?, ?)
                """,
            arguments: [
                study?.string, delivery.destination, delivery.priority, now.timeIntervalSince1970,
                now.timeIntervalSince1970, try json(delivery.objects), try delivery.message.map { try json($0) },
            ])
    }

    public func concludeUnchanged(study uid: UID, because reason: String) async throws {
        let now = clock.now()
        try await database.write { try Self.concludeUnchanged(uid, reason, now, $0) }
    }

    private static func concludeUnchanged(
        _ uid: UID, _ reason: String, _ now: Date, _ database: Database
    ) throws {
        try database.execute(
            sql: """
                UPDATE study SET attempts = 0, state = CASE state WHEN 'analysing' THEN 'concluded' ELSE state END,
                                 open_since = CASE state WHEN 'receiving' THEN ? ELSE open_since END
                WHERE study_uid = ?
                """,
            arguments: [now.timeIntervalSince1970, uid.string])
        try event("unchanged", reason, uid, now, database)
    }

    public func abandonAnalysis(ofStudy uid: UID, because reason: String) async throws {
        let now = clock.now()
        try await database.write { database in
            try database.execute(
                sql: "UPDATE study SET state = 'receiving', attempts = 0 WHERE study_uid = ?",
                arguments: [uid.string])
            try Self.event("waits", reason, uid, now, database)
        }
    }

    public func interruptAnalysis(ofStudy uid: UID) async throws {
        try await database.write { database in
            try database.execute(
                sql: "UPDATE study SET attempts = max(attempts - 1, 0) WHERE study_uid = ?", arguments: [uid.string])
        }
    }

    public func resultObjects(ofStudy uid: UID) async throws -> [ComposedObject] {
        try await read { database in
            try Row.fetchAll(
                database, sql: "SELECT * FROM result_object WHERE study_uid = ? ORDER BY rowid",
                arguments: [uid.string]
            ).map { row in
                guard let sopClass = UID(row["sop_class_uid"] as String), let object = UID(row["sop_uid"] as String)
                else { throw LedgerError(reason: "a result object with a UID that is none") }
                return ComposedObject(path: row["path"], sopClassUID: sopClass, sopInstanceUID: object)
            }
        }
    }

    public func history(ofStudy uid: UID) async throws -> StudyHistory {
        try await read { StudyHistory(try Self.analyses(ofStudy: uid, $0)) }
    }

    private static func analyses(ofStudy uid: UID, _ database: Database) throws -> [AnalysisEntry] {
        try String.fetchAll(
            database, sql: "SELECT entry FROM analysis WHERE study_uid = ? ORDER BY id", arguments: [uid.string]
        ).map { try value(AnalysisEntry.self, $0) }
    }

    public func decision(onStudy uid: UID) async throws -> OperatorDecision? {
        try await read { try Self.decision(onStudy: uid, $0) }
    }

    private static func decision(onStudy uid: UID, _ database: Database) throws -> OperatorDecision? {
        try String.fetchOne(
            database, sql: "SELECT decision FROM study WHERE study_uid = ?", arguments: [uid.string]
        ).flatMap(OperatorDecision.init)
    }

    public func record(_ decision: OperatorDecision?, onStudy uid: UID) async throws -> Bool {
        try await database.write { database in
            try database.execute(
                sql: "UPDATE study SET decision = ? WHERE study_uid = ?", arguments: [decision?.rawValue, uid.string])
            return database.changesCount > 0
        }
    }

    public func reopen(_ uid: UID, releasing isReleased: Bool, because event: String) async throws -> Bool {
        let now = clock.now()
        return try await database.write { database in
            // Not concluded, also where an analysis is under way that began before.
            try database.execute(
                sql: """
                    UPDATE study SET state = 'receiving',
                                     open_since = CASE state WHEN 'concluded' THEN ?1 ELSE open_since END,
                                     decision = CASE WHEN NOT ?2 THEN decision
                                                WHEN decision = 'ignored' THEN NULL ELSE 'released' END
                    WHERE study_uid = ?3
                    AND EXISTS (SELECT 1 FROM instance i WHERE i.study_uid = ?3 AND i.purged_at IS NULL
                                AND i.sop_uid NOT IN (SELECT sop_uid FROM result_object))
                    """,
                arguments: [now.timeIntervalSince1970, isReleased, uid.string])
            guard database.changesCount > 0 else { return false }
            try Self.event("reopened", event, uid, now, database)
            return true
        }
    }

    /// By the order of events, not their times: the clock may have been set back.
    public func isReopened(_ uid: UID) async throws -> Bool {
        try await read { database in
            try Bool.fetchOne(
                database,
                sql: """
                    SELECT EXISTS (
                        SELECT 1 FROM event WHERE study_uid = ?1 AND kind = 'reopened' AND id > coalesce(
                            (SELECT max(id) FROM event WHERE study_uid = ?1 AND kind = 'complete' AND id < (
                                SELECT max(id) FROM event
                                WHERE study_uid = ?1 AND kind IN ('concluded', 'unchanged'))), 0))
                    """, arguments: [uid.string]) ?? false
        }
    }

    // MARK: Forgetting

    public func purgeOldestStudy(receivedBefore moment: Date) async throws -> (study: UID, paths: [String])? {
        let now = clock.now()
        return try await database.write { database in
            // A head CT of which nothing was ever sent, and one that is held, is an operator's to end.
            let sql = """
                SELECT study_uid FROM study s WHERE has_files = 1 AND state = 'concluded' AND last_received_at < ?1
                AND NOT EXISTS (SELECT 1 FROM instance i WHERE i.study_uid = s.study_uid AND i.received_at >= ?1)
                AND NOT EXISTS (SELECT 1 FROM delivery d
                                WHERE d.study_uid = s.study_uid AND d.state IN ('pending', 'accepted', 'dead'))
                AND (outcome IS NULL OR outcome = 'not a head CT' OR decision = 'ignored'
                     OR EXISTS (SELECT 1 FROM delivery d WHERE d.study_uid = s.study_uid AND d.message IS NULL))
                AND (outcome IS NULL OR outcome <> 'undetermined' OR decision IS NOT NULL OR reason NOT LIKE ?2 || '%')
                ORDER BY last_received_at LIMIT 1
                """
            guard
                let text = try String.fetchOne(
                    database, sql: sql, arguments: [moment.timeIntervalSince1970, StudyEntry.heldReason]),
                let uid = UID(text)
            else { return nil }
            let paths = try String.fetchAll(
                database, sql: "SELECT path FROM instance WHERE study_uid = ? AND purged_at IS NULL",
                arguments: [uid.string])
            try database.execute(
                sql: "UPDATE instance SET purged_at = ? WHERE study_uid = ? AND purged_at IS NULL",
                arguments: [now.timeIntervalSince1970, uid.string])
            try database.execute(sql: "UPDATE study SET has_files = 0 WHERE study_uid = ?", arguments: [uid.string])
            try Self.event("purged", "\(paths.count) files removed by retention", uid, now, database)
            return (uid, paths)
        }
    }

    // MARK: Peers

    public func associationGaps() async throws -> [String: [Double]] {
        try await read { database in
            let rows = try Row.fetchAll(database, sql: "SELECT peer, gaps FROM association_gaps")
            return Dictionary(try rows.map { ($0["peer"], try Self.value([Double].self, $0["gaps"])) }) { first, _ in
                first
            }
        }
    }

    public func recordAssociationGaps(_ gaps: [Double], ofPeer peer: String) async throws {
        try await database.write { database in
            try database.execute(
                sql: """
                    INSERT INTO association_gaps (peer, gaps) VALUES (?, ?)
                    ON CONFLICT (peer) DO UPDATE SET gaps = excluded.gaps
                    """,
                arguments: [peer, try Self.json(gaps)])
        }
    }

    static func isOwnObject(_ uid: UID, _ database: Database) throws -> Bool {
        try Bool.fetchOne(
            database, sql: "SELECT EXISTS (SELECT 1 FROM result_object WHERE sop_uid = ?)", arguments: [uid.string])
            ?? false
    }

    // MARK: Outbox

    public func dueDeliveries(
        to destination: String, at now: Date, latest: Date, limit: Int
    ) async throws -> [DeliveryEntry] {
        try await read { database in
            try Row.fetchAll(
                database,
                sql: """
                    SELECT * FROM delivery WHERE destination = ? AND state = 'pending'
                    AND (next_attempt_at <= ? OR next_attempt_at > ?) ORDER BY priority, id LIMIT ?
                    """,
                arguments: [destination, now.timeIntervalSince1970, latest.timeIntervalSince1970, limit]
            ).map(Self.delivery)
        }
    }

    public func pendingLanes(at now: Date, latest: Date) async throws -> [String: PendingLane] {
        try await read { database in
            let rows = try Row.fetchAll(
                database,
                sql: """
                    SELECT destination,
                           min(CASE WHEN next_attempt_at > ? THEN ? ELSE next_attempt_at END) AS due,
                           sum(CASE attempts WHEN 0 THEN 1 ELSE 0 END) AS untried
                    FROM delivery WHERE state = 'pending' GROUP BY 1
                    """, arguments: [latest.timeIntervalSince1970, now.timeIntervalSince1970])
            let lanes: [(String, PendingLane)] = rows.map { row in
                let due = Date(timeIntervalSince1970: row["due"])
                return (row["destination"], PendingLane(due: due, untried: row["untried"]))
            }
            // Names that differ in bytes alone are one in Swift.
            return Dictionary(lanes) { PendingLane(due: min($0.due, $1.due), untried: $0.untried + $1.untried) }
        }
    }

    public func updateDelivery(_ delivery: DeliveryEntry) async throws {
        let now = clock.now()
        try await database.write { try Self.write(delivery, now, $0) }
    }

    private static func write(_ delivery: DeliveryEntry, _ now: Date, _ database: Database) throws {
        let known = try Row.fetchOne(database, sql: "SELECT * FROM delivery WHERE id = ?", arguments: [delivery.id])
            .map(Self.delivery)
        try database.execute(
            sql: """
                UPDATE delivery SET state = ?, attempts = ?, next_attempt_at = ?, last_error = ?, delivered_at = ?,
                                    objects = ?, taken_by = ?, transaction_uid = ?, commitment_asked_at = ?
                WHERE id = ?
                """ + (delivery.state == .delivered ? "" : " AND state NOT IN ('superseded', 'discarded')"),
            arguments: [
                delivery.state.rawValue, delivery.attempts, delivery.nextAttemptAt.timeIntervalSince1970,
                delivery.lastError, delivery.deliveredAt?.timeIntervalSince1970, try json(delivery.objects),
                delivery.takenBy,
                delivery.transactionUID?.string, delivery.commitmentAskedAt?.timeIntervalSince1970, delivery.id,
            ])
        guard let study = delivery.studyInstanceUID else { return }
        try noteFlag(delivery, of: study, now, database)
        // Whoever has the report has the last word, whatever becomes of its images.
        let isTaken = [delivery.state, delivery.objects.first?.state].contains { $0 == .accepted || $0 == .delivered }
        if isTaken { try withdrawBefore(delivery, of: study, now, database) }
        // A destination that stays down for weeks fills no history.
        if delivery.state == .pending && known?.lastError == delivery.lastError { return }
        let text = text(delivery)
        if try isTold(text, delivery, of: study, database) { return }
        try event("delivery", text, study, now, database)
    }

    /// The report goes first: with it accepted, the study is flagged, whatever becomes of its images.
    private static func noteFlag(
        _ delivery: DeliveryEntry, of study: UID, _ now: Date, _ database: Database
    ) throws {
        guard let report = delivery.objects.first, [.accepted, .delivered].contains(report.state) else { return }
        try database.execute(
            sql: "UPDATE study SET flagged_at = ? WHERE study_uid = ? AND flagged_at IS NULL AND concluded_at <= ?",
            arguments: [now.timeIntervalSince1970, study.string, delivery.createdAt.timeIntervalSince1970])
    }

    private static func text(_ delivery: DeliveryEntry) -> String {
        let error = delivery.lastError ?? ""
        let owed = delivery.message.map { "message \($0.id)" } ?? "\(delivery.objects.count) objects"
        let instead = delivery.takenBy.map { " by \($0) in its place" } ?? ""
        let step =
            switch delivery.state {
            case .pending where delivery.commitmentAskedAt != nil && delivery.message == nil: error
            case .pending: "attempt \(delivery.attempts) failed: \(error)"
            case .accepted where ![nil, DeliveryEntry.unreported].contains(delivery.lastError):
                "commitment cannot be asked for: \(error)"
            case .accepted: "\(owed) accepted\(instead), commitment is asked for"
            case .delivered where delivery.transactionUID != nil: "\(owed) committed\(instead)"
            case .delivered: "\(owed) accepted\(instead)"
            case .dead: "given up: \(error)"
            case .superseded: "withdrawn, it has a later revision"
            case .discarded: "withdrawn by an operator"
            }
        return "to \(delivery.destination): \(step)"
    }

    /// Nor does one that accepts, and for weeks does not commit.
    private static func isTold(
        _ text: String, _ delivery: DeliveryEntry, of study: UID, _ database: Database
    ) throws -> Bool {
        guard [.pending, .accepted].contains(delivery.state) else { return false }
        return try Bool.fetchOne(
            database,
            sql: """
                SELECT EXISTS (SELECT 1 FROM event WHERE study_uid = ? AND kind = 'delivery' AND text = ? AND at >= ?)
                """,
            arguments: [study.string, text, delivery.createdAt.timeIntervalSince1970]) ?? false
    }

    /// A report that arrived after its successor would be taken for the last word.
    private static func withdrawBefore(
        _ delivery: DeliveryEntry, of study: UID, _ now: Date, _ database: Database
    ) throws {
        try database.execute(sql: withdrawal, arguments: [study.string, delivery.destination, delivery.id])
        let count = database.changesCount
        guard count > 0 else { return }
        try event(
            "delivery", "to \(delivery.destination): \(count) earlier withdrawn, it has a later revision",
            study, now, database)
    }

    /// Found by the study: a destination that is down is owed many thousands. Earlier is what has a lower number, since
    /// the clock may have been set back; what was made together has one time. What was given up could be tried again.
    static let withdrawal = """
        UPDATE delivery SET state = 'superseded'
        WHERE study_uid = ?1 AND +destination = ?2 AND +state IN ('pending', 'accepted', 'dead') AND id < ?3
        AND created_at <> (SELECT created_at FROM delivery WHERE id = ?3)
        """

    public func pendingDeliveryCount() async throws -> Int {
        try await read { database in
            try Int.fetchOne(database, sql: "SELECT count(*) FROM delivery WHERE state = 'pending'") ?? 0
        }
    }

    public func delivery(_ id: Int64) async throws -> DeliveryEntry? {
        try await read {
            try Row.fetchOne($0, sql: "SELECT * FROM delivery WHERE id = ?", arguments: [id]).map(Self.delivery)
        }
    }

    public func deliveries(ofStudy uid: UID) async throws -> [DeliveryEntry] {
        try await read { try Self.deliveries(ofStudy: uid, $0) }
    }

    private static func deliveries(ofStudy uid: UID, _ database: Database) throws -> [DeliveryEntry] {
        try Row.fetchAll(
            database, sql: "SELECT * FROM delivery WHERE study_uid = ? ORDER BY id", arguments: [uid.string]
        ).map(delivery)
    }

    // MARK: Storage commitment

    public func dueCommitments(at now: Date, latest: Date) async throws -> [DeliveryEntry] {
        try await read { database in
            try Row.fetchAll(
                database,
                sql: """
                    SELECT * FROM delivery WHERE id IN (
                        SELECT min(id) FROM delivery WHERE state = 'accepted'
                        AND (next_attempt_at <= ? OR coalesce(commitment_asked_at, next_attempt_at) > ?)
                        GROUP BY destination)
                    """,
                arguments: [now.timeIntervalSince1970, latest.timeIntervalSince1970]
            ).map(Self.delivery)
        }
    }

    public func retryDelivery(_ id: Int64) async throws -> DeliveryEntry? {
        try await changeOpenDelivery(id, "tried again by an operator") { delivery, now in
            delivery.state = .pending
            delivery.nextAttemptAt = now
            // So that pauses begin short again.
            delivery.attempts = 0
            if delivery.message == nil { (delivery.transactionUID, delivery.commitmentAskedAt) = (nil, nil) }
            for index in delivery.objects.indices where delivery.objects[index].state.isOpen {
                delivery.objects[index].state = .pending
                delivery.objects[index].refusals = nil
            }
        }
    }

    public func discardDelivery(_ id: Int64) async throws -> DeliveryEntry? {
        try await changeOpenDelivery(id, "withdrawn by an operator") { delivery, _ in delivery.state = .discarded }
    }

    public func resendDeliveries(ofStudy uid: UID) async throws -> [DeliveryEntry] {
        let now = clock.now()
        return try await database.write { database in
            let known = try Self.deliveries(ofStudy: uid, database)
            guard let last = known.last(where: { $0.message == nil }) else { return [] }
            let sameReport = known.filter { $0.message == nil && $0.folder == last.folder }
            for delivery in sameReport where delivery.state.isOpen {
                try database.execute(
                    sql: "UPDATE delivery SET state = 'discarded' WHERE id = ?", arguments: [delivery.id])
            }
            // One that was sent again before is there more than once.
            let newest = Dictionary(sameReport.map { ($0.destination, $0) }) { $1 }.values.sorted { $0.id < $1.id }
            for delivery in newest {
                try Self.insert(NewDelivery(again: delivery), study: uid, at: now, into: database)
            }
            let names = newest.map(\.destination).joined(separator: ", ")
            try Self.event("operator", "results are sent again to \(names)", uid, now, database)
            return Array(try Self.deliveries(ofStudy: uid, database).dropFirst(known.count))
        }
    }

    private func changeOpenDelivery(
        _ id: Int64, _ what: String, _ change: @escaping @Sendable (inout DeliveryEntry, Date) -> Void
    ) async throws -> DeliveryEntry? {
        let now = clock.now()
        return try await database.write { database in
            let row = try Row.fetchOne(database, sql: "SELECT * FROM delivery WHERE id = ?", arguments: [id])
            guard var delivery = try row.map(Self.delivery), delivery.state.isOpen else { return nil }
            change(&delivery, now)
            try database.execute(
                sql: """
                    UPDATE delivery SET state = ?, next_attempt_at = ?, attempts = ?, objects = ?, transaction_uid = ?,
                                        commitment_asked_at = ? WHERE id = ?
                    """,
                arguments: [
                    delivery.state.rawValue, delivery.nextAttemptAt.timeIntervalSince1970, delivery.attempts,
                    try Self.json(delivery.objects), delivery.transactionUID?.string,
                    delivery.commitmentAskedAt?.timeIntervalSince1970, id,
                ])
            if let study = delivery.studyInstanceUID {
                try Self.event("operator", "delivery to \(delivery.destination) \(what)", study, now, database)
            }
            return delivery
        }
    }

    public func beginCommitment(ofDelivery id: Int64, under transaction: UID) async throws -> Bool {
        try await database.write { database in
            try database.execute(
                sql: """
                    UPDATE delivery SET transaction_uid = ?, commitment_asked_at = NULL
                    WHERE id = ? AND state = 'accepted'
                    """,
                arguments: [transaction.string, id])
            return database.changesCount > 0
        }
    }

    public func changeDelivery(
        under transaction: UID, _ change: @escaping @Sendable (inout DeliveryEntry) -> Void
    ) async throws -> (delivery: DeliveryEntry, isChanged: Bool)? {
        let now = clock.now()
        return try await database.write { database in
            guard
                let row = try Row.fetchOne(
                    database, sql: "SELECT * FROM delivery WHERE transaction_uid = ?", arguments: [transaction.string])
            else { return nil }
            var delivery = try Self.delivery(row)
            guard delivery.state == .accepted else { return (delivery, false) }
            change(&delivery)
            try Self.write(delivery, now, database)
            return (delivery, true)
        }
    }

    public func uncommittedDeliveryCount() async throws -> Int {
        try await read { database in
            try Int.fetchOne(database, sql: "SELECT count(*) FROM delivery WHERE state = 'accepted'") ?? 0
        }
    }

    // MARK: Looking

    public func studies(limit: Int) async throws -> [StudyEntry] {
        try await read { database in
            try Row.fetchAll(
                database, sql: "\(Self.studyQuery) ORDER BY last_received_at DESC LIMIT ?", arguments: [limit]
            ).compactMap(Self.study)
        }
    }

    public func study(_ uid: UID) async throws -> StudyDetail? {
        try await read { database in
            guard
                let row = try Row.fetchOne(
                    database, sql: "\(Self.studyQuery) WHERE study_uid = ?", arguments: [uid.string]),
                let study = Self.study(row)
            else { return nil }
            let verdicts: String? = row["verdicts"]
            return StudyDetail(
                study: study,
                series: try verdicts.map { try Self.value([SeriesVerdictEntry].self, $0) } ?? [],
                analyses: try Self.analyses(ofStudy: uid, database),
                deliveries: try Self.deliveries(ofStudy: uid, database),
                events: try Row.fetchAll(
                    database, sql: "SELECT at, kind, text FROM event WHERE study_uid = ? ORDER BY id",
                    arguments: [uid.string]
                ).map { StudyEvent(at: Date(timeIntervalSince1970: $0["at"]), kind: $0["kind"], text: $0["text"]) })
        }
    }

    static let studyQuery = """
        SELECT *, (SELECT count(*) FROM instance i WHERE i.study_uid = study.study_uid) AS instance_count,
                  (SELECT count(*) FROM instance i
                   WHERE i.study_uid = study.study_uid AND i.purged_at IS NOT NULL) AS purged_count,
                  (SELECT count(*) FROM delivery d
                   WHERE d.study_uid = study.study_uid AND d.state IN ('pending', 'accepted')) AS pending,
                  (SELECT count(*) FROM delivery d
                   WHERE d.study_uid = study.study_uid AND d.state = 'dead') AS given_up,
                  study_uid IN (\(StudyUrgency.lateStudies)) AS is_late
        FROM study
        """

    // MARK: Rows

    static func study(_ row: Row) -> StudyEntry? {
        guard let uid = UID(row["study_uid"] as String), let state = StudyState(rawValue: row["state"]) else {
            return nil
        }
        return StudyEntry(
            studyInstanceUID: uid, state: state, outcome: (row["outcome"] as String?).flatMap(Outcome.init),
            reason: row["reason"], studyProbability: row["probability"],
            decision: (row["decision"] as String?).flatMap(OperatorDecision.init),
            instanceCount: row["instance_count"], purgedCount: row["purged_count"],
            callingAETitle: row["calling_ae"], calledAETitle: row["called_ae"],
            accessionNumber: row["accession_number"], description: row["description"],
            firstReceivedAt: Date(timeIntervalSince1970: row["first_received_at"]),
            lastReceivedAt: Date(timeIntervalSince1970: row["last_received_at"]),
            concludedAt: moment(row["concluded_at"]), pendingDeliveries: row["pending"],
            givenUpDeliveries: row["given_up"], patientName: row["patient_name"], patientID: row["patient_id"],
            birthDate: row["birth_date"], sex: row["sex"], studyDate: row["study_date"], studyTime: row["study_time"],
            seenUntil: moment(row["seen_until"]), flaggedAt: moment(row["flagged_at"]), isLate: row["is_late"])
    }

    private static func moment(_ seconds: Double?) -> Date? { seconds.map(Date.init(timeIntervalSince1970:)) }

    static func delivery(_ row: Row) throws -> DeliveryEntry {
        guard let state = DeliveryState(rawValue: row["state"]) else {
            throw LedgerError(reason: "a delivery row has an impossible state")
        }
        let deliveredAt: Double? = row["delivered_at"]
        let commitmentAskedAt: Double? = row["commitment_asked_at"]
        return DeliveryEntry(
            id: row["id"], studyInstanceUID: (row["study_uid"] as String?).flatMap { UID($0) },
            destination: row["destination"], state: state,
            priority: row["priority"], attempts: row["attempts"],
            nextAttemptAt: Date(timeIntervalSince1970: row["next_attempt_at"]),
            lastError: row["last_error"], createdAt: Date(timeIntervalSince1970: row["created_at"]),
            deliveredAt: deliveredAt.map(Date.init(timeIntervalSince1970:)),
            objects: try value([DeliveryObject].self, row["objects"]),
            message: try (row["message"] as String?).map { try value(OutboundMessage.self, $0) },
            takenBy: row["taken_by"],
            transactionUID: (row["transaction_uid"] as String?).flatMap { UID($0) },
            commitmentAskedAt: commitmentAskedAt.map(Date.init(timeIntervalSince1970:)))
    }

    static func event(_ kind: String, _ text: String, _ uid: UID, _ at: Date, _ database: Database) throws {
        try database.execute(
            sql: "INSERT INTO event (study_uid, at, kind, text) VALUES (?, ?, ?, ?)",
            arguments: [uid.string, at.timeIntervalSince1970, kind, text])
    }

    /// With sorted keys: equal values have equal texts.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    static func value<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
        try JSONDecoder().decode(type, from: Data(text.utf8))
    }
}

extension DeliveryEntry {
    /// All objects that go with one report lie in one.
    fileprivate var folder: String? { objects.first.map { ($0.object.path as NSString).deletingLastPathComponent } }
}

/// A row that no version of the node writes, or a file that this version cannot use.
public struct LedgerError: Error, CustomStringConvertible {
    public let reason: String
    public var description: String { "ledger: \(reason)" }
}
