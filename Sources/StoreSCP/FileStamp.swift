internal import Foundation

#if canImport(Glibc)
internal import Glibc
#endif

/// What changes when a file is replaced or written to.
struct FileStamp: Equatable {
    private var device: UInt64
    private var number: UInt64
    private var bytes: Int
    private var modified: [Int]

    /// Follows links, as those who read the file do. nil where there is no such file.
    init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        device = UInt64(status.st_dev)
        number = UInt64(status.st_ino)
        bytes = Int(status.st_size)
        modified = [status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec]
    }
}
