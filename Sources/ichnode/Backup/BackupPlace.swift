import CLinux
import Foundation
import Glibc
import StoreSCP
import WorkerProtocol

/// A folder that holds back-ups and nothing else, each in a folder named by its time, UTC. One that is being made has
/// another name until it is whole.
struct BackupPlace {
    private static let lockName = "lock"
    static let partSuffix = ".part"

    let path: String

    /// Makes the folder where only itself is missing.
    /// - Throws: for a folder that holds anything else, or lies within the data directory.
    init(_ path: String, dataDirectory: String) throws {
        self.path = URL(fileURLWithPath: path).standardizedFileURL.path
        let isNew = mkdir(self.path, 0o700) == 0
        guard isNew || errno == EEXIST else {
            throw CommandFailure(
                .configuration, "cannot make \(self.path): \(Errno.text). Make it, or mount what it is on")
        }
        if FileTree.isSame(self.path, orBelow: dataDirectory) {
            if isNew { rmdir(self.path) }
            throw CommandFailure(
                .configuration, "\(self.path) is in the data directory: name a folder elsewhere, best on another disk")
        }
        for name in try FileTree.names(in: self.path)
        where !Self.isBackup(name) && !Self.isPart(name) && name != Self.lockName {
            throw CommandFailure(
                .configuration, "\(self.path) holds \"\(name)\", which is no back-up: name a folder for back-ups alone")
        }
        if isNew { try DurableFolder.sync(URL(fileURLWithPath: self.path).deletingLastPathComponent().path) }
    }

    /// - Returns: a descriptor that holds it, until the process ends.
    func lock() throws -> Int32 {
        let lock = clinux_lock_file("\(path)/\(Self.lockName)", 0)
        guard lock >= 0 else {
            let isBusy = errno == EWOULDBLOCK
            throw CommandFailure(
                .failed, isBusy ? "another back-up is being made in \(path)" : "cannot lock \(path): \(Errno.text)")
        }
        return lock
    }

    static func name(at moment: Date) -> String {
        "ichnode-" + moment.formatted(.iso8601.dateSeparator(.omitted).timeSeparator(.omitted))
    }

    static func isBackup(_ name: String) -> Bool { name.wholeMatch(of: /ichnode-\d{8}T\d{6}Z/) != nil }
    private static func isPart(_ name: String) -> Bool {
        name.hasSuffix(partSuffix) && isBackup(String(name.dropLast(partSuffix.count)))
    }

    /// What was never finished, by whoever holds the lock.
    func removeParts() throws {
        for name in try FileTree.names(in: path) where Self.isPart(name) {
            try FileManager.default.removeItem(atPath: "\(path)/\(name)")
        }
    }

    /// Keeps the latest of an installation, and in any case the one just made: a clock that was ahead left later ones.
    /// - Returns: the names of those removed.
    func removeAllBut(_ count: Int, and made: String, ofInstallation installation: String) throws -> [String] {
        let names = try FileTree.names(in: path).filter { name in
            guard Self.isBackup(name), name != made else { return false }
            // One that cannot be read is none of ours to remove.
            return (try? Backup("\(path)/\(name)").manifest.installation) == installation
        }
        let removed = Array(names.dropLast(count - 1))
        for name in removed {
            // Half-removed it is no back-up.
            guard rename("\(path)/\(name)", "\(path)/\(name)\(Self.partSuffix)") == 0 else {
                throw CommandFailure(.failed, "cannot remove \(path)/\(name): \(Errno.text)")
            }
            try DurableFolder.sync(path)
        }
        try removeParts()
        return removed
    }
}
