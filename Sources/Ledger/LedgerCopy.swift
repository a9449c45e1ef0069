internal import Foundation
internal import GRDB
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// A copy of the ledger's file, made by SQLite's online backup (sqlite.org/backup.html).
public enum LedgerCopy {
    /// 1 MiB of pages.
    private static let pagesPerStep: CInt = 256
    /// While it is copied, the write-ahead log is not emptied. Once it has grown by so many bytes, the copy goes on
    /// without pauses.
    private static let mostGrowth = 64 << 20
    private static let mostPauseSeconds = 0.1
    /// Of a database file: file format write and read version; 1 each where no log belongs to it
    /// (sqlite.org/fileformat2.html §1.3.3).
    private static let journalVersionsOffset: off_t = 18

    /// Copies what is committed now into a new file that only its owner may read, and fsyncs it. Whoever writes the
    /// ledger meanwhile waits for nothing. Blocks; rests as long as it works.
    /// - Throws: `LedgerError` where what was copied is damaged.
    public static func make(of path: String, at target: String) throws {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(10)
        let ledger = try DatabaseQueue(path: path, configuration: configuration)
        let atFirst = logBytes(of: path)
        var worked = ContinuousClock.now
        try write(ledger, to: target) {
            let seconds = (ContinuousClock.now - worked).inSeconds
            if logBytes(of: path) - atFirst < mostGrowth { usleep(UInt32(min(seconds, mostPauseSeconds) * 1e6)) }
            worked = ContinuousClock.now
        }
        try ledger.close()
    }

    /// How far the schema of the ledger in a file is, by number: see `LedgerSchema.version`.
    public static func schemaVersion(of path: String) throws -> Int {
        try reading(path) { try LedgerSchema.migrator.appliedIdentifiers($0).count }
    }

    /// The folders below which the ledger in a file names results and images: several where the data directory was
    /// named otherwise before.
    public static func roots(in path: String) throws -> [String] {
        try reading(path) { database in
            try String.fetchAll(
                database,
                sql: """
                    SELECT substr(path, 1, instr(path, '/results/') - 1) FROM result_object
                    UNION SELECT substr(path, 1, instr(path, '/spool/studies/') - 1) FROM instance
                    """)
        }
    }

    /// Calls with the path of each result object that the ledger in a file names.
    public static func forEachResult(in path: String, _ body: (String) throws -> Void) throws {
        try reading(path) { database in
            let paths = try String.fetchCursor(database, sql: "SELECT path FROM result_object ORDER BY rowid")
            while let path = try paths.next() { try body(path) }
        }
    }

    static func reading<Value>(_ path: String, _ body: (Database) throws -> Value) throws -> Value {
        var configuration = Configuration()
        configuration.readonly = true
        let database = try DatabaseQueue(path: path, configuration: configuration)
        let value = try database.read(body)
        try database.close()
        return value
    }

    private static func logBytes(of path: String) -> Int {
        var status = stat()
        return stat(path + "-wal", &status) == 0 ? Int(status.st_size) : 0
    }

    /// - Parameter rest: called after each step.
    static func write(_ ledger: any DatabaseReader, to target: String, rest: @escaping () -> Void) throws {
        let file = open(target, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw LedgerError(reason: "cannot make \(target): \(Errno.text)") }
        defer { close(file) }
        let copy = try DatabaseQueue(path: target)
        try copy.writeWithoutTransaction { copy in
            // Fsynced as a whole at the end; what a crash leaves is no copy.
            try copy.execute(sql: "PRAGMA journal_mode = OFF")
            try copy.execute(sql: "PRAGMA synchronous = OFF")
            try ledger.read { ledger in
                // Begins the transaction that all steps read.
                _ = try Int.fetchOne(ledger, sql: "SELECT count(*) FROM sqlite_master")
                try ledger.backup(to: copy, pagesPerStep: pagesPerStep) { progress in
                    if !progress.isCompleted { rest() }
                }
            }
        }
        try copy.close()
        try finish(target)
        // Of a disk that fails while it is made one file, SQLite says nothing.
        var versions: [UInt8] = [0, 0]
        let isAlone = ["-wal", "-shm", "-journal"].allSatisfy { access(target + $0, F_OK) != 0 }
        guard pread(file, &versions, 2, journalVersionsOffset) == 2, versions == [1, 1], isAlone else {
            throw LedgerError(reason: "\(target) cannot be written whole")
        }
        guard fsync(file) == 0 else { throw LedgerError(reason: "cannot fsync \(target): \(Errno.text)") }
    }

    /// Makes it one file that needs no other beside it, and looks whether it is sound.
    private static func finish(_ target: String) throws {
        let copy = try DatabaseQueue(path: target)
        try copy.writeWithoutTransaction { copy in
            try copy.execute(sql: "PRAGMA journal_mode = DELETE")
            try requireSound(copy)
        }
        try copy.close()
    }

    /// - Throws: `LedgerError` where the ledger is damaged. Reads all of it.
    static func requireSound(_ database: Database) throws {
        let verdict = try String.fetchOne(database, sql: "PRAGMA quick_check(1)") ?? "no answer"
        guard verdict == "ok" else {
            throw LedgerError(reason: "the ledger is damaged (\(verdict)): restore the latest back-up that is not")
        }
    }
}
