import AlertDispatcher
import ArgumentParser
import Console
import Foundation
import ICHModel
import Logging
import StoreSCP
import WorkerProtocol

struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Check that the node could work here, and say what to change.",
        discussion: "Exit code 0 when all is well, 78 when something has to be changed.")

    @OptionGroup var options: ConfigurationOptions

    func run() async throws {
        try await Terminal.run {
            let configuration = try options.load()
            let logger = Logger.node(level: "error")
            let findings = await Doctor(configuration, logger: logger).examine() + secrets(configuration)
            for finding in findings {
                Terminal.say("\(finding.isWarning ? "warn" : finding.isGood ? "good" : "BAD ")  \(finding.text)")
            }
            let bad = findings.count { !$0.isGood }
            if bad > 0 {
                throw CommandFailure(.configuration, "\(bad) of \(findings.count) checks found something to change")
            }
        }
    }
}

extension DoctorCommand {
    /// Hashes of passwords can be guessed at leisure.
    private func secrets(_ configuration: NodeConfiguration) -> [Doctor.Finding] {
        guard !configuration.console.users.isEmpty,
            let attributes = try? FileManager.default.attributesOfItem(atPath: options.config),
            let mode = attributes[.posixPermissions] as? Int, mode & 0o007 != 0
        else { return [] }
        return [
            .init(
                isGood: true, isWarning: true,
                text: "\(options.config) holds hashes of passwords and is open to others (mode "
                    + "\(String(mode, radix: 8))): chmod 640, with the node's group")
        ]
    }
}

/// Checks of the set-up.
struct Doctor {
    struct Finding {
        var isGood: Bool
        /// Good for now.
        var isWarning = false
        var text: String
    }

    private let configuration: NodeConfiguration
    private let logger: Logger

    init(_ configuration: NodeConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    func examine() async -> [Finding] {
        let node = configuration.node
        var findings = [
            folder(node.dataDirectory, "data directory"), folder(node.runDirectory, "run directory"), freeSpace(),
        ]
        findings.append(await model())
        findings += await certificates()
        findings += AlertDestinations.problems(configuration).map { Finding(isGood: false, text: $0) }
        for peer in configuration.peers { findings += await examine(peer) }
        return findings
    }

    /// Creates nothing: made by root, a folder would be closed to the node.
    private func folder(_ path: String, _ name: String) -> Finding {
        let manager = FileManager.default
        let parent = URL(fileURLWithPath: path).deletingLastPathComponent().path
        if manager.fileExists(atPath: path) {
            return manager.isWritableFile(atPath: path)
                ? Finding(isGood: true, text: "\(name) \(path) is writable")
                : Finding(isGood: false, text: "\(name) \(path) is not writable: give it to the node's user")
        }
        return manager.isWritableFile(atPath: parent)
            ? Finding(isGood: true, text: "\(name) \(path) will be made at the first start")
            : Finding(isGood: false, text: "\(name) \(path) does not exist: make it, and give it to the node's user")
    }

    private func freeSpace() -> Finding {
        do {
            let free = try DiskSpace.freeBytes(at: existing(configuration.node.dataDirectory))
            let gibibytes = Double(free) / Double(1 << 30)
            return Finding(
                isGood: gibibytes >= 2,
                text: String(
                    format: "%.1f GiB free in the data directory%@", gibibytes, gibibytes < 2 ? ": make room" : ""))
        } catch { return Finding(isGood: false, text: "free space of the data directory cannot be read: \(error)") }
    }

    /// The nearest folder above that exists.
    private func existing(_ path: String) -> String {
        var url = URL(fileURLWithPath: path)
        while !FileManager.default.fileExists(atPath: url.path) && url.path != "/" { url.deleteLastPathComponent() }
        return url.path
    }

    private func model() async -> Finding {
        do {
            let package = try ModelPackage(directory: configuration.node.model)
            for route in configuration.routes { _ = try package.operatingPoint(route.threshold) }
            let engine = InferenceChild(package: package, executable: WorkerProgram.beside("ichnode"), logger: logger)
            try await engine.prepare()
            await engine.stop()
            return Finding(isGood: true, text: "model \(package.name) \(package.version) loads")
        } catch { return Finding(isGood: false, text: "model \(configuration.node.model) does not load: \(error)") }
    }

    private func certificates() async -> [Finding] {
        do {
            return try await CertificateWatch.examine(configuration.keyMaterials).findings.map { finding in
                Finding(
                    isGood: finding.level == .good || finding.level == .warning,
                    isWarning: finding.level == .warning, text: finding.text)
            }
        } catch { return [Finding(isGood: false, text: "certificates cannot be checked: \(error)")] }
    }

    // MARK: Peers

    private func examine(_ peer: NodeConfiguration.Peer) async -> [Finding] {
        let remote = peer.remote
        let name = "peer \(peer.name) (\(remote.aeTitle) at \(remote.host) port \(remote.port))"
        let programs = WorkerPrograms(
            spool: URL(fileURLWithPath: configuration.node.dataDirectory),
            results: URL(fileURLWithPath: configuration.node.dataDirectory))
        let needs = configuration.needs(of: peer)
        let reports = ReportClass.allCases.map(\.sopClassUID)
        let wanted = needs.map(\.sopClass)
        let others = Set(wanted).isDisjoint(with: reports) ? [] : reports.filter { !wanted.contains($0) }
        let job = EchoJob(
            peer: remote, callingAETitle: peer.callingAETitle, sopClasses: wanted + others, timeoutSeconds: 5)
        var findings: [Finding] = []
        do {
            for event in try await SendClient(program: programs.echo, deadline: .seconds(15)).run(.echo(job)) {
                switch event {
                case .echoed(0, let milliseconds):
                    findings.append(
                        Finding(isGood: true, text: "\(name) answers C-ECHO in \(Int(milliseconds)) ms"))
                case .echoed(let status, _):
                    findings.append(
                        Finding(
                            isGood: false, text: "\(name) answers C-ECHO with status 0x\(String(status, radix: 16))"))
                case .refused(let refused):
                    let other = reports.first { !refused.contains($0) }
                    findings += needs.filter { refused.contains($0.sopClass) }.map { need in
                        // The outbox sends the report in a class that is accepted.
                        let isReplaced = reports.contains(need.sopClass) && other != nil
                        return Finding(
                            isGood: isReplaced, isWarning: isReplaced,
                            text: "peer \(peer.name) accepts no \(need.name): \(need.advice)")
                    }
                case .failed(let failure): findings.append(Finding(isGood: false, text: "\(name): \(failure.reason)"))
                default: break
                }
            }
            return findings.isEmpty ? [Finding(isGood: false, text: "\(name) gave no answer to C-ECHO")] : findings
        } catch { return [Finding(isGood: false, text: "\(name): \(error)")] }
    }
}

extension NodeConfiguration {
    /// A SOP class that a peer has to accept.
    struct Need: Equatable {
        var sopClass: UID
        var name: String
        /// What to change where it does not.
        var advice: String
    }

    /// What the configuration wants of a peer, each once.
    func needs(of peer: Peer) -> [Need] {
        let senders = peers.filter { $0.fallback == peer.name }.map(\.name) + [peer.name]
        var needs: [Need] = []
        for route in routes {
            if !Set(route.destinations).isDisjoint(with: senders) {
                needs.append(
                    Need(
                        sopClass: route.reportClass.sopClassUID, name: route.reportClass.title,
                        advice: "allow it there, or change sr_class of the route \(route.name)"))
                needs.append(
                    Need(
                        sopClass: UID(literal: "1.2.840.10008.5.1.4.1.1.7"), name: "Secondary Capture Image Storage",
                        advice: "allow it there; without it no heatmap arrives"))
                if route.keyObjects {
                    needs.append(
                        Need(
                            sopClass: UID(literal: "1.2.840.10008.5.1.4.1.1.88.59"),
                            name: "Key Object Selection Document Storage",
                            advice: "allow it there, or set key_objects: false in the route \(route.name)"))
                }
            }
            if route.countsFrom == peer.name {
                needs.append(
                    Need(
                        sopClass: UID(literal: "1.2.840.10008.5.1.4.1.2.2.1"), name: "Study Root query (C-FIND)",
                        advice: "allow it there, or set counts_from: none in the route \(route.name)"))
            }
            if route.retrieveFrom == peer.name {
                needs.append(
                    Need(
                        sopClass: UID(literal: "1.2.840.10008.5.1.4.1.2.2.2"), name: "Study Root retrieval (C-MOVE)",
                        advice: "allow it there, or set retrieve_from: none in the route \(route.name)"))
            }
        }
        if peer.commitment == .required {
            needs.append(
                Need(
                    sopClass: UID(literal: "1.2.840.10008.1.20.1"), name: "storage commitment",
                    advice: "switch it on there, or set commitment: none for this peer"))
        }
        return needs.reduce(into: []) { found, need in
            if !found.contains(where: { $0.sopClass == need.sopClass }) { found.append(need) }
        }
    }
}
