internal import Foundation

#if canImport(Glibc)
internal import Glibc
#endif

/// The one file that is half-written, so that it can be removed when the daemon goes away.
///
/// `@unchecked Sendable` is safe because the only state is guarded by `lock`.
final class PartialFile: @unchecked Sendable {
    private let lock = NSLock()
    private var path: String?

    func begin(_ path: String) { lock.withLock { self.path = path } }
    /// It has another name now, or is gone.
    func end() { lock.withLock { path = nil } }

    func remove() {
        lock.withLock {
            if let path { unlink(path) }
            path = nil
        }
    }
}
