import CLinux
import Foundation
import Glibc
import WorkerProtocol

/// A back-up as it lies in its folder.
struct Backup {
    private static let mostManifestBytes = 1 << 20

    let path: String
    let manifest: BackupManifest

    /// Reads what it says of itself.
    /// - Throws: where it is none, or was not finished, or is of a later format.
    init(_ path: String) throws {
        self.path = URL(fileURLWithPath: path).standardizedFileURL.path
        let bytes: Data
        do {
            bytes = try Self.read("\(self.path)/\(BackupManifest.name)")
            let digest = try Self.read("\(self.path)/\(BackupManifest.digestName)")
            guard digest == Data(BackupManifest.digestLine(bytes).utf8) else {
                throw CommandFailure(.failed, "its manifest is damaged: take another")
            }
            manifest = try BackupManifest.decoded(bytes)
        } catch {
            let latest = try FileTree.names(in: self.path).last(where: BackupPlace.isBackup)
            if let latest { throw CommandFailure(.failed, "\(self.path) holds back-ups: name one, such as \(latest)") }
            throw CommandFailure(.failed, "\(self.path) is no back-up, or not a whole one: \(Self.text(error))")
        }
        guard manifest.format <= BackupManifest.format else {
            throw CommandFailure(
                .configuration,
                "\(self.path) is of a later version of ichnode (\(manifest.nodeVersion)): install that version")
        }
    }

    private static func text(_ error: any Error) -> String {
        switch error {
        case let failure as CommandFailure: failure.description
        case is DecodingError: "its manifest is not one"
        default: "\(error)"
        }
    }

    private static func read(_ path: String) throws -> Data {
        let file = clinux_open_read(path)
        guard file >= 0 else { throw CommandFailure(.failed, "\(path): \(Errno.text)") }
        return try FileHandle(fileDescriptor: file, closeOnDealloc: true).read(upToCount: mostManifestBytes) ?? Data()
    }

    /// Reads all of it. Blocks.
    /// - Returns: all files.
    /// - Throws: `CommandFailure` where a file is not as listed, is missing, or is not listed.
    func verify() throws -> [BackupEntry] {
        let entries = try entries()
        var files = FileCopy(isGentle: false)
        for entry in entries {
            guard let (bytes, digest) = try files.copy("\(path)/\(entry.path)", to: nil) else {
                throw damaged("\(entry.path) is missing")
            }
            guard bytes == entry.bytes, digest == entry.digest else {
                throw damaged("\(entry.path) is not as it was written")
            }
        }
        var listed = Set(entries.map(\.path))
        listed.formUnion([BackupManifest.name, BackupManifest.digestName, BackupManifest.listName])
        try FileTree.forEachFile(below: path) { name, _ in
            guard listed.contains(name) else { throw damaged("\(name) is in it and is not listed") }
        }
        return entries
    }

    private func entries() throws -> [BackupEntry] {
        let file = clinux_open_read("\(path)/\(BackupManifest.listName)")
        guard file >= 0 else { throw damaged("\(BackupManifest.listName): \(Errno.text)") }
        let bytes = try FileHandle(fileDescriptor: file, closeOnDealloc: true).readToEnd() ?? Data()
        guard SHA256Digest.hex(of: bytes) == manifest.listDigest else { throw damaged("its list is not as written") }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        let entries = lines.compactMap { BackupEntry(line: $0) }
        let paths = Set(entries.map(\.path))
        guard entries.count == lines.count, paths.count == lines.count, lines.count == manifest.fileCount,
            paths.isSuperset(of: [BackupEntry.ledger, BackupEntry.installation])
        else { throw damaged("its list names what no back-up of the node holds") }
        return entries
    }

    func damaged(_ what: String) -> CommandFailure {
        CommandFailure(.failed, "\(path) is damaged: \(what). Nothing of it was used; take another")
    }
}
