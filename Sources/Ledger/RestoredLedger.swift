public import Foundation
internal import GRDB
public import WorkerProtocol

/// A ledger that comes out of a back-up, before a node opens it.
public enum RestoredLedger {
    /// What it lacks.
    public struct Losses: Sendable, Equatable {
        /// Images that it takes for present, and that did not come with it.
        public var images = 0
        /// Studies of which something was not analysed yet.
        public var open: [UID] = []
        /// Those of them of which images did not come with it.
        public var openWithoutImages: [UID] = []
    }

    /// Brings it up to date, has it name the files where they are now, and marks images that did not come with it as
    /// removed: a study that comes again is then taken up like one that retention has forgotten. One transaction.
    /// - Parameters:
    ///   - old: the data directory that its paths are in.
    ///   - aliases: other names of it that are in its paths.
    ///   - has: whether the file of an image, below the new data directory, came with it.
    public static func settle(
        _ path: String, from old: String, aliases: [String] = [], to new: String, at now: Date = .now,
        has: (_ path: String) -> Bool
    ) throws -> Losses {
        let database = try DatabaseQueue(path: path)
        guard try database.read({ try !LedgerSchema.migrator.hasBeenSuperseded($0) }) else {
            throw LedgerUpgrade.later(path, schema: try LedgerCopy.schemaVersion(of: path))
        }
        try LedgerSchema.migrator.migrate(database)
        let losses = try database.write { database in
            for alias in aliases { try relocate(from: alias, to: old, database) }
            if old != new { try relocate(from: old, to: new, database) }
            return try markAbsent(at: now, database, has)
        }
        try database.close()
        return losses
    }

    /// What one lacks that is in its place, as far as it tells: of images no count.
    public static func losses(of path: String) throws -> Losses {
        try LedgerCopy.reading(path) { database in
            var losses = Losses()
            for row in try Row.fetchAll(
                database,
                sql: """
                    SELECT study_uid, EXISTS (SELECT 1 FROM event e WHERE e.study_uid = study.study_uid
                                              AND e.kind = 'restored') AS lacks
                    FROM study WHERE state <> 'concluded' ORDER BY first_received_at
                    """)
            {
                guard let uid = UID(row["study_uid"] as String) else { continue }
                losses.open.append(uid)
                let lacks: Bool = row["lacks"]
                if lacks { losses.openWithoutImages.append(uid) }
            }
            return losses
        }
    }

    private static func relocate(from old: String, to new: String, _ database: Database) throws {
        // Frames refer to the path of their instance.
        try database.execute(sql: "PRAGMA defer_foreign_keys = ON")
        // Of a data directory that was moved a start records the images once more, by their other name.
        for table in ["instance_frames", "instance"] {
            try database.execute(
                sql: """
                    DELETE FROM \(table) WHERE substr(path, 1, length(?1)) = ?1
                    AND EXISTS (SELECT 1 FROM instance i WHERE i.path = ?2 || substr(\(table).path, length(?1) + 1))
                    """,
                arguments: [old + "/", new + "/"])
        }
        for table in ["instance", "instance_frames", "result_object"] {
            try database.execute(
                sql: """
                    UPDATE \(table) SET path = ?2 || substr(path, length(?1) + 1)
                    WHERE substr(path, 1, length(?1)) = ?1
                    """,
                arguments: [old + "/", new + "/"])
        }
        let deliveries = try Row.fetchCursor(database, sql: "SELECT id, objects FROM delivery WHERE objects <> '[]'")
        while let row = try deliveries.next() {
            let objects = try SQLiteLedger.value([DeliveryObject].self, row["objects"]).map {
                var object = $0
                object.object.move(from: old, to: new)
                for index in (object.alternatives ?? []).indices {
                    object.alternatives?[index].move(from: old, to: new)
                }
                return object
            }
            let statement = try database.cachedStatement(sql: "UPDATE delivery SET objects = ? WHERE id = ?")
            try statement.execute(arguments: [try SQLiteLedger.json(objects), row["id"] as Int64])
        }
    }

    private static func markAbsent(
        at now: Date, _ database: Database, _ has: (_ path: String) -> Bool
    ) throws -> Losses {
        var losses = Losses()
        let present = try Row.fetchCursor(database, sql: "SELECT id, path FROM instance WHERE purged_at IS NULL")
        while let row = try present.next() {
            if has(row["path"]) { continue }
            losses.images += 1
            let statement = try database.cachedStatement(sql: "UPDATE instance SET purged_at = ? WHERE id = ?")
            try statement.execute(arguments: [now.timeIntervalSince1970, row["id"] as Int64])
        }
        try database.execute(
            sql: """
                UPDATE study SET has_files = 0 WHERE has_files = 1 AND NOT EXISTS (
                    SELECT 1 FROM instance i WHERE i.study_uid = study.study_uid AND i.purged_at IS NULL)
                """)
        for row in try Row.fetchAll(
            database,
            sql: """
                SELECT study_uid, (SELECT count(*) FROM instance i WHERE i.study_uid = study.study_uid
                                   AND i.purged_at = ?) AS absent
                FROM study WHERE state <> 'concluded' ORDER BY first_received_at
                """, arguments: [now.timeIntervalSince1970])
        {
            guard let uid = UID(row["study_uid"] as String) else { continue }
            losses.open.append(uid)
            guard row["absent"] > 0 else { continue }
            losses.openWithoutImages.append(uid)
            try SQLiteLedger.event(
                "restored", "\(row["absent"] as Int) images are not in the back-up: send the study again", uid, now,
                database)
        }
        return losses
    }
}

extension ComposedObject {
    fileprivate mutating func move(from old: String, to new: String) {
        if path.hasPrefix(old + "/") { path = new + path.dropFirst(old.count) }
    }
}
