import ArgumentParser
import Foundation
import ICHModel
import Logging
import WorkerProtocol

struct ModelCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model", abstract: "Look at, check and time a model package.",
        subcommands: [Info.self, Verify.self, Benchmark.self])

    struct PackageOption: ParsableArguments {
        @Option(name: .long, help: "Model package: the folder that holds model.json.")
        var model = "/usr/share/ichnode/model"
    }

    struct Info: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what a model package is: version, thresholds, training, figures.",
            discussion: "Exit code 78 where the folder holds no whole package; \"ichnode model verify\" says more.")
        @OptionGroup var package: PackageOption
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await Terminal.run {
                let package = try ModelCommand.load(package.model)
                Terminal.say(json ? try ModelText.json(package) : ModelText.text(package))
            }
        }
    }

    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check that a model package is whole and answers here as it did where it was made.",
            discussion: """
                Each check gives a line that begins with "good" or "BAD":
                  checksums  model.json and both networks are there and are the
                             files that were packed
                  networks   both load in the process that the node uses; inputs
                             and outputs have the shapes of model.json
                  self-test  a made-up head goes through the whole analysis;
                             logits agree within 0.01 and probabilities within
                             0.001 with those stored in the package

                Exit code 0 when all hold, 78 when one does not. A package without a self-test passes without it.
                """)
        @OptionGroup var package: PackageOption

        func run() async throws {
            try await Terminal.run {
                let findings = await ModelVerification(
                    directory: package.model, logger: Logger.node(level: "critical")
                ).examine()
                for finding in findings { Terminal.say("\(finding.isGood ? "good" : "BAD ")  \(finding.text)") }
                let bad = findings.count { !$0.isGood }
                if bad > 0 { throw CommandFailure(.configuration, "the model package fails \(bad) checks") }
            }
        }
    }

    struct Benchmark: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time a model package on this machine.",
            discussion: """
                Runs encoder and sequence head over made-up slices in the process that the node uses, in batches as \
                the node does, and says how long a study takes and how much memory the process needed. The first run \
                is not counted.
                """)
        @OptionGroup var package: PackageOption
        @Option(name: .long, help: "Slices of a study, 1 to 512.")
        var slices = 32
        @Option(name: .long, help: "Runs that are counted, 1 to 10000.")
        var repeats = 20
        @Option(name: .long, help: "Threads for one inference, as node.inference_threads.")
        var threads = InferenceServer.defaultThreads
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func validate() throws {
            guard (1...512).contains(slices) else { throw ValidationError("--slices is 1 to 512") }
            guard (1...10_000).contains(repeats) else { throw ValidationError("--repeats is 1 to 10000") }
            guard (1...256).contains(threads) else { throw ValidationError("--threads is 1 to 256") }
        }

        func run() async throws {
            try await Terminal.run {
                let benchmark = ModelBenchmark(
                    package: try ModelCommand.load(package.model), slices: slices, repeats: repeats, threads: threads,
                    logger: Logger.node(level: "error"))
                let result = try await benchmark.run()
                Terminal.say(json ? try JSONText.of(result) : result.text)
            }
        }
    }

    /// - Throws: `CommandFailure` that leads to exit code 78.
    static func load(_ directory: String) throws -> ModelPackage {
        do { return try ModelPackage(directory: directory) } catch let error as ModelError {
            throw CommandFailure(.configuration, error.reason)
        }
    }
}

/// JSON as commands print it.
enum JSONText {
    static func of(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
