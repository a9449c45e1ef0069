import CLinux
import Foundation
import Glibc
import StoreSCP
import Synchronization
import WorkerProtocol

/// Lines in `audit.log`, and in closed files beside it, the oldest of which go.
///
/// A full file is closed by one rename to the next free number, so that a crash at any point leaves every line in one
/// file. A line that a crash cut short is cut off by the next start: it never counted as written.
final class AuditFile: Sendable {
    private struct Open {
        var descriptor: Int32
        var bytes: Int
    }

    let path: URL
    private let mostBytes: Int
    /// Closed ones.
    private let mostFiles: Int
    private let open = Mutex<Open?>(nil)

    init(folder: URL, mostBytes: Int, mostFiles: Int) {
        path = folder.appendingPathComponent("audit.log")
        self.mostBytes = mostBytes
        self.mostFiles = mostFiles
    }

    private var folder: URL { path.deletingLastPathComponent() }

    /// All lines are durable when this returns. They go into one file, even where they alone are too long for it.
    /// Blocks.
    /// - Throws: where none of them is written.
    func append(_ lines: [String]) throws {
        let bytes = Array(lines.joined(separator: "\n").utf8) + [UInt8(ascii: "\n")]
        try open.withLock { open in
            if open == nil { open = try openFile() }
            if let filled = open?.bytes, filled > 0, filled + bytes.count > mostBytes { try rotate(&open) }
            try write(bytes, &open)
        }
    }

    private func write(_ bytes: [UInt8], _ open: inout Open?) throws {
        var file = try open ?? openFile()
        open = file
        var offset = 0
        while offset < bytes.count {
            let count = bytes[offset...].withUnsafeBytes { Glibc.write(file.descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw failed("write", file, &open) }
            offset += count
        }
        guard fdatasync(file.descriptor) == 0 else { throw failed("fsync", file, &open) }
        file.bytes += bytes.count
        open = file
    }

    /// Takes back what was written, so that the same lines may be written again.
    private func failed(_ what: String, _ file: Open, _ open: inout Open?) -> WorkerError {
        let cause = Errno.text
        _ = ftruncate(file.descriptor, off_t(file.bytes))
        close(file.descriptor)
        open = nil
        return WorkerError(.system, "\(what) \(path.path): \(cause)")
    }

    private func openFile() throws -> Open {
        if mkdir(folder.path, 0o750) == 0 {
            try DurableFolder.sync(folder.deletingLastPathComponent().path)
        } else if errno != EEXIST {
            throw WorkerError(.system, "mkdir \(folder.path): \(Errno.text)")
        }
        let descriptor = Glibc.open(path.path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o640)
        guard descriptor >= 0 else { throw WorkerError(.system, "open \(path.path): \(Errno.text)") }
        let size = Int(lseek(descriptor, 0, SEEK_END))
        let whole = Self.wholeLines(descriptor, size)
        guard fchmod(descriptor, 0o640) == 0, ftruncate(descriptor, off_t(whole)) == 0 else {
            close(descriptor)
            throw WorkerError(.system, "\(path.path): \(Errno.text)")
        }
        do { try DurableFolder.sync(folder.path) } catch {
            close(descriptor)
            throw error
        }
        return Open(descriptor: descriptor, bytes: whole)
    }

    /// - Returns: bytes up to the last line break.
    private static func wholeLines(_ descriptor: Int32, _ size: Int) -> Int {
        var end = size
        var byte: UInt8 = 0
        while end > 0, pread(descriptor, &byte, 1, off_t(end - 1)) == 1, byte != UInt8(ascii: "\n") { end -= 1 }
        return end
    }

    private func rotate(_ open: inout Open?) throws {
        let closed = try closedFiles()
        let number = (closed.last?.number ?? 0) + 1
        let name = "audit-" + String(repeating: "0", count: max(0, 8 - "\(number)".count)) + "\(number).log"
        // Somebody may have moved it.
        guard clinux_rename_noreplace(path.path, folder.appendingPathComponent(name).path) == 0 || errno == ENOENT
        else {
            throw WorkerError(.system, "rename \(path.path): \(Errno.text)")
        }
        if let file = open { close(file.descriptor) }
        open = nil
        try DurableFolder.sync(folder.path)
        // One that stays goes with the next rotation.
        for old in closed.prefix(max(0, closed.count + 1 - mostFiles)) { unlink(old.path.path) }
    }

    /// The oldest first.
    private func closedFiles() throws -> [(number: Int, path: URL)] {
        let names: [String]
        do { names = try FileManager.default.contentsOfDirectory(atPath: folder.path) } catch {
            throw WorkerError(.system, "cannot list \(folder.path)")
        }
        return names.compactMap { name in
            guard name.hasPrefix("audit-"), name.hasSuffix(".log"),
                let number = Int(name.dropFirst("audit-".count).dropLast(".log".count))
            else { return nil }
            return (number, folder.appendingPathComponent(name))
        }.sorted { $0.number < $1.number }
    }

    /// The latest lines, oldest first: at most so many, and so many bytes. Blocks.
    func latest(_ count: Int, mostBytes: Int) throws -> [String] {
        try open.withLock { _ in
            var lines: [String] = []
            var room = mostBytes
            for file in [path] + (try closedFiles()).reversed().map(\.path) where lines.count < count && room > 0 {
                guard let handle = try? FileHandle(forReadingFrom: file) else { continue }
                defer { try? handle.close() }
                do {
                    let size = Int(try handle.seekToEnd())
                    try handle.seek(toOffset: UInt64(max(0, size - room)))
                    let bytes = try handle.readToEnd() ?? Data()
                    var found = bytes.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
                    // The first may be a part of one.
                    if size > room && !found.isEmpty { found.removeFirst() }
                    lines = found.suffix(count - lines.count) + lines
                    room -= bytes.count
                } catch { throw WorkerError(.system, "cannot read \(file.path): \(error)") }
            }
            return lines
        }
    }
}
