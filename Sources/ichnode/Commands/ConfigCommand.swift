import ArgumentParser
import Foundation
import WorkerProtocol
import Yams

struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Look at configuration files, and have the node read its own again.",
        subcommands: [Check.self, Reload.self])

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read a configuration file and say what is wrong with it, line by line.",
            discussion: """
                Also reads the certificates, keys, issuers and secrets that it names. Exit code 0 when all is well, 78 \
                when something has to be changed.
                """)

        @Argument(help: "The file.")
        var file = "/etc/ichnode/ichnode.yaml"

        func run() async throws {
            try await Terminal.run {
                let configuration = try ConfigurationReader.read(path: file)
                let examination = try await ConfigurationExamination(configuration)
                for text in examination.warnings { Terminal.complain("\(file): warning: \(text)") }
                let problems = examination.problems.map { "\(file): \($0)" }
                if !problems.isEmpty { throw CommandFailure(.configuration, problems.joined(separator: "\n")) }
                Terminal.say(
                    "\(file): good. AE title \(configuration.node.aeTitle), \(Self.ports(configuration)), "
                        + "peers: \(configuration.peers.count), routes: \(configuration.routes.count).")
            }
        }

        private static func ports(_ configuration: NodeConfiguration) -> String {
            [configuration.dicom.port.map { "port \($0)" }, configuration.tls.map { "TLS port \($0.port)" }]
                .compactMap { $0 }.joined(separator: ", ")
        }
    }

    struct Reload: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Have the running node read its configuration file again.",
            discussion: """
                Says what has changed, and what will at the next start only. A file with anything wrong in it changes \
                nothing, and the exit code is 1. Studies, associations and deliveries under way go on.
                """)

        @Option(
            name: .long,
            help: "Where node.run_directory is looked up; the node reads the file that it was started with.")
        var config = "/etc/ichnode/ichnode.yaml"

        @Option(name: .long, help: "The node's run directory, instead of node.run_directory.")
        var runDirectory: String?

        func run() async throws {
            try await Terminal.run {
                let response = try ControlClient.ask(
                    .reloadConfiguration, runDirectory: runDirectory ?? Self.runDirectory(in: config))
                guard case .reloaded(let reload) = response else { return }
                for warning in reload.warnings { Terminal.complain("warning: \(warning)") }
                for change in reload.changes { Terminal.say("\(change)") }
                Terminal.say(
                    reload.changes.isEmpty ? "the file says what is in force already" : "the file is in force")
            }
        }

        /// Also of a file in which something else is wrong: what that is has the node to say.
        private static func runDirectory(in file: String) -> String {
            let text = FileManager.default.contents(atPath: file).map { String(decoding: $0, as: UTF8.self) }
            let root = text.flatMap { try? Yams.compose(yaml: $0) }
            return root?["node"]?["run_directory"]?.string ?? "/run/ichnode"
        }
    }
}
