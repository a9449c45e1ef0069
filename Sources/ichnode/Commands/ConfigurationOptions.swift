import ArgumentParser
import Foundation
import Logging
import WorkerProtocol

/// Where the configuration is, and what a caller wants otherwise than it says.
struct ConfigurationOptions: ParsableArguments {
    /// Of the package.
    static let installedFile = "/etc/ichnode/ichnode.yaml"

    @Option(name: .long, help: "The configuration file.")
    var config = installedFile

    @Option(name: .long, help: "Folder for spool, results and ledger, instead of node.data_directory.")
    var dataDirectory: String?

    @Option(name: .long, help: "Folder for the control socket, instead of node.run_directory.")
    var runDirectory: String?

    @Option(name: .long, help: "Model package, instead of node.model.")
    var model: String?

    func load() throws -> NodeConfiguration { try loadWithSource().configuration }

    /// Also where each setting comes from.
    func loadWithSource() throws -> (configuration: NodeConfiguration, source: ConfigurationSource) {
        let overrides: [(String, String?)] = [
            ("data_directory", dataDirectory), ("run_directory", runDirectory), ("model", model),
        ]
        let options = overrides.compactMap { key, value in value.map { (key, $0) } }
        let file = try ConfigurationFile(config, options: Dictionary(uniqueKeysWithValues: options))
        return (file.configuration, file.source)
    }

    func applied(to configuration: NodeConfiguration) -> NodeConfiguration {
        var configuration = configuration
        if let dataDirectory { configuration.node.dataDirectory = dataDirectory }
        if let runDirectory { configuration.node.runDirectory = runDirectory }
        if let model { configuration.node.model = model }
        return configuration
    }
}

extension Logger {
    /// To standard error, where the journal reads it.
    /// - Parameter ring: also keeps warnings and errors.
    static func node(level: String, keepingIn ring: LogRing? = nil) -> Logger {
        LogLevel.change(to: level)
        LoggingSystem.bootstrap { label in
            LevelledLogHandler(StreamLogHandler.standardError(label: label), ring: ring)
        }
        return Logger(label: "ichnode")
    }
}
