internal import GRDB
internal import WorkerProtocol

extension SQLiteLedger {
    public func observeChanges(
        _ onChange: @escaping @Sendable (Set<LedgerChange>) -> Void
    ) -> any LedgerObservation {
        let observer = ChangeObserver(onChange)
        database.add(transactionObserver: observer)
        return observer
    }
}

/// Whatever function writes: no other has to tell. Rows of `instance` are not watched, since each batch of them changes
/// its study's row as well.
///
/// `@unchecked Sendable` is safe because only GRDB calls it, on the queue of the one writer.
private final class ChangeObserver: TransactionObserver, LedgerObservation, @unchecked Sendable {
    private enum Table: String { case study, event, delivery, alerts = "operator_alert" }

    private let onChange: @Sendable (Set<LedgerChange>) -> Void
    private var changed: [Table: Set<Int64>] = [:]

    init(_ onChange: @escaping @Sendable (Set<LedgerChange>) -> Void) { self.onChange = onChange }

    func observes(eventsOfKind eventKind: DatabaseEventKind) -> Bool { Table(rawValue: eventKind.tableName) != nil }

    func databaseDidChange(with event: DatabaseEvent) {
        guard let table = Table(rawValue: event.tableName) else { return }
        changed[table, default: []].insert(event.rowID)
    }

    func databaseDidRollback(_ database: Database) { changed = [:] }

    func databaseDidCommit(_ database: Database) {
        guard !changed.isEmpty else { return }
        var changes: Set<LedgerChange> = []
        if changed[.delivery] != nil { changes.insert(.deliveries) }
        if changed[.alerts] != nil { changes.insert(.alerts) }
        for table in [Table.study, .event, .delivery] {
            for row in changed[table] ?? [] {
                if let uid = study(ofRow: row, table, database) { changes.insert(.study(uid)) }
            }
        }
        changed = [:]
        onChange(changes)
    }

    /// A row that cannot be read again is missing from what changed, not from the ledger.
    private func study(ofRow row: Int64, _ table: Table, _ database: Database) -> UID? {
        let sql = "SELECT study_uid FROM \(table.rawValue) WHERE rowid = ?"
        let text = try? String.fetchOne(database.cachedStatement(sql: sql), arguments: [row])
        return text.flatMap { UID($0) }
    }
}
