import ArgumentParser
import Console
import Foundation
import Logging
import WorkerProtocol

struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Check that the node could work here, and say what to change.",
        discussion: """
            Looks at the configuration, folders, disk, model, certificates, at every peer and receiver, at clock, \
            kernel and ports, and at the node where it runs. It changes nothing, and sends no image and no message. \
            Run as root, it looks with the rights of the node's user.

            Each line begins with good, warn or BAD. Exit code 0 when nothing is bad, 78 when something has to be \
            changed.
            """)

    @OptionGroup var options: ConfigurationOptions

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    func run() async throws {
        try await Terminal.run {
            let logger = Logger.node(level: "critical")
            let findings = await examine(logger)
            if json {
                Terminal.say(try JSONText.of(DoctorReport(configuration: options.config, findings: findings)))
            } else {
                for finding in findings { Terminal.say(finding.line) }
            }
            let bad = findings.count { $0.level == .bad }
            if bad > 0 {
                throw CommandFailure(.configuration, "\(bad) of \(findings.count) checks found something to change")
            }
        }
    }

    /// What is wrong with the file hides the rest only where nothing can be read of it.
    private func examine(_ logger: Logger) async -> [SetupFinding] {
        let file = options.config
        var (findings, configuration): ([SetupFinding], NodeConfiguration?) = ([], nil)
        do {
            configuration = try options.load()
            findings = [.good(.configuration, file, "\(file) is a configuration")]
        } catch let error as ConfigurationError {
            findings = error.problems.sorted { $0.line < $1.line }.map {
                .bad(.configuration, "\(file):\($0.line)", "\(file):\($0.line): \($0.text)")
            }
            configuration = error.remainder.map(options.applied(to:))
        } catch { findings = [.bad(.configuration, file, "\(file): \(error)")] }
        guard let configuration else { return findings }
        let node = configuration.node
        // The look-up alone: who it is must not change later on.
        let owners: [Owner]? = await bounded(seconds: Doctor.localSeconds, otherwise: nil) {
            [Owner(of: node.dataDirectory)].compactMap { $0 }
        }
        let isInstalled = file == ConfigurationOptions.installedFile
        let user =
            owners.map { NodeUser.assume(owner: $0.first, of: node.dataDirectory, isInstalled: isInstalled) }
            ?? Doctor.tooLong(.user, "the data directory's owner")
        findings.append(user)
        findings += secrets(configuration)
        let running = await bounded(seconds: 15, otherwise: nil) {
            let text = try? ConfigurationReader.text(path: file)
            return RunningNode(
                runDirectory: node.runDirectory, file: file, digest: text.map { SHA256Digest.hex(of: [$0]) })
        }
        findings += await Doctor(configuration: configuration, logger: logger, isNodeUser: user.level != .bad)
            .examine(running: running)
        return findings
            + (running?.findings ?? [RunningNode.silent(node.runDirectory, "it has 15 s for it")])
    }

    /// Hashes of passwords can be guessed at leisure.
    private func secrets(_ configuration: NodeConfiguration) -> [SetupFinding] {
        let file = options.config
        guard FileManager.default.isReadableFile(atPath: file), let owner = Owner(of: file) else {
            return [
                .bad(
                    .configuration, file, "\(file) cannot be read by \(NodeUser.name(geteuid()))",
                    "chgrp it to the node's group, chmod 640")
            ]
        }
        guard !configuration.console.users.isEmpty, owner.mode & 0o007 != 0 else { return [] }
        let mode = String(owner.mode, radix: 8)
        let text = "\(file) holds hashes of passwords and is open to others (mode \(mode))"
        return [.warning(.configurationSecrets, file, text, "chmod 640, with the node's group")]
    }
}
