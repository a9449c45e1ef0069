internal import CLinux
internal import Foundation
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// The files of one request: written under temporary names, made durable, then given their names all at once.
///
/// `discard` may come from another thread, when the daemon is gone.
/// `@unchecked Sendable` is safe because all state is guarded by `lock`.
final class ResultFiles: @unchecked Sendable {
    private struct Staged {
        var temporaryPath: String
        var path: String
    }

    private let lock = NSLock()
    private var staged: [Staged] = []
    /// What of this request exists on disk.
    private var written: [String] = []

    /// Writes a file durably under a temporary name in the folder.
    /// - Throws: `WorkerError`: `failed` on a name that is not plain, `system` when writing fails.
    func stage(_ bytes: [UInt8], as name: String, in directory: String) throws {
        try Self.check(name)
        try lock.withLock {
            // Not a UUID: Foundation makes these from /dev/urandom, which a confined process cannot open.
            let temporaryName = String(UInt64.random(in: .min ... .max), radix: 36)
            let file = Staged(temporaryPath: "\(directory)/.\(temporaryName).part", path: "\(directory)/\(name)")
            guard !staged.contains(where: { $0.path == file.path }) else {
                throw WorkerError(.failed, "two files of a request have the same name")
            }
            try Self.write(bytes, to: file.temporaryPath) { written.append(file.temporaryPath) }
            staged.append(file)
        }
    }

    /// Gives all staged files their names. A name that is taken is an error: results are composed once (PS3.5 §9: a UID
    /// stands for one content).
    func publish(in directory: String) throws {
        try lock.withLock {
            for file in staged {
                guard clinux_rename_noreplace(file.temporaryPath, file.path) == 0 else {
                    throw WorkerError(.system, "cannot name a result file: \(Errno.text)")
                }
                written.removeAll { $0 == file.temporaryPath }
                written.append(file.path)
            }
            guard clinux_sync_directory(directory) == 0 else {
                throw WorkerError(.system, "cannot make result files durable: \(Errno.text)")
            }
        }
    }

    /// The files stay.
    func handOver() {
        lock.withLock { (staged, written) = ([], []) }
    }

    /// Removes all of the request.
    func discard() {
        lock.withLock {
            for path in written { unlink(path) }
            (staged, written) = ([], [])
        }
    }

    /// A plain name: it stays in its folder, is not hidden, and is none of the temporary ones.
    private static func check(_ name: String) throws {
        let isPlain = name.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "/") }
        guard isPlain, !name.hasPrefix("."), (1...200).contains(name.utf8.count) else {
            throw WorkerError(.failed, "a file name of the request is not a plain name")
        }
    }

    private static func write(_ bytes: [UInt8], to path: String, created: () -> Void) throws {
        let descriptor = clinux_create(path)
        guard descriptor >= 0 else { throw WorkerError(.system, "cannot create a result file: \(Errno.text)") }
        defer { close(descriptor) }
        created()
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 || errno == EINTR else {
                throw WorkerError(.system, "cannot write a result file: \(Errno.text)")
            }
            rest = rest.dropFirst(max(0, count))
        }
        guard fsync(descriptor) == 0 else {
            throw WorkerError(.system, "cannot make a result file durable: \(Errno.text)")
        }
    }
}
