internal import Foundation
internal import GRDB
internal import WorkerProtocol

/// The tables, in SQL that other databases understand too. Times are seconds since 1970 UTC.
enum LedgerSchema {
    /// How many migrations there are.
    static var version: Int { migrator.migrations.count }

    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("first") { database in
            try database.execute(sql: first)
        }
        migrator.registerMigration("common attributes") { database in
            try database.execute(sql: commonAttributes)
        }
        migrator.registerMigration("columns of instances") { database in
            try database.execute(sql: columnsOfInstances)
            // The column that says so came later.
            var writer = InstanceWriter(database, revivesPurged: false)
            let rows = try Row.fetchCursor(
                database,
                sql: """
                    SELECT i.path, i.record, i.received_at, c.attributes FROM instance_before i
                    LEFT JOIN common_attributes c ON c.id = i.common_id ORDER BY i.id
                    """)
            while let row = try rows.next() { try writer.insertRow(instanceBefore(row)) }
            try database.execute(sql: "DROP TABLE instance_before")
        }
        migrator.registerMigration("decisions and retention") { database in
            try database.execute(sql: decisionsAndRetention)
        }
        migrator.registerMigration("frames of instances") { database in
            try database.execute(sql: framesOfInstances)
        }
        migrator.registerMigration("storage commitment") { database in
            try database.execute(sql: storageCommitment)
        }
        migrator.registerMigration("messages and fallbacks") { database in
            try database.execute(sql: messagesAndFallbacks)
        }
        migrator.registerMigration("operator alerts") { database in
            try database.execute(sql: operatorAlerts)
        }
        migrator.registerMigration("worklist") { database in
            try database.execute(sql: worklist)
            try fillPatients(database)
        }
        migrator.registerMigration("deliveries by their end") { database in
            try database.execute(sql: "CREATE INDEX delivery_by_end ON delivery (destination, delivered_at)")
        }
        migrator.registerMigration("lost images") { database in
            try database.execute(
                sql: """
                    CREATE TABLE lost_image (
                        id INTEGER PRIMARY KEY, study_uid VARCHAR(64) NOT NULL, sop_uid VARCHAR(64) NOT NULL,
                        UNIQUE (study_uid, sop_uid))
                    """)
        }
        return migrator
    }

    private static let first = """
        CREATE TABLE study (
            study_uid VARCHAR(64) PRIMARY KEY, state VARCHAR(16) NOT NULL, outcome VARCHAR(16), reason TEXT,
            probability DOUBLE PRECISION, calling_ae VARCHAR(16), called_ae VARCHAR(16), accession_number TEXT,
            description TEXT, verdicts TEXT, first_received_at DOUBLE PRECISION NOT NULL,
            last_received_at DOUBLE PRECISION NOT NULL, concluded_at DOUBLE PRECISION,
            attempts INTEGER NOT NULL DEFAULT 0);
        CREATE INDEX study_by_arrival ON study (last_received_at);
        CREATE TABLE instance (
            id INTEGER PRIMARY KEY, study_uid VARCHAR(64) NOT NULL REFERENCES study (study_uid),
            series_uid VARCHAR(64) NOT NULL, sop_uid VARCHAR(64) NOT NULL, version INTEGER NOT NULL,
            path TEXT NOT NULL UNIQUE, record TEXT NOT NULL, received_at DOUBLE PRECISION NOT NULL);
        CREATE INDEX instance_by_study ON instance (study_uid);
        CREATE INDEX instance_by_sop ON instance (sop_uid);
        CREATE TABLE analysis (
            id INTEGER PRIMARY KEY, study_uid VARCHAR(64) NOT NULL REFERENCES study (study_uid),
            revision_digest VARCHAR(64) NOT NULL, outcome VARCHAR(16) NOT NULL, completed_at DOUBLE PRECISION NOT NULL,
            entry TEXT NOT NULL);
        CREATE INDEX analysis_by_study ON analysis (study_uid);
        CREATE TABLE result_object (
            sop_uid VARCHAR(64) PRIMARY KEY, study_uid VARCHAR(64) NOT NULL REFERENCES study (study_uid),
            sop_class_uid VARCHAR(64) NOT NULL, path TEXT NOT NULL);
        CREATE TABLE delivery (
            id INTEGER PRIMARY KEY, study_uid VARCHAR(64) NOT NULL REFERENCES study (study_uid),
            destination TEXT NOT NULL, state VARCHAR(16) NOT NULL, priority INTEGER NOT NULL, attempts INTEGER NOT NULL,
            next_attempt_at DOUBLE PRECISION NOT NULL, last_error TEXT, created_at DOUBLE PRECISION NOT NULL,
            delivered_at DOUBLE PRECISION, objects TEXT NOT NULL);
        CREATE INDEX delivery_due ON delivery (state, destination, next_attempt_at);
        CREATE INDEX delivery_by_study ON delivery (study_uid);
        CREATE TABLE event (
            id INTEGER PRIMARY KEY, study_uid VARCHAR(64) NOT NULL, at DOUBLE PRECISION NOT NULL,
            kind VARCHAR(32) NOT NULL, text TEXT NOT NULL);
        CREATE INDEX event_by_study ON event (study_uid);
        """

    /// What the instances of a series have in common, once; with `common_id` an instance's `record` holds the rest.
    private static let commonAttributes = """
        CREATE TABLE common_attributes (
            id INTEGER PRIMARY KEY, digest VARCHAR(64) NOT NULL UNIQUE, attributes TEXT NOT NULL);
        ALTER TABLE instance ADD COLUMN common_id INTEGER REFERENCES common_attributes (id);
        """

    /// What an instance has of its own, in columns: JSON costs as much as all else that is done to write a row.
    private static let columnsOfInstances = """
        ALTER TABLE instance RENAME TO instance_before;
        DROP INDEX instance_by_study;
        DROP INDEX instance_by_sop;
        CREATE TABLE instance (
            id INTEGER PRIMARY KEY, study_uid VARCHAR(64) NOT NULL REFERENCES study (study_uid),
            series_uid VARCHAR(64) NOT NULL, sop_uid VARCHAR(64) NOT NULL, version INTEGER NOT NULL,
            path TEXT NOT NULL UNIQUE, common_id INTEGER NOT NULL REFERENCES common_attributes (id),
            file_size BIGINT NOT NULL, instance_number INTEGER, acquisition_number INTEGER,
            acquisition_date_time TEXT, position_x DOUBLE PRECISION, position_y DOUBLE PRECISION,
            position_z DOUBLE PRECISION, received_at DOUBLE PRECISION NOT NULL);
        CREATE INDEX instance_by_study ON instance (study_uid);
        CREATE INDEX instance_by_sop ON instance (sop_uid);
        """

    private static let decisionsAndRetention = """
        ALTER TABLE study ADD COLUMN decision VARCHAR(16);
        ALTER TABLE study ADD COLUMN has_files INTEGER NOT NULL DEFAULT 1;
        CREATE INDEX study_with_files ON study (has_files, last_received_at);
        ALTER TABLE instance ADD COLUMN purged_at DOUBLE PRECISION;
        CREATE TABLE association_gaps (peer VARCHAR(64) PRIMARY KEY, gaps TEXT NOT NULL);
        """

    /// JSON of `MultiFrame`, for the instances that have frames.
    private static let framesOfInstances = """
        CREATE TABLE instance_frames (
            path TEXT PRIMARY KEY REFERENCES instance (path), multi_frame TEXT NOT NULL);
        """

    private static let storageCommitment = """
        ALTER TABLE delivery ADD COLUMN transaction_uid VARCHAR(64);
        ALTER TABLE delivery ADD COLUMN commitment_asked_at DOUBLE PRECISION;
        CREATE INDEX delivery_by_transaction ON delivery (transaction_uid);
        """

    private static let messagesAndFallbacks = """
        ALTER TABLE delivery ADD COLUMN message TEXT;
        ALTER TABLE delivery ADD COLUMN taken_by TEXT;
        """

    /// A delivery about the node itself has no study.
    private static let operatorAlerts = """
        CREATE TABLE operator_alert (
            id INTEGER PRIMARY KEY, kind VARCHAR(32) NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL,
            occurrence INTEGER NOT NULL, raised_at DOUBLE PRECISION NOT NULL, cleared_at DOUBLE PRECISION);
        CREATE INDEX operator_alert_active ON operator_alert (cleared_at);
        CREATE INDEX operator_alert_by_subject ON operator_alert (kind, subject);
        ALTER TABLE study ADD COLUMN open_since DOUBLE PRECISION NOT NULL DEFAULT 0;
        UPDATE study SET open_since = last_received_at;
        CREATE INDEX study_by_state ON study (state, outcome);
        CREATE TABLE delivery_after (
            id INTEGER PRIMARY KEY, study_uid VARCHAR(64) REFERENCES study (study_uid),
            destination TEXT NOT NULL, state VARCHAR(16) NOT NULL, priority INTEGER NOT NULL, attempts INTEGER NOT NULL,
            next_attempt_at DOUBLE PRECISION NOT NULL, last_error TEXT, created_at DOUBLE PRECISION NOT NULL,
            delivered_at DOUBLE PRECISION, objects TEXT NOT NULL, transaction_uid VARCHAR(64),
            commitment_asked_at DOUBLE PRECISION, message TEXT, taken_by TEXT);
        INSERT INTO delivery_after
            SELECT id, study_uid, destination, state, priority, attempts, next_attempt_at, last_error, created_at,
                   delivered_at, objects, transaction_uid, commitment_asked_at, message, taken_by FROM delivery;
        DROP TABLE delivery;
        ALTER TABLE delivery_after RENAME TO delivery;
        CREATE INDEX delivery_due ON delivery (state, destination, next_attempt_at);
        CREATE INDEX delivery_by_study ON delivery (study_uid);
        CREATE INDEX delivery_by_transaction ON delivery (transaction_uid);
        """

    /// `active_at`: when something last came or was concluded. `seen_until`: when the last image came that the
    /// latest analysis sees, where it was made because of it. A search reads one index and no row.
    private static let worklist = """
        ALTER TABLE study ADD COLUMN patient_name TEXT;
        ALTER TABLE study ADD COLUMN patient_id TEXT;
        ALTER TABLE study ADD COLUMN birth_date TEXT;
        ALTER TABLE study ADD COLUMN sex TEXT;
        ALTER TABLE study ADD COLUMN study_date TEXT;
        ALTER TABLE study ADD COLUMN study_time TEXT;
        ALTER TABLE study ADD COLUMN search_text TEXT NOT NULL DEFAULT '';
        ALTER TABLE study ADD COLUMN active_at DOUBLE PRECISION NOT NULL DEFAULT 0;
        ALTER TABLE study ADD COLUMN seen_until DOUBLE PRECISION;
        ALTER TABLE study ADD COLUMN flagged_at DOUBLE PRECISION;
        UPDATE study SET active_at = max(last_received_at, coalesce(concluded_at, 0)),
            seen_until = CASE WHEN last_received_at <= concluded_at THEN last_received_at END,
            flagged_at = (SELECT min(d.delivered_at) FROM delivery d WHERE d.study_uid = study.study_uid
                          AND d.message IS NULL AND d.transaction_uid IS NULL AND d.created_at >= study.concluded_at);
        CREATE INDEX study_worklist ON study (
            active_at, state, outcome, decision, last_received_at, study_uid, search_text);
        CREATE INDEX instance_purged ON instance (study_uid) WHERE purged_at IS NOT NULL;
        """

    /// From the first instance of each study.
    private static func fillPatients(_ database: Database) throws {
        let rows = try Row.fetchCursor(
            database,
            sql: """
                SELECT c.attributes FROM study s JOIN instance i ON i.id = (
                    SELECT min(f.id) FROM instance f WHERE f.study_uid = s.study_uid)
                JOIN common_attributes c ON c.id = i.common_id
                """)
        while let row = try rows.next() {
            try InstanceWriter.writePatient(
                try SQLiteLedger.value(CommonAttributes.self, row["attributes"]), into: database)
        }
    }

    /// A row as it was before `columnsOfInstances`: in the first schema with all in `record`.
    private static func instanceBefore(_ row: Row) throws -> StoredInstance {
        let record: InstanceRecord
        if let attributes = row["attributes"] as String? {
            record = InstanceRecord(
                try SQLiteLedger.value(CommonAttributes.self, attributes),
                try SQLiteLedger.value(OwnAttributes.self, row["record"]))
        } else {
            record = try SQLiteLedger.value(InstanceRecord.self, row["record"])
        }
        return StoredInstance(
            record: record, path: row["path"], receivedAt: Date(timeIntervalSince1970: row["received_at"]))
    }
}
