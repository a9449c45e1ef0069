import Foundation
import Glibc
import Ledger
import WorkerProtocol

/// The node that runs here, as it answers on its control socket.
struct RunningNode {
    private static let patienceSeconds = 5
    private static let mostAlerts = 50

    /// nil where none answers.
    private(set) var standing: NodeStanding?
    /// Ports that it holds; nil where that cannot be known.
    private(set) var ports: [Int]?
    private(set) var findings: [SetupFinding] = []

    /// - Parameters:
    ///   - file: of the configuration that is looked at.
    ///   - digest: of its text; nil where it cannot be read.
    init(runDirectory: String, file: String, digest: String?) {
        let path = ControlServer.path(runDirectory: runDirectory)
        switch Self.connectError(path) {
        case 0: break
        case ENOENT, ENOTDIR, ECONNREFUSED:
            ports = []
            findings = [.good(.nodeRunning, path, "no node runs")]
            return
        case let error:
            findings = [
                .warning(
                    .nodeRunning, path, "whether a node runs cannot be seen (\(String(cString: strerror(error))))",
                    "run it as root, or as the node's user")
            ]
            return
        }
        do {
            guard case .node(let standing) = try Self.ask(.showNode, runDirectory) else {
                throw CommandFailure(.unavailable, "its answer is another than was asked for")
            }
            self.standing = standing
            ports = standing.ports
            findings = [.good(.nodeRunning, path, "the node runs (process \(standing.processID))")]
            findings += [version(standing), configuration(standing, file, digest)]
            findings += try Self.alerts(runDirectory)
        } catch {
            findings.removeAll { $0.check == .nodeRunning }
            findings.append(Self.silent(path, "\(error)"))
        }
    }

    static func silent(_ path: String, _ reason: String) -> SetupFinding {
        .bad(
            .nodeRunning, path, "a node runs, and does not answer (\(reason))",
            "if it has just been started, look again in a minute; else it hangs, or is of another version: "
                + "systemctl restart ichnode")
    }

    private static func ask(_ request: ControlRequest, _ runDirectory: String) throws -> ControlResponse {
        try ControlClient.ask(request, runDirectory: runDirectory, patienceSeconds: patienceSeconds)
    }

    /// 0 where somebody listens.
    private static func connectError(_ path: String) -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        return UnixAddress.with(path) { connect(descriptor, $0, $1) } == 0 ? 0 : errno
    }

    /// Also a package that was upgraded without a restart: then the program of the process is no longer there.
    private func version(_ standing: NodeStanding) -> SetupFinding {
        let program =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(standing.processID)/exe")) ?? ""
        guard standing.version == NodeVersion.string, !program.hasSuffix(" (deleted)") else {
            let text =
                "the running node is version \(standing.version) of a program that was replaced since it started; "
                + "this is \(NodeVersion.string)"
            return .warning(.nodeVersion, standing.version, text, "systemctl restart ichnode")
        }
        return .good(.nodeVersion, standing.version, "the running node is of this version, \(standing.version)")
    }

    private func configuration(_ standing: NodeStanding, _ file: String, _ digest: String?) -> SetupFinding {
        let known = standing.configurationFile
        if standing.configurationDigest == digest {
            let pending = standing.pendingKeys ?? []
            return pending.isEmpty
                ? .good(.nodeConfiguration, known, "the running node has this configuration")
                : .warning(
                    .nodeConfiguration, known,
                    "the running node has this configuration, except for \(pending.joined(separator: ", "))",
                    "restart to bring them into force: systemctl restart ichnode")
        }
        let asked = URL(fileURLWithPath: file).standardizedFileURL.path
        return known == asked
            ? .warning(
                .nodeConfiguration, known, "\(known) has changed since the running node read it",
                "systemctl reload ichnode")
            : .warning(
                .nodeConfiguration, known, "the running node has another configuration, \(known)",
                "--config \(known), or restart the node with this one")
    }

    private static func alerts(_ runDirectory: String) throws -> [SetupFinding] {
        let request = ControlRequest.listOperatorAlerts(all: false, limit: mostAlerts)
        guard case .operatorAlerts(let open) = try ask(request, runDirectory) else {
            throw CommandFailure(.unavailable, "its answer is another than was asked for")
        }
        guard !open.isEmpty else { return [.good(.alerts, "node", "no alert is open")] }
        return open.map {
            .warning(.alerts, $0.subject, "open alert, \($0.kind.rawValue): \($0.text)", "`ichnode alerts`")
        }
    }
}
