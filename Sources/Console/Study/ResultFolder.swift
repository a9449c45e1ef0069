public import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// Where the node's result files lie, and what reports among them say.
public struct ResultFolder: Sendable {
    /// Nothing outside of it is handed out.
    public var path: String
    /// The content of a Structured Report, from its file.
    public var document: @Sendable (_ path: String) async throws -> ReportDocument

    public init(path: String, document: @escaping @Sendable (_ path: String) async throws -> ReportDocument) {
        self.path = path
        self.document = document
    }

    /// - Returns: the path without links, where the file is there and in the folder; else nil.
    func checked(_ file: String) -> String? {
        guard let folder = Self.real(path), let real = Self.real(file), real.hasPrefix(folder + "/") else {
            return nil
        }
        return real
    }

    private static func real(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}
