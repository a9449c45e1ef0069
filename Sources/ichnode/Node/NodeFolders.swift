import Foundation
import StoreSCP
import WorkerProtocol

/// Where things lie below the data directory.
struct NodeFolders {
    let data: URL
    var spool: Spool { Spool(root: data.appendingPathComponent("spool")) }
    var results: URL { data.appendingPathComponent("results") }
    var audit: URL { data.appendingPathComponent("audit") }
    var ledger: URL { data.appendingPathComponent("ledger.sqlite") }

    /// Makes nothing.
    init(existing configuration: NodeConfiguration) {
        data = URL(fileURLWithPath: configuration.node.dataDirectory).standardizedFileURL
    }

    /// Makes what is missing.
    init(_ configuration: NodeConfiguration) throws {
        self.init(existing: configuration)
        for folder in [data, results, URL(fileURLWithPath: configuration.node.runDirectory)] {
            do {
                try FileManager.default.createDirectory(
                    at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
            } catch {
                throw CommandFailure(
                    .configuration, "cannot make \(folder.path): create it and make it writable for the node's user")
            }
        }
    }

    /// Names this installation in derived UIDs: drawn once, kept for ever.
    /// - Throws: where it is there and cannot be read; another name would give every result another UID.
    func installation() throws -> String {
        let file = data.appendingPathComponent("installation-id")
        if FileManager.default.fileExists(atPath: file.path) {
            let name = try String(contentsOf: file, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
            guard !name.isEmpty else {
                throw CommandFailure(.configuration, "\(file.path) is empty: restore it from a back-up")
            }
            return name
        }
        let name = UUID().uuidString.lowercased()
        let draft = data.appendingPathComponent("installation-id.new")
        try Data((name + "\n").utf8).write(to: draft)
        let handle = try FileHandle(forWritingTo: draft)
        try handle.synchronize()
        try handle.close()
        try FileManager.default.moveItem(at: draft, to: file)
        try DurableFolder.sync(data.path)
        return name
    }
}
