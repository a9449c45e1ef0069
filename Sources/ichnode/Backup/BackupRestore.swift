import CLinux
import Foundation
import Glibc
import Ledger
import StoreSCP
import WorkerProtocol

/// Makes the data directory that a back-up is of, on whatever machine and path.
///
/// All is built in a folder within the data directory, which keeps a node from starting (`NodeFolders.requireWhole`),
/// and moved out of it; that folder goes last. So a data directory may be a mount point, and the node's user may do it.
struct BackupRestore {
    private static let slackBytes: UInt64 = 64 << 20
    /// What a node makes and a restore brings; the ledger last.
    private static let parts = ["results", "audit", BackupEntry.images, BackupEntry.installation, BackupEntry.ledger]

    let backup: Backup
    let folders: NodeFolders

    /// Blocks. Reads the whole back-up before it changes anything.
    func restore() throws -> RestoredLedger.Losses {
        guard backup.manifest.schemaVersion <= SQLiteLedger.schemaVersion else {
            throw CommandFailure(
                .configuration,
                "the back-up is of a later version of ichnode (\(backup.manifest.nodeVersion)): install that version")
        }
        let entries = try backup.verify()
        let data = folders.data.path
        guard mkdir(data, 0o750) == 0 || errno == EEXIST else {
            throw CommandFailure(.configuration, "cannot make \(data): \(Errno.text)")
        }
        guard !FileTree.isSame(backup.path, orBelow: data) else {
            throw CommandFailure(.configuration, "the back-up lies in \(data): move it elsewhere first")
        }
        try requireEmpty()
        let lock = try hold()
        defer { close(lock) }
        // A node may have come first.
        try requireEmpty()
        try requireRoom(entries)
        try clear()
        do {
            let losses = try build(entries)
            try moveIn()
            return losses
        } catch {
            // Nothing that was there before: it was empty.
            try clear()
            rmdir(folders.restoring.path)
            throw error
        }
    }

    /// Ends a restore that had put all in its place and did not come to take its mark away. Removes nothing else: a
    /// node of a version that does not know the mark may have run since.
    /// - Returns: nil where there is none.
    func finishEarlier() throws -> RestoredLedger.Losses? {
        guard try isInPlace else { return nil }
        let lock = try hold()
        defer { close(lock) }
        let losses = try RestoredLedger.losses(of: folders.ledger.path)
        try finish()
        return losses
    }

    /// The ledger comes last, and goes first.
    private var isInPlace: Bool {
        get throws {
            let part = folders.restoring.path
            guard FileTree.exists(part), FileTree.exists(folders.ledger.path) else { return false }
            let left = try FileTree.names(in: part).filter { $0 != "spool" } + FileTree.names(in: "\(part)/spool")
            return left.isEmpty
        }
    }

    // MARK: Before

    /// - Returns: the spool's lock: no node starts.
    private func hold() throws -> Int32 {
        try makeOwned(folders.spool.root.path)
        let path = folders.spool.lock.path
        let lock = clinux_lock_file(path, 0)
        guard lock >= 0 else {
            throw CommandFailure(
                .configuration, "a node runs on \(folders.data.path), or another restore: stop it first (\(Errno.text))"
            )
        }
        try own(path)
        return lock
    }

    /// But for folders, and what a restore left that did not end: it had begun with nothing. A ledger beside parts that
    /// were not moved yet is none of its own.
    private func requireEmpty() throws {
        let hasBegun = FileTree.exists(folders.restoring.path)
        let parts = Self.parts.filter { $0 != BackupEntry.ledger } + [folders.restoring.lastPathComponent]
        let left = hasBegun ? parts : []
        try FileTree.forEachFile(below: folders.data.path) { path, _ in
            let isLeft = left.contains { path == $0 || path.hasPrefix($0 + "/") }
            guard path == "spool/lock" || isLeft else {
                let isOfNode = hasBegun && path == BackupEntry.ledger
                throw notEmpty(isOfNode ? "\(path) of a node that ran since a restore did not end" : path)
            }
        }
    }

    private func notEmpty(_ path: String) -> CommandFailure {
        let data = folders.data.path
        return CommandFailure(
            .configuration,
            """
            \(data) is not empty, \(path) is there. Stop the node and move what is there aside, on the same disk: \
            mkdir \(data).before && find \(data) -mindepth 1 -maxdepth 1 -exec mv -t \(data).before {} +
            """)
    }

    private func requireRoom(_ entries: [BackupEntry]) throws {
        // The ledger once more, for what is changed in it.
        let ledger = entries.first { $0.path == BackupEntry.ledger }?.bytes ?? 0
        let needed = UInt64(entries.reduce(2 * ledger) { $0 + $1.bytes }) + Self.slackBytes
        let free = try DiskSpace.freeBytes(at: folders.data.path)
        guard free >= needed else {
            throw CommandFailure(
                .failed, "\(needed >> 20) MiB have to be free in \(folders.data.path), \(free >> 20) are: make room")
        }
    }

    /// Of a restore. The ledger first: one that is there without the rest would pass for whole (`isInPlace`).
    private func clear() throws {
        for name in Self.parts.reversed() where FileTree.exists("\(folders.data.path)/\(name)") {
            try FileManager.default.removeItem(atPath: "\(folders.data.path)/\(name)")
        }
        for name in try FileTree.names(in: folders.restoring.path) {
            try FileManager.default.removeItem(atPath: "\(folders.restoring.path)/\(name)")
        }
    }

    // MARK: Building

    private func build(_ entries: [BackupEntry]) throws -> RestoredLedger.Losses {
        try makeOwned(folders.restoring.path)
        try DurableFolder.sync(folders.data.path)
        let part = folders.restoring.path
        var files = FileCopy(isGentle: false)
        for folder in ["spool", BackupEntry.images, "results"] { try makeOwned("\(part)/\(folder)") }
        for entry in entries {
            let target = "\(part)/\(entry.path)"
            try makeFolders(of: entry.path, in: part)
            let copied = try files.copy("\(backup.path)/\(entry.path)", to: target)
            guard let copied, copied == (entry.bytes, entry.digest) else {
                throw backup.damaged("\(entry.path) changed while it was read")
            }
            try own(target)
        }
        let (data, images) = (folders.data.path, Set(entries.lazy.map(\.path).filter { $0.hasPrefix("spool/") }))
        let losses = try RestoredLedger.settle(
            "\(part)/\(BackupEntry.ledger)", from: backup.manifest.dataDirectory,
            aliases: backup.manifest.otherDirectories ?? [], to: data
        ) { path in path.hasPrefix(data + "/") && images.contains(String(path.dropFirst(data.count + 1))) }
        guard clinux_sync_file_system(data) == 0 else {
            throw CommandFailure(.failed, "cannot sync \(data): \(Errno.text)")
        }
        return losses
    }

    private func moveIn() throws {
        let (data, part) = (folders.data.path, folders.restoring.path)
        for name in Self.parts where FileTree.exists("\(part)/\(name)") {
            // Over a folder that is there and empty.
            guard rename("\(part)/\(name)", "\(data)/\(name)") == 0 else {
                throw CommandFailure(.failed, "cannot make \(data)/\(name): \(Errno.text)")
            }
        }
        try finish()
    }

    private func finish() throws {
        let (data, part) = (folders.data.path, folders.restoring.path)
        for folder in [folders.spool.root.path, data] { try DurableFolder.sync(folder) }
        rmdir("\(part)/spool")
        guard rmdir(part) == 0 else { throw CommandFailure(.failed, "cannot remove \(part): \(Errno.text)") }
        try DurableFolder.sync(data)
    }

    private func makeFolders(of path: String, in root: String) throws {
        var folder = root
        for name in path.split(separator: "/").dropLast() {
            folder += "/\(name)"
            try makeOwned(folder)
        }
    }

    private func makeOwned(_ folder: String) throws {
        if mkdir(folder, 0o750) == 0 { return try own(folder) }
        guard errno == EEXIST else { throw CommandFailure(.failed, "cannot make \(folder): \(Errno.text)") }
    }

    /// What root makes belongs to whom the data directory belongs to.
    private func own(_ path: String) throws {
        guard geteuid() == 0 else { return }
        guard let owner = FileTree.status(folders.data.path + "/."), lchown(path, owner.uid, owner.gid) == 0 else {
            throw CommandFailure(.failed, "cannot give \(path) to the node's user: \(Errno.text)")
        }
    }
}
