import CLinux
import Foundation
import Glibc
import Ledger
import StoreSCP
import WorkerProtocol

/// Makes a back-up of a node that runs or does not.
///
/// The ledger is copied first. What it names is there, and stays: result files are durable before the transaction that
/// names them (`ReportComposer`, `StudyPipeline`), and nothing removes them. Of images those are taken that are there
/// by then: one that is acknowledged and not in the ledger yet is among them, and one that retention removes meanwhile
/// is marked as removed when the back-up is restored.
struct BackupWriter {
    /// Beyond what is counted.
    private static let slackBytes: UInt64 = 64 << 20

    let folders: NodeFolders
    let place: BackupPlace
    let withImages: Bool
    /// What has to stay free where the node's own disk is written to, bytes.
    let reserveBytes: UInt64

    struct Made {
        var path: String
        var manifest: BackupManifest
    }

    /// Blocks. The caller holds the place's lock.
    func make() throws -> Made {
        try folders.requireWhole()
        guard FileTree.exists(folders.ledger.path), let installation = try folders.knownInstallation() else {
            throw CommandFailure(
                .configuration, "\(folders.data.path) holds no ledger: is it the data directory of a node that has run?"
            )
        }
        try place.removeParts()
        try requireRoom()
        // Two within a second.
        while FileTree.exists("\(place.path)/\(BackupPlace.name(at: .now))") { usleep(100_000) }
        let takenAt = Date.now
        let path = "\(place.path)/\(BackupPlace.name(at: takenAt))"
        let part = path + BackupPlace.partSuffix
        do {
            guard mkdir(part, 0o700) == 0 else { throw CommandFailure(.failed, "cannot make \(part): \(Errno.text)") }
            let manifest = try fill(part, takenAt, installation)
            guard clinux_sync_file_system(part) == 0 else {
                throw CommandFailure(.failed, "cannot sync \(part): \(Errno.text)")
            }
            guard rename(part, path) == 0 else { throw CommandFailure(.failed, "cannot make \(path): \(Errno.text)") }
            try DurableFolder.sync(place.path)
            return Made(path: path, manifest: manifest)
        } catch {
            do { try place.removeParts() } catch {
                Terminal.complain("ichnode: \(part) stays, and is removed by the next back-up (\(error))")
            }
            throw error
        }
    }

    private func requireRoom() throws {
        var needed = Self.slackBytes
        for path in [folders.ledger.path, folders.ledger.path + "-wal"] {
            needed += FileTree.status(path)?.bytes ?? 0
        }
        for folder in [folders.results, folders.audit] + (withImages ? [folders.spool.studies] : []) {
            needed += try FileTree.bytes(below: folder.path)
        }
        if FileTree.shareDevice(place.path, folders.data.path) { needed += reserveBytes }
        let free = try DiskSpace.freeBytes(at: place.path)
        guard free >= needed else {
            throw CommandFailure(
                .failed,
                "\(needed >> 20) MiB have to be free in \(place.path), \(free >> 20) are: make room, or keep fewer")
        }
    }

    private func fill(_ part: String, _ takenAt: Date, _ installation: String) throws -> BackupManifest {
        var contents = try BackupContents(part)
        let ledger = "\(part)/\(BackupEntry.ledger)"
        try LedgerCopy.make(of: folders.ledger.path, at: ledger)
        try contents.list(BackupEntry.ledger)
        try contents.copy(folders.installationFile.path, as: BackupEntry.installation, orFail: true)
        var missing = 0
        let data = folders.data.path
        // Links that were left where the data directory was before.
        let others = try LedgerCopy.roots(in: ledger).filter { $0 != data && FileTree.areSame($0, data) }
        try LedgerCopy.forEachResult(in: ledger) { path in
            let root = ([data] + others).first { path.hasPrefix($0 + "/") }
            let isThere = try root.map { try contents.copy(path, as: String(path.dropFirst($0.count + 1))) } ?? false
            if !isThere { missing += 1 }
        }
        // What viewers see of them, which no row names.
        try FileTree.forEachFile(below: folders.results.path) { path, _ in
            if path.wholeMatch(of: /[0-9.]+\/finding-[0-9a-f]+\.json/) != nil {
                try contents.copy("\(folders.results.path)/\(path)", as: "results/\(path)")
            }
        }
        try copyAudit(into: &contents)
        if withImages {
            try FileTree.forEachFile(below: folders.spool.studies.path) { path, _ in
                if path.hasSuffix(".dcm"), BackupEntry.isPath("\(BackupEntry.images)/\(path)") {
                    try contents.copy("\(folders.spool.studies.path)/\(path)", as: "\(BackupEntry.images)/\(path)")
                }
            }
        }
        return try contents.finish { count, bytes, digest in
            BackupManifest(
                format: BackupManifest.format, nodeVersion: NodeVersion.string,
                schemaVersion: try LedgerCopy.schemaVersion(of: ledger), takenAt: takenAt, installation: installation,
                dataDirectory: data, otherDirectories: others.isEmpty ? nil : others, hasImages: withImages,
                fileCount: count, byteCount: bytes, missingResults: missing, listDigest: digest)
        }
    }

    /// The open file is opened before closed ones are listed, so that one that is closed meanwhile is in it.
    private func copyAudit(into contents: inout BackupContents) throws {
        let open = clinux_open_read(folders.audit.appendingPathComponent("audit.log").path)
        guard open >= 0 || errno == ENOENT else {
            throw CommandFailure(.failed, "cannot open audit.log: \(Errno.text)")
        }
        defer { if open >= 0 { close(open) } }
        var (mine, isClosed) = (clinux_file_status(), open < 0)
        if open >= 0 { _ = clinux_status_of_file(open, &mine) }
        try FileTree.forEachFile(below: folders.audit.path) { name, status in
            guard name.wholeMatch(of: /audit-\d+\.log/) != nil else { return }
            if open >= 0, status.inode == mine.inode { isClosed = true }
            try contents.copy("\(folders.audit.path)/\(name)", as: "audit/\(name)")
        }
        if !isClosed { try contents.copy(open, named: "audit.log", as: "audit/audit.log") }
    }
}

/// Files of a back-up that is being made, and their list.
private struct BackupContents {
    private let root: String
    private let list: FileHandle
    private let digest = SHA256Digest()
    private var files = FileCopy(isGentle: true)
    private var lines: [UInt8] = []
    private var latestFolder = ""
    private var (count, bytes) = (0, 0)

    init(_ root: String) throws {
        self.root = root
        let file = clinux_create("\(root)/\(BackupManifest.listName)")
        guard file >= 0 else { throw CommandFailure(.failed, "cannot make a file in \(root): \(Errno.text)") }
        list = FileHandle(fileDescriptor: file, closeOnDealloc: true)
    }

    /// - Returns: false where there is no such file.
    @discardableResult
    mutating func copy(_ source: String, as path: String, orFail: Bool = false) throws -> Bool {
        try makeFolder(of: path)
        guard let (bytes, digest) = try files.copy(source, to: "\(root)/\(path)") else {
            if orFail { throw CommandFailure(.failed, "\(source) is not there") }
            return false
        }
        try add(BackupEntry(digest: digest, bytes: bytes, path: path))
        return true
    }

    mutating func copy(_ file: Int32, named name: String, as path: String) throws {
        try makeFolder(of: path)
        let (bytes, digest) = try files.copy(file, named: name, to: "\(root)/\(path)")
        try add(BackupEntry(digest: digest, bytes: bytes, path: path))
    }

    /// A file that is in it already.
    mutating func list(_ path: String) throws {
        guard let (bytes, digest) = try files.copy("\(root)/\(path)", to: nil) else {
            throw CommandFailure(.failed, "\(root)/\(path) is not there")
        }
        try add(BackupEntry(digest: digest, bytes: bytes, path: path))
    }

    private mutating func makeFolder(of path: String) throws {
        let folder = (path as NSString).deletingLastPathComponent
        guard folder != latestFolder else { return }
        try FileManager.default.createDirectory(atPath: "\(root)/\(folder)", withIntermediateDirectories: true)
        latestFolder = folder
    }

    private mutating func add(_ entry: BackupEntry) throws {
        guard BackupEntry.isPath(entry.path) else {
            throw CommandFailure(.failed, "the data directory holds a file of an unknown name: \(entry.path)")
        }
        (count, bytes) = (count + 1, bytes + entry.bytes)
        lines += Array(entry.line.utf8)
        if lines.count >= 1 << 20 { try flush() }
    }

    private mutating func flush() throws {
        lines.withUnsafeBytes(digest.update)
        try list.write(contentsOf: lines)
        lines = []
    }

    /// The manifest comes last.
    mutating func finish(
        _ manifest: (_ count: Int, _ bytes: Int, _ digest: String) throws -> BackupManifest
    ) throws -> BackupManifest {
        try flush()
        try list.close()
        let manifest = try manifest(count, bytes, digest.finish())
        let encoded = try manifest.encoded()
        try write(encoded, as: BackupManifest.name)
        try write(Data(BackupManifest.digestLine(encoded).utf8), as: BackupManifest.digestName)
        return manifest
    }

    private func write(_ bytes: Data, as name: String) throws {
        let file = clinux_create("\(root)/\(name)")
        guard file >= 0 else { throw CommandFailure(.failed, "cannot make \(root)/\(name): \(Errno.text)") }
        try FileHandle(fileDescriptor: file, closeOnDealloc: true).write(contentsOf: bytes)
    }
}
