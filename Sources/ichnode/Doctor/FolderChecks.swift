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
        if case .absent = Presence(of: folders.data.path) {
            return [absent(.folderData, "data directory", folders.data.path)] + run()
        }
        let spool = folders.spool
        var findings = folder(.folderData, "data directory", [folders.data.path])
        if findings.allSatisfy({ $0.level != .bad }) {
            findings += folder(.folderSpool, "spool", [spool.root.path, spool.incoming.path, spool.studies.path])
            findings += studies(spool.studies.path)
            findings += folder(.folderResults, "results folder", [folders.results.path])
            if hasAudit { findings += folder(.folderAudit, "audit trail's folder", [folders.audit.path]) }
            findings += files() + refusals()
        }
        return findings + run()
    }

    private func run() -> [SetupFinding] {
        let found = folder(.folderRun, "run directory", [node.runDirectory])
        return found.isEmpty ? [absent(.folderRun, "run directory", node.runDirectory)] : found
    }

    /// A folder and those within it that exist already: the node makes what is missing.
    private func folder(_ check: Check, _ name: String, _ paths: [String]) -> [SetupFinding] {
        let present = paths.filter { Presence(of: $0) != .absent }
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
        switch Presence(of: path) {
        case .linkToNothing:
            return .bad(
                check, path, "\(name) \(path) is a link to nothing", "mount or make what it names, or remove the link")
        case .hidden(EACCES):
            return .bad(
                check, path, "\(name) \(path) is out of reach for \(me): a folder above it is closed",
                "chmod a+x the folders above it")
        case .hidden(let number):
            return .bad(
                check, path, "\(name) \(path) cannot be looked at (\(Errno.text(of: number)))",
                "see the disk, or the file system of the network")
        case .there, .absent: break
        }
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
        let present = (ledger + others).filter { Presence(of: $0.1) != .absent }
        return present.compactMap { check, path -> SetupFinding? in
            guard access(path, R_OK | W_OK) != 0 else { return nil }
            let number = errno
            guard number == EACCES || number == EPERM else {
                return .bad(check, path, "\(path) cannot be used (\(Errno.text(of: number)))")
            }
            return .bad(
                check, path, "\(path) is not writable for \(me): it \(words(path))",
                "chown \(me): \(path)")
        }
    }

    /// Why the node would not start here, in its own words.
    private func refusals() -> [SetupFinding] {
        var findings: [SetupFinding] = []
        do { try folders.requireWhole() } catch { findings.append(.bad(.folderData, folders.data.path, "\(error)")) }
        let file = folders.installationFile.path
        // Where it cannot be read, that is said already.
        guard access(file, R_OK) == 0 else { return findings }
        do { _ = try folders.knownInstallation() } catch { findings.append(.bad(.folderData, file, "\(error)")) }
        return findings
    }

    /// Creates nothing: made by root, a folder would be closed to the node.
    private func absent(_ check: Check, _ name: String, _ path: String) -> SetupFinding {
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

/// What there is of a path.
private enum Presence: Equatable {
    case there
    case absent
    /// Symbolic.
    case linkToNothing
    /// Whether it is there cannot be seen: errno.
    case hidden(Int32)

    init(of path: String) {
        guard access(path, F_OK) != 0 else {
            self = .there
            return
        }
        let number = errno
        guard number == ENOENT else {
            self = .hidden(number)
            return
        }
        var status = clinux_file_status()
        self = clinux_status_of_path(path, &status) == 0 ? .linkToNothing : .absent
    }
}
