internal import CLinux
public import WorkerProtocol

/// Room on the file system that holds a path.
public enum DiskSpace {
    /// What an unprivileged process may still use, bytes.
    public static func freeBytes(at path: String) throws(WorkerError) -> UInt64 { try bytes(at: path).free }

    /// Free ones, and all.
    public static func bytes(at path: String) throws(WorkerError) -> (free: UInt64, total: UInt64) {
        var (free, total): (UInt64, UInt64) = (0, 0)
        guard clinux_disk_space(path, &free, &total) == 0 else {
            throw WorkerError(.system, "statvfs \(path): \(Errno.text)")
        }
        return (free, total)
    }
}
