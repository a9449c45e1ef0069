import Foundation
import ICHModel
import Logging
import WorkerProtocol

/// Times encoder and sequence head in the inference child.
struct ModelBenchmark {
    struct Result: Encodable {
        let model: String
        let version: String
        let slices: Int
        let repeats: Int
        let threads: Int
        /// Starting the child, reading and compiling the networks.
        let loadSeconds: Double
        let medianSeconds: Double
        /// 95th percentile.
        let p95Seconds: Double
        /// Of the child, VmHWM; nil where the system does not say.
        let peakResidentMebibytes: Double?

        var text: String {
            let memory = peakResidentMebibytes.map { String(format: "%.0f MiB", $0) } ?? "unknown"
            return String(
                format: """
                    %@ %@, %d slices, %d threads, %d runs
                      encoder and head  median %.3f s, 95th percentile %.3f s
                      loading           %.2f s
                      peak memory of the inference process  %@
                    """, model, version, slices, threads, repeats, medianSeconds, p95Seconds, loadSeconds, memory)
        }
    }

    let package: ModelPackage
    let slices: Int
    let repeats: Int
    let threads: Int
    let logger: Logger

    func run() async throws -> Result {
        let engine = InferenceChild(
            package: package, executable: WorkerProgram.beside("ichnode"), threads: threads, logger: logger)
        let result: Swift.Result<Result, any Error>
        do { result = .success(try await run(engine)) } catch { result = .failure(error) }
        await engine.stop()
        return try result.get()
    }

    private func run(_ engine: InferenceChild) async throws -> Result {
        let loading = try await seconds { try await engine.prepare() }
        let batches = try planes()
        try await study(batches, engine)
        var times: [Double] = []
        for _ in 0..<repeats { times.append(try await seconds { try await study(batches, engine) }) }
        return Result(
            model: package.name, version: package.version, slices: slices, repeats: repeats, threads: threads,
            loadSeconds: loading, medianSeconds: Percentile.linear(times, 50), p95Seconds: Percentile.linear(times, 95),
            peakResidentMebibytes: await engine.processID.flatMap(Self.peakMebibytes))
    }

    private func study(_ batches: [(values: [Float], count: Int)], _ engine: InferenceChild) async throws {
        var encoded: [EncodedPlane] = []
        for batch in batches { encoded += try await engine.encode(planes: batch.values, count: batch.count) }
        _ = try await engine.score(
            embeddings: encoded.flatMap(\.embedding), logits: encoded.flatMap(\.logits), count: encoded.count)
    }

    /// The phantom's planes, as often as needed, stretched to the encoder's input, in the node's batches.
    private func planes() throws -> [(values: [Float], count: Int)] {
        let size = package.inputSize
        let places = (0..<size).map { $0 * SelfTestPhantom.side / size }
        let phantom = try (0..<SelfTestPhantom.planeCount).map { z in
            let values = try SelfTestPhantom.plane(z).values
            return places.flatMap { row in places.map { Float(values[row * SelfTestPhantom.side + $0]) } }
        }
        let batch = StudyEncoder.Limits().batch
        return stride(from: 0, to: slices, by: batch).map { start in
            let part = start..<min(start + batch, slices)
            return (part.flatMap { phantom[$0 % phantom.count] }, part.count)
        }
    }

    private func seconds(_ body: () async throws -> Void) async rethrows -> Double {
        let started = ContinuousClock.now
        try await body()
        return (ContinuousClock.now - started) / .seconds(1)
    }

    /// proc(5): "VmHWM: Peak resident set size".
    private static func peakMebibytes(_ process: Int32) -> Double? {
        guard let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8) else { return nil }
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        let kibibytes = line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) }
        return kibibytes.map { $0 / 1024 }
    }
}
