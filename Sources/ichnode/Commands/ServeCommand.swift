import ArgumentParser
import CLinux
import Console
import Foundation
import ICHModel
import Logging
import Metrics
import StoreSCP
import UnixSignals

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run the node in the foreground until SIGTERM.",
        discussion: """
            Logs to standard error. Tells systemd when it is ready (Type=notify). SIGHUP has it read its configuration \
            again, as `ichnode config reload` does.
            """)

    @OptionGroup var options: ConfigurationOptions

    func run() async throws {
        clinux_keep_heap_small()
        try await Terminal.run {
            // Before the file is read: what is changed from then on is not missed.
            let hangUps = await UnixSignalsSequence(trapping: .sighup)
            let (configuration, source) = try options.loadWithSource()
            let ring = LogRing()
            let logger = Logger.node(level: configuration.node.logLevel, keepingIn: ring)
            let registry = MetricsRegistry()
            MetricsSystem.bootstrap(registry)
            let node: Node
            do {
                node = try await Node(
                    configuration, from: source, hangUps: hangUps, registry: registry, log: ring, logger: logger)
            } catch {
                throw CommandFailure(.configuration, "the node cannot start: \(error)")
            }
            try await node.run()
        }
    }
}

struct InferCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "infer", abstract: "Internal: the process that holds the model.", shouldDisplay: false)

    @Option(name: .long, help: "Model package.")
    var model: String

    @Option(name: .long, help: "Threads for one inference.")
    var threads = InferenceServer.defaultThreads

    func run() throws { try InferenceServer.run(modelDirectory: model, threads: threads) }
}
