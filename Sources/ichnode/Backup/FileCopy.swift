import CLinux
import Foundation
import Glibc
import Ledger
import WorkerProtocol

/// Copies files, and says what was copied.
struct FileCopy {
    private static let chunkBytes = 1 << 20
    /// Shorter rests are saved up.
    private static let leastRest: Duration = .milliseconds(20)

    /// Rests as long as it works: the node's reads and fsyncs come first.
    var isGentle: Bool
    private var owed: Duration = .zero
    private var buffer = [UInt8](repeating: 0, count: chunkBytes)

    init(isGentle: Bool) { self.isGentle = isGentle }

    /// - Parameter target: a new file; nil: only reads.
    /// - Returns: nil where there is no such file.
    mutating func copy(_ source: String, to target: String?) throws -> (bytes: Int, digest: String)? {
        let file = clinux_open_read(source)
        if file < 0 && errno == ENOENT { return nil }
        guard file >= 0 else { throw CommandFailure(.failed, "cannot open \(source): \(Errno.text)") }
        defer { close(file) }
        return try copy(file, named: source, to: target)
    }

    /// From a file's beginning to the end that it has now.
    mutating func copy(_ file: Int32, named name: String, to target: String?) throws -> (bytes: Int, digest: String) {
        var status = clinux_file_status()
        guard clinux_status_of_file(file, &status) == 0, status.is_file != 0 else {
            throw CommandFailure(.failed, "\(name) is no regular file")
        }
        var out: Int32 = -1
        if let target {
            out = clinux_create(target)
            guard out >= 0 else { throw CommandFailure(.failed, "cannot make \(target): \(Errno.text)") }
        }
        defer { if out >= 0 { close(out) } }
        let digest = SHA256Digest()
        var offset = 0
        while offset < Int(status.bytes) {
            let began = ContinuousClock.now
            let wanted = min(Self.chunkBytes, Int(status.bytes) - offset)
            let count = pread(file, &buffer, wanted, off_t(offset))
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw CommandFailure(.failed, "cannot read \(name): \(Errno.text)") }
            // The audit trail takes back what it could not write whole.
            if count == 0 { break }
            let failure = buffer.withUnsafeBytes { bytes -> Int32 in
                digest.update(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
                return out < 0 ? 0 : clinux_write_two(out, bytes.baseAddress, count, nil, 0)
            }
            guard failure == 0 else { throw CommandFailure(.failed, "cannot write \(target ?? ""): \(Errno.text)") }
            offset += count
            rest(after: ContinuousClock.now - began)
        }
        return (offset, digest.finish())
    }

    private mutating func rest(after work: Duration) {
        owed += work
        guard isGentle, owed >= Self.leastRest else { return }
        usleep(UInt32(min(owed.inSeconds, 1) * 1e6))
        owed = .zero
    }
}

/// Folders as back-up and restore look at them.
enum FileTree {
    /// Without following a link; nil where there is no such thing.
    static func status(_ path: String) -> clinux_file_status? {
        var status = clinux_file_status()
        return clinux_status_of_path(path, &status) == 0 ? status : nil
    }

    static func exists(_ path: String) -> Bool { status(path) != nil }

    /// Calls with the path of each thing below a folder that is no folder itself. A folder that is not there has none.
    static func forEachFile(
        below root: String, _ body: (_ path: String, _ status: clinux_file_status) throws -> Void
    ) throws {
        var folders = [""]
        while let folder = folders.popLast() {
            for name in try names(in: folder.isEmpty ? root : "\(root)/\(folder)") {
                let path = folder.isEmpty ? name : "\(folder)/\(name)"
                // It may have gone meanwhile.
                guard let status = status("\(root)/\(path)") else { continue }
                if status.is_directory != 0 { folders.append(path) } else { try body(path, status) }
            }
        }
    }

    /// In order; none where there is no such folder. Without what a file system has at its root for itself.
    static func names(in folder: String) throws -> [String] {
        do {
            return try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0 != "lost+found" }.sorted()
        } catch {
            guard exists(folder) else { return [] }
            throw CommandFailure(.failed, "cannot list \(folder): \(error)")
        }
    }

    static func bytes(below root: String) throws -> UInt64 {
        var sum: UInt64 = 0
        try forEachFile(below: root) { sum += $1.bytes }
        return sum
    }

    static func isSame(_ path: String, orBelow folder: String) -> Bool {
        guard let path = real(path), let folder = real(folder) else { return false }
        return path == folder || path.hasPrefix(folder == "/" ? "/" : folder + "/")
    }

    /// By links too.
    static func areSame(_ one: String, _ other: String) -> Bool {
        isSame(one, orBelow: other) && isSame(other, orBelow: one)
    }

    /// Whether both lie on one file system.
    static func shareDevice(_ one: String, _ other: String) -> Bool {
        guard let one = real(one).flatMap(status), let other = real(other).flatMap(status) else { return false }
        return one.device == other.device
    }

    /// Without links.
    private static func real(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}
