import CLinux
import Foundation
import Glibc
import StoreSCP
import WorkerProtocol

/// Whether the node's user may write where the node writes. Tried, not read off; nothing that is made stays.
struct FolderChecks {
    /// Study folders that are looked at; those of an archive's migration are many.
    private static let mostFolders = 5000

    private let node: NodeConfiguration.Node
    private let hasAudit: Bool
    private let folders: NodeFolders

    init(_ configuration: NodeConfiguration) {
        node = configuration.node
        hasAudit = configuration.audit.isEnabled
        folders = NodeFolders(of: configuration)
    }

    func examine() -> [SetupFinding] {
        guard FileManager.default.fileExists(atPath: folders.data.path) else {
            return [absent(.folderData, "data directory", folders.data.path)] + run()
        }
        let spool = folders.spool
        var findings = folder(.folderData, "data directory", [folders.data.path])
        if findings.allSatisfy({ $0.level != .bad }) {
            findings += folder(.folderSpool, "spool", [spool.root.path, spool.incoming.path, spool.studies.path])
            findings += studies(spool.studies.path)
            findings += folder(.folderResults, "results folder", [folders.results.path])
            if hasAudit { findings += folder(.folderAudit, "audit trail's folder", [folders.audit.path]) }
            findings += files()
        }
        return findings + run()
    }

    private func run() -> [SetupFinding] {
        let found = folder(.folderRun, "run directory", [node.runDirectory])
        return found.isEmpty ? [absent(.folderRun, "run directory", node.runDirectory)] : found
    }

    /// A folder and those within it that exist already: the node makes what is missing.
    private func folder(_ check: Check, _ name: String, _ paths: [String]) -> [SetupFinding] {
        let present = paths.filter { FileManager.default.fileExists(atPath: $0) }
        guard let first = present.first else { return [] }
        let troubles = present.compactMap { trouble(check, name, $0) }
        if !troubles.isEmpty { return troubles }
        var found: [SetupFinding] = [.good(check, first, "\(name) \(first) is writable")]
        if check == .folderData, let owner = Owner(of: first), owner.mode & 0o007 != 0 {
            let mode = String(owner.mode, radix: 8)
            let text = "\(name) \(first), with patients' images, is open to everybody on this machine (mode \(mode))"
            found.append(.warning(check, first, text, "chmod 750 \(first)"))
        }
        return found
    }

    private func trouble(_ check: Check, _ name: String, _ path: String) -> SetupFinding? {
        guard clinux_try_write(path) != 0 else { return nil }
        let (number, reason) = (errno, Errno.text)
        switch number {
        case EACCES, EPERM:
            return .bad(
                check, path, "\(name) \(path) is not writable for \(me): it \(words(path))",
                "chown -R \(me): \(path)")
        case ENOSPC, EDQUOT:
            return .bad(.diskWrite, path, "nothing can be written to \(path) (\(reason))", "make room there")
        case EROFS:
            return .bad(
                .diskWrite, path, "\(path) is on a file system that is read-only",
                "see the kernel's log (dmesg) for why")
        default:
            return .bad(check, path, "nothing can be written to \(name) \(path) (\(reason))", "see the disk")
        }
    }

    /// "belongs to root (mode 755)".
    private func words(_ path: String) -> String {
        Owner(of: path).map { "belongs to \(NodeUser.name($0.user)) (mode \(String($0.mode, radix: 8)))" }
            ?? "is hidden"
    }

    private var me: String { NodeUser.name(geteuid()) }

    private func studies(_ path: String) -> [SetupFinding] {
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: path) else { return [] }
        let looked: [String] = names.prefix(Self.mostFolders).map { path + "/" + $0 }
        let closed = looked.filter { access($0, W_OK | X_OK) != 0 }
        guard let first = closed.first else { return [] }
        let text = "\(closed.count) study folders of the spool are not writable for \(me): one \(words(first))"
        return [.bad(.folderSpool, first, text, "chown -R \(me): \(path)")]
    }

    /// Left by whoever ran the node, or restored a back-up, as root.
    private func files() -> [SetupFinding] {
        let ledger = ["", "-wal", "-shm"].map { (Check.ledger, folders.ledger.path + $0) }
        let others = [
            (Check.folderSpool, folders.spool.root.path + "/lock"), (.folderAudit, folders.audit.path + "/audit.log"),
            (.folderData, folders.data.path + "/installation-id"),
        ]
        let present = (ledger + others).filter { FileManager.default.fileExists(atPath: $0.1) }
        let closed = present.filter { access($0.1, R_OK | W_OK) != 0 }.map { check, path in
            SetupFinding.bad(
                check, path, "\(path) is not writable for \(me): it \(words(path))",
                "chown \(me): \(path)")
        }
        return closed
    }

    /// Creates nothing: made by root, a folder would be closed to the node.
    private func absent(_ check: Check, _ name: String, _ path: String) -> SetupFinding {
        if access(path, F_OK) != 0, errno == EACCES {
            return .bad(
                check, path, "\(name) \(path) is out of reach for \(me): a folder above it is closed",
                "chmod a+x the folders above it")
        }
        let parent = URL(fileURLWithPath: path).deletingLastPathComponent().path
        if access(parent, W_OK | X_OK) == 0 {
            return .good(check, path, "\(name) \(path) will be made at the first start")
        }
        if path == Self.unitFolders[check], Self.hasUnit {
            return .good(check, path, "\(name) \(path) is made by the unit at the start")
        }
        return .bad(
            check, path, "\(name) \(path) does not exist, and \(me) may not make it",
            "install -d -m 750 -o \(me) \(path)")
    }

    /// StateDirectory= and RuntimeDirectory= of systemd/ichnode.service.
    private static let unitFolders: [Check: String] = [.folderData: "/var/lib/ichnode", .folderRun: "/run/ichnode"]
    private static var hasUnit: Bool {
        ["/etc/systemd/system", "/usr/lib/systemd/system"]
            .contains { FileManager.default.fileExists(atPath: $0 + "/ichnode.service") }
    }
}
