import ArgumentParser
import WorkerProtocol

struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Look at configuration files.", subcommands: [Check.self])

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
                try await check(configuration.keyMaterials)
                let problems = AlertDestinations.problems(configuration).map { "\(file): \($0.text)" }
                if !problems.isEmpty { throw CommandFailure(.configuration, problems.joined(separator: "\n")) }
                Terminal.say(
                    "\(file): good. AE title \(configuration.node.aeTitle), \(Self.ports(configuration)), "
                        + "\(configuration.peers.count) peers, \(configuration.routes.count) routes.")
            }
        }

        private func check(_ materials: [NodeConfiguration.KeyMaterial]) async throws {
            let findings = try await CertificateWatch.examine(materials).findings
            for each in findings where each.level == .warning { Terminal.complain("\(file): warning: \(each.text)") }
            let bad = findings.filter { $0.level == .bad || $0.level == .unusable }
            guard bad.isEmpty else {
                throw CommandFailure(.configuration, bad.map { "\(file): \($0.text)" }.joined(separator: "\n"))
            }
        }

        private static func ports(_ configuration: NodeConfiguration) -> String {
            [configuration.dicom.port.map { "port \($0)" }, configuration.tls.map { "TLS port \($0.port)" }]
                .compactMap { $0 }.joined(separator: ", ")
        }
    }
}
