internal import CLinux
public import WorkerProtocol

/// Makes names in a folder survive a power cut.
public enum DurableFolder {
    /// fsync of the folder.
    public static func sync(_ path: String) throws(WorkerError) {
        guard clinux_sync_directory(path) == 0 else { throw WorkerError(.system, "fsync \(path): \(Errno.text)") }
    }
}
