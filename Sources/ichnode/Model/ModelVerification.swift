import ICHModel
import Logging
import WorkerProtocol

/// Checks of a model package: its files, its networks, what they answer.
struct ModelVerification {
    struct Finding {
        var isGood: Bool
        /// A sentence.
        var text: String
    }

    let directory: String
    let logger: Logger

    func examine() async -> [Finding] {
        let faults = ModelPackage.faults(inDirectory: directory)
        guard faults.isEmpty else { return faults.map { Finding(isGood: false, text: "checksums: \($0.reason)") } }
        do {
            let package = try ModelPackage(directory: directory)
            let whole = Finding(
                isGood: true,
                text: "checksums: \(package.name) \(package.version) is whole, digest "
                    + package.modelDigest.prefix(12))
            let engine = InferenceChild(package: package, executable: WorkerProgram.beside("ichnode"), logger: logger)
            let findings = await examine(package, engine)
            await engine.stop()
            return [whole] + findings
        } catch { return [Finding(isGood: false, text: "checksums: \(Self.reason(error))")] }
    }

    private func examine(_ package: ModelPackage, _ engine: InferenceChild) async -> [Finding] {
        do { try await engine.prepare() } catch {
            return [Finding(isGood: false, text: "networks: \(Self.reason(error))")]
        }
        let loads = Finding(
            isGood: true,
            text: "networks: both load; encoder takes \(package.inputSize)×\(package.inputSize), embedding "
                + "\(package.embeddingSize), \(package.classes.count) classes, lesion map "
                + "\(package.mapSize)×\(package.mapSize)")
        return [loads] + (await selfTest(package, engine))
    }

    /// Runs without stored answers too: what answers with NaN or with other shapes shows.
    private func selfTest(_ package: ModelPackage, _ engine: any InferenceEngine) async -> [Finding] {
        do {
            let found = try await SelfTest.run(package, engine)
            guard let wanted = package.selfTest else {
                return [Finding(isGood: true, text: "self-test: none in this package")]
            }
            let differences = wanted.differences(from: found)
            guard differences.isEmpty else { return differences.map { Finding(isGood: false, text: $0) } }
            return [Finding(isGood: true, text: "self-test: answers as where it was made")]
        } catch { return [Finding(isGood: false, text: "self-test: \(Self.reason(error))")] }
    }

    private static func reason(_ error: any Error) -> String { (error as? ModelError)?.reason ?? "\(error)" }
}
