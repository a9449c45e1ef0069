import AlertDispatcher
import ICHModel
import Logging
import WorkerProtocol

/// Whether the model is whole, has the thresholds that routes want, and loads.
struct ModelCheck {
    private static let loadDeadline: Duration = .seconds(30)

    let configuration: NodeConfiguration
    let logger: Logger

    func examine() async -> [SetupFinding] {
        let path = configuration.node.model
        let read: Result<ModelPackage, any Error>? = await bounded(seconds: Doctor.localSeconds, otherwise: nil) {
            Result { try ModelPackage(directory: path) }
        }
        guard let read else { return [Doctor.tooLong(.modelFiles, "the model")] }
        let package: ModelPackage
        do { package = try read.get() } catch {
            return [
                .bad(
                    .modelFiles, path, "model \(path) cannot be used: \(words(error))",
                    "let node.model name a model package that the node's user may read; `ichnode model verify` "
                        + "says more")
            ]
        }
        let title = "model \(package.name) \(package.version)"
        let unknown = configuration.routes.compactMap { route -> SetupFinding? in
            do {
                _ = try package.operatingPoint(route.threshold)
                return nil
            } catch {
                return .bad(
                    .modelThreshold, route.name, "threshold of the route \(route.name): \(words(error))",
                    "change threshold of this route")
            }
        }
        let thresholds =
            unknown.isEmpty
            ? [SetupFinding.good(.modelThreshold, package.name, "\(title) has the thresholds of all routes")] : unknown
        return [.good(.modelFiles, path, "\(title) is whole")] + thresholds + [await load(package, title)]
    }

    private func load(_ package: ModelPackage, _ title: String) async -> SetupFinding {
        let engine = InferenceChild(
            package: package, executable: WorkerProgram.beside("ichnode"),
            deadlines: .init(load: Self.loadDeadline), logger: logger)
        do {
            try await engine.prepare()
            await engine.stop()
            return .good(.modelLoad, package.name, "\(title) loads")
        } catch {
            return .bad(
                .modelLoad, package.name, "\(title) does not load: \(words(error))", "`ichnode model verify` says more")
        }
    }

    private func words(_ error: any Error) -> String { (error as? ModelError)?.reason ?? "\(error)" }
}
