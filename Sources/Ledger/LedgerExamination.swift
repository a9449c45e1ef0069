internal import Dispatch
internal import Foundation
internal import GRDB

#if canImport(Glibc)
internal import Glibc
#endif

/// Whether the node could open the ledger in a file. Changes nothing, whether a node has it open or not.
public enum LedgerExamination {
    /// - Parameter seconds: how long to look for damage.
    /// - Returns: whether that was long enough to look at all of it.
    /// - Throws: `LedgerError` where the ledger is damaged or of a later version, or has no room for what
    ///   `LedgerUpgrade` does; what SQLite says where it cannot be read.
    public static func examine(_ path: String, seconds: Double) throws -> Bool {
        // Without a write-ahead log nobody has it open; SQLite would make one to read it, unless it is told so
        // (sqlite.org/uri.html).
        let log = path + "-wal"
        guard access(log, F_OK) != 0 else { return try examine(path, opened: path, seconds) }
        let name = URL(fileURLWithPath: path, isDirectory: false).absoluteString + "?immutable=1"
        do { return try examine(path, opened: name, seconds) } catch {
            // A node that has started meanwhile changes what was to stay as it is.
            guard access(log, F_OK) == 0 else { throw error }
            return try examine(path, opened: path, seconds)
        }
    }

    private static func examine(_ path: String, opened name: String, _ seconds: Double) throws -> Bool {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(2)
        let database = try DatabaseQueue(path: name, configuration: configuration)
        try LedgerUpgrade(database: database, file: path).requirePossible()
        DispatchQueue.global().asyncAfter(deadline: .now() + seconds) { [weak database] in database?.interrupt() }
        do { try database.read { try LedgerCopy.requireSound($0) } } catch let error as DatabaseError
            where error.resultCode == .SQLITE_INTERRUPT
        { return false }
        return true
    }
}
