import Foundation

/// A configuration file as it was read once.
struct ConfigurationFile {
    let configuration: NodeConfiguration
    let source: ConfigurationSource
    private let text: String

    /// - Parameter options: of the command line, by the key of the section `node` that they stand for.
    /// - Throws: `ConfigurationError`
    init(_ path: String, options: [String: String]) throws {
        let problems = ConfigurationProblems()
        text = try ConfigurationReader.text(path: path)
        var read = try ConfigurationReader.parse(text, file: path, problems: problems)
        if let folder = options["data_directory"] { read.node.dataDirectory = folder }
        if let folder = options["run_directory"] { read.node.runDirectory = folder }
        if let folder = options["model"] { read.node.model = folder }
        configuration = read
        source = ConfigurationSource(file: path, text: text, problems, options: options)
    }

    /// What can count at once, and the file as it reads then.
    /// - Throws: where what counts at once does not go with what is kept.
    func keeping(
        _ running: NodeConfiguration
    ) throws -> (configuration: NodeConfiguration, source: ConfigurationSource) {
        let problems = ConfigurationProblems()
        do {
            let kept = try ConfigurationReader.parse(text, file: source.file, problems: problems, keeping: running)
            return (kept, ConfigurationSource(file: source.file, text: text, problems, options: source.options))
        } catch {
            throw CommandFailure(
                .configuration,
                "\(error)\nThe file is good for a start, but not for a node that keeps until then what only a start "
                    + "changes: restart the node.")
        }
    }
}

extension ConfigurationChange {
    /// Elements of lists are told apart by their names; of those that come and go the list says it all.
    static func between(_ held: ConfigurationSource, _ read: ConfigurationSource) -> [ConfigurationChange] {
        read.said.sorted { $0.key < $1.key }.compactMap { key, after in
            guard let before = held.said[key], before.digest != after.digest else { return nil }
            let shown = [before, after].map { $0.shown ?? "none" }
            return ConfigurationChange(
                key: key, values: shown[0] == shown[1] ? nil : shown, isLive: ConfigurationKeys.effect(of: key) == .live
            )
        }
    }
}
