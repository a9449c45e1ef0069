import ArgumentParser
import Foundation
import Logging
import WorkerProtocol

/// Where the configuration is, and what a caller wants otherwise than it says.
struct ConfigurationOptions: ParsableArguments {
    @Option(name: .long, help: "The configuration file.")
    var config = "/etc/ichnode/ichnode.yaml"

    @Option(name: .long, help: "Folder for spool, results and ledger, instead of node.data_directory.")
    var dataDirectory: String?

    @Option(name: .long, help: "Folder for the control socket, instead of node.run_directory.")
    var runDirectory: String?

    @Option(name: .long, help: "Model package, instead of node.model.")
    var model: String?

    func load() throws -> NodeConfiguration {
        var configuration = try ConfigurationReader.read(path: config)
        if let dataDirectory { configuration.node.dataDirectory = dataDirectory }
        if let runDirectory { configuration.node.runDirectory = runDirectory }
        if let model { configuration.node.model = model }
        return configuration
    }
}

extension Logger {
    /// To standard error, where the journal reads it.
    static func node(level: String) -> Logger {
        let level = Logger.Level(rawValue: level) ?? .info
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
        return Logger(label: "ichnode")
    }
}
