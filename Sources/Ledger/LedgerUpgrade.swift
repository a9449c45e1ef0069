internal import Dispatch
internal import Foundation
internal import GRDB
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// Brings the ledger of an earlier version up to date. The ledger as it was stays beside it, as
/// `ledger-schema-<number>.sqlite`.
struct LedgerUpgrade {
    /// Of earlier schemas.
    static let keptCopies = 3

    let database: any DatabaseWriter
    var migrator = LedgerSchema.migrator
    /// Of the file system that holds a path, bytes.
    var freeBytes: (_ path: String) throws -> Int = Self.freeBytes
    /// Is told at once what takes long, and again while it does.
    var progress: @Sendable (String) -> Void = { _ in }
    /// Of the ledger, where the database was opened under another name.
    var file: String?

    private var path: String { file ?? database.path }
    private var folder: String { (path as NSString).deletingLastPathComponent }
    private func copy(ofSchema number: Int) -> String { "\(folder)/ledger-schema-\(number).sqlite" }

    /// - Throws: `LedgerError` for a ledger of a later version, where there is no room, and where it fails; then the
    ///   ledger is as it was.
    func run() throws {
        let known = try requirePossible()
        guard known < migrator.migrations.count else { return }
        // A new one.
        guard known > 0 else { return try migrator.migrate(database) }
        let kept = try telling("copying the ledger before it is brought up to date") { try keep(schema: known) }
        do {
            try telling("bringing the ledger up to date") { try migrator.migrate(database) }
        } catch {
            try telling("putting the ledger back as it was") { try putBack(kept) }
            throw LedgerError(
                reason: """
                    cannot be brought from schema \(known) to \(migrator.migrations.count): \(error). It is as it was; \
                    install the version of ichnode that it is of, and report this
                    """)
        }
    }

    private func telling<Value>(_ what: String, _ body: () throws -> Value) rethrows -> Value {
        progress(what)
        // On a queue of its own: the work takes the caller's thread.
        let timer = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "ledger.upgrade"))
        timer.setEventHandler { [progress] in progress(what) }
        timer.schedule(deadline: .now() + .seconds(5), repeating: .seconds(5))
        timer.activate()
        defer { timer.cancel() }
        return try body()
    }

    /// Changes nothing.
    /// - Returns: how many migrations the ledger has.
    /// - Throws: `LedgerError` for a ledger of a later version, and where there is no room to bring it up to date.
    @discardableResult
    func requirePossible() throws -> Int {
        let (isLater, known) = try database.read { database in
            (try migrator.hasBeenSuperseded(database), try migrator.appliedIdentifiers(database).count)
        }
        guard !isLater else { throw Self.later(path, schema: known) }
        if known > 0, known < migrator.migrations.count { try requireRoom() }
        return known
    }

    static func later(_ path: String, schema: Int) -> LedgerError {
        LedgerError(
            reason: """
                \(path) is of a later version of ichnode (schema \(schema), this one knows \(LedgerSchema.version)): \
                install that version again, or restore a back-up of this one
                """)
    }

    /// A copy, and what the migration writes: at worst each row anew, in the file and in its write-ahead log.
    private func requireRoom() throws {
        var status = stat()
        guard stat(path, &status) == 0 else { throw LedgerError(reason: "stat: \(Errno.text)") }
        let (needed, free) = (3 * Int(status.st_size), try freeBytes(folder))
        guard free >= needed else {
            throw LedgerError(
                reason: """
                    \(needed >> 20) MiB have to be free in \(folder) to bring the ledger up to date, \(free >> 20) \
                    are: make room, then start again. It is as it was
                    """)
        }
    }

    private func keep(schema: Int) throws -> String {
        let path = copy(ofSchema: schema)
        unlink(path + ".part")
        try LedgerCopy.write(database, to: path + ".part") {}
        guard rename(path + ".part", path) == 0 else { throw LedgerError(reason: "rename \(path): \(Errno.text)") }
        let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { close(directory) }
        guard fsync(directory) == 0 else { throw LedgerError(reason: "fsync \(folder): \(Errno.text)") }
        let numbers = try FileManager.default.contentsOfDirectory(atPath: folder).compactMap { name in
            name.wholeMatch(of: /ledger-schema-(\d+)\.sqlite/).flatMap { Int($0.1) }
        }
        for number in numbers.sorted().dropLast(Self.keptCopies) { unlink(copy(ofSchema: number)) }
        return path
    }

    /// Migrations are transactions of their own: those before the one that failed hold. One transaction.
    private func putBack(_ path: String) throws {
        var configuration = Configuration()
        configuration.readonly = true
        let kept = try DatabaseQueue(path: path, configuration: configuration)
        do { try kept.backup(to: database) } catch {
            throw LedgerError(
                reason: "cannot be brought up to date, nor put back (\(error)): put \(path) in its place yourself")
        }
        try kept.close()
    }

    private static func freeBytes(at path: String) throws -> Int {
        var system = statvfs()
        guard statvfs(path, &system) == 0 else { throw LedgerError(reason: "statvfs \(path): \(Errno.text)") }
        return Int(system.f_bavail) * Int(system.f_frsize)
    }
}
