internal import WorkerProtocol

/// A folder, and whether a path is in it. Landlock says the same where the kernel has it.
struct SubtreePath {
    let root: String

    init(_ path: String) {
        root = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    }

    /// - Throws: `WorkerError` with code `failed` where the path is not the folder or below it.
    func checked(_ path: String) throws -> String {
        let isBelow = path == root || path.hasPrefix(root + "/")
        guard isBelow, !path.split(separator: "/").contains("..") else {
            throw WorkerError(.failed, "a path of the request is outside of the worker's folders")
        }
        return path
    }
}
