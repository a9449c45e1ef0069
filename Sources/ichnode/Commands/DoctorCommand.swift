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
        let data = URL(fileURLWithPath: configuration.node.dataDirectory)
        let peers = PeerExamination(configuration, echo: WorkerPrograms(spool: data, results: data).echo)
        for peer in configuration.peers { findings += await peers.examine(peer) }
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
}
