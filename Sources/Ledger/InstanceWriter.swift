internal import Foundation
internal import GRDB
internal import WorkerProtocol

/// Writes what arrived, within one transaction.
struct InstanceWriter {
    private let database: Database
    private let onKnownPath: String
    private var commonIDs: [CommonAttributes: Int64] = [:]
    /// When the last instance came of each study that the transaction changes.
    private var arrivals: [UID: Double] = [:]
    private var begun: Set<UID> = []

    /// - Parameter revivesPurged: what was purged and came again counts as new.
    init(_ database: Database, revivesPurged: Bool = true) {
        self.database = database
        onKnownPath = revivesPurged ? "\(Self.revive) WHERE instance.purged_at IS NOT NULL" : "NOTHING"
    }

    private static let revive = """
        UPDATE SET purged_at = NULL, series_uid = excluded.series_uid, common_id = excluded.common_id,
                   file_size = excluded.file_size, instance_number = excluded.instance_number,
                   acquisition_number = excluded.acquisition_number,
                   acquisition_date_time = excluded.acquisition_date_time, position_x = excluded.position_x,
                   position_y = excluded.position_y, position_z = excluded.position_z,
                   received_at = excluded.received_at
        """

    /// - Parameter isPlaced: there was no file at its path: it is new, whatever is known of the path.
    /// - Returns: false where it was known and its file was there, or is an object of the node's own.
    mutating func insert(_ instance: StoredInstance, isPlaced: Bool) throws -> Bool {
        let record = instance.record
        // Auto-routing loops bring our own results back: kept, but they make no study new.
        let isOwn = try SQLiteLedger.isOwnObject(record.sopInstanceUID, database)
        let at = instance.receivedAt.timeIntervalSince1970
        if begun.insert(record.studyInstanceUID).inserted {
            try insertStudy(record, state: isOwn ? .concluded : .receiving, at: at)
        }
        try insertRow(instance, isPlaced: isPlaced)
        guard database.changesCount > 0 else { return false }
        if isOwn {
            try database.execute(
                sql: "UPDATE study SET has_files = 1 WHERE study_uid = ?", arguments: [record.studyInstanceUID.string])
            return false
        }
        arrivals[record.studyInstanceUID] = max(arrivals[record.studyInstanceUID] ?? at, at)
        if record.version > 1 {
            try SQLiteLedger.event(
                "conflict", "other bytes under a known SOP Instance UID kept as version \(record.version)",
                record.studyInstanceUID, instance.receivedAt, database)
        }
        return true
    }

    /// Only the row, unless there is one of its path whose file is there.
    mutating func insertRow(_ instance: StoredInstance, isPlaced: Bool = false) throws {
        let record = instance.record
        let own = OwnAttributes(record)
        let statement = try database.cachedStatement(
            sql: """
                INSERT INTO instance (study_uid, series_uid, sop_uid, version, path, common_id, file_size,
                                      instance_number, acquisition_number, acquisition_date_time, position_x,
                                      position_y, position_z, received_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (path) DO \(isPlaced ? Self.revive : onKnownPath)
                """)
        let position = own.position.flatMap { $0.count == 3 ? $0 : nil }
        try statement.execute(arguments: [
            record.studyInstanceUID.string, record.seriesInstanceUID.string, own.sopInstanceUID.string, own.version,
            instance.path, try commonID(of: record), own.fileSize, own.instanceNumber, own.acquisitionNumber,
            own.acquisitionDateTime, position?[0], position?[1], position?[2],
            instance.receivedAt.timeIntervalSince1970,
        ])
        guard let multiFrame = own.multiFrame, database.changesCount > 0 else { return }
        let frames = try database.cachedStatement(
            sql: """
                INSERT INTO instance_frames (path, multi_frame) VALUES (?, ?)
                ON CONFLICT (path) DO UPDATE SET multi_frame = excluded.multi_frame
                """)
        try frames.execute(arguments: [instance.path, try SQLiteLedger.json(multiFrame)])
    }

    /// To be called when all are in.
    func finish() throws {
        for (uid, at) in arrivals {
            let statement = try database.cachedStatement(
                sql: """
                    UPDATE study SET state = 'receiving', has_files = 1, last_received_at = max(last_received_at, ?1),
                                     active_at = max(active_at, ?1),
                                     open_since = CASE state WHEN 'concluded' THEN ?1 ELSE open_since END
                    WHERE study_uid = ?2
                    """)
            try statement.execute(arguments: [at, uid.string])
        }
    }

    private func insertStudy(_ record: InstanceRecord, state: StudyState, at: Double) throws {
        let statement = try database.cachedStatement(
            sql: """
                INSERT INTO study (study_uid, state, calling_ae, called_ae, accession_number, description,
                                   first_received_at, last_received_at, open_since, active_at)
                VALUES (?, ?, ?, ?, ?, ?, ?7, ?7, ?7, ?7) ON CONFLICT (study_uid) DO NOTHING
                """)
        try statement.execute(arguments: [
            record.studyInstanceUID.string, state.rawValue, record.callingAETitle?.string,
            record.calledAETitle?.string, record.study.accessionNumber, record.study.description, at,
        ])
        if database.changesCount > 0 { try Self.writePatient(CommonAttributes(record), into: database) }
    }

    /// What a list of studies shows and searches beside what its row begins with.
    static func writePatient(_ common: CommonAttributes, into database: Database) throws {
        let (patient, study) = (common.patient, common.study)
        let statement = try database.cachedStatement(
            sql: """
                UPDATE study SET patient_name = ?, patient_id = ?, birth_date = ?, sex = ?, study_date = ?,
                                 study_time = ?, search_text = ? WHERE study_uid = ?
                """)
        try statement.execute(arguments: [
            patient.name, patient.id, patient.birthDate, patient.sex, study.date, study.time,
            StudySearch.text(patient.name, patient.id, study.accessionNumber, study.description),
            common.studyInstanceUID.string,
        ])
    }

    private mutating func commonID(of record: InstanceRecord) throws -> Int64 {
        let common = CommonAttributes(record)
        if let id = commonIDs[common] { return id }
        let attributes = try SQLiteLedger.json(common)
        let digest = SHA256Digest.hex(of: [attributes])
        let statement = try database.cachedStatement(
            sql: """
                INSERT INTO common_attributes (digest, attributes) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING
                """)
        try statement.execute(arguments: [digest, attributes])
        let select = try database.cachedStatement(sql: "SELECT id FROM common_attributes WHERE digest = ?")
        guard let id = try Int64.fetchOne(select, arguments: [digest]) else {
            throw LedgerError(reason: "a row that was just written is not there")
        }
        commonIDs[common] = id
        return id
    }
}
