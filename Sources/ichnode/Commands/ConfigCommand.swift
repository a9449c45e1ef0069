import ArgumentParser

struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Look at configuration files.", subcommands: [Check.self])

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read a configuration file and say what is wrong with it, line by line.",
            discussion: "Exit code 0 when the node would start with it, 78 when not.")

        @Argument(help: "The file.")
        var file = "/etc/ichnode/ichnode.yaml"

        func run() async throws {
            try await Terminal.run {
                let configuration = try ConfigurationReader.read(path: file)
                Terminal.say(
                    "\(file): good. AE title \(configuration.node.aeTitle), port \(configuration.dicom.port), "
                        + "\(configuration.peers.count) peers, \(configuration.routes.count) routes.")
            }
        }
    }
}
