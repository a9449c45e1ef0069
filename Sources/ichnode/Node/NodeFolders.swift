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
    var installationFile: URL { data.appendingPathComponent("installation-id") }
    /// There while a back-up is restored: what lies beside it is no data directory yet.
    var restoring: URL { data.appendingPathComponent("restore.part") }

    /// Makes nothing.
    init(of configuration: NodeConfiguration) {
        data = URL(fileURLWithPath: configuration.node.dataDirectory).standardizedFileURL
    }

    /// Makes what is missing.
    init(_ configuration: NodeConfiguration) throws {
        self.init(of: configuration)
        try requireWhole()
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

    /// - Throws: where a restore did not end.
    func requireWhole() throws {
        guard FileManager.default.fileExists(atPath: restoring.path) else { return }
        throw CommandFailure(
            .configuration, "a restore into \(data.path) is under way, or did not end: run `ichnode restore` once more")
    }

    /// Names this installation in derived UIDs: drawn once, kept for ever.
    /// - Throws: where it is there and cannot be read; another name would give every result another UID.
    func installation() throws -> String {
        let file = installationFile
        if let name = try knownInstallation() { return name }
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

    /// nil before it is drawn.
    func knownInstallation() throws -> String? {
        let file = installationFile
        guard FileManager.default.fileExists(atPath: file.path) else { return nil }
        let name = try String(contentsOf: file, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        guard !name.isEmpty else {
            throw CommandFailure(.configuration, "\(file.path) is empty: restore it from a back-up")
        }
        return name
    }
}
