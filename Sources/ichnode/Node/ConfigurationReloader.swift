import AlertDispatcher
import Foundation
import ICHModel
import Ledger
import Logging
import Metrics
import ServiceLifecycle
import UnixSignals
import WorkerProtocol

/// Reads the configuration file again, on SIGHUP and for `ichnode config reload`, one after the other. A file counts as
/// a whole, or not at all.
actor ConfigurationReloader: Service {
    /// By whom a signal was sent is not known.
    static let signal = "SIGHUP"

    private let live: LiveConfiguration
    private let package: ModelPackage
    private let makeInForce: @Sendable (NodeConfiguration, ConfigurationSource, InForce) -> InForce
    private let apply: @Sendable (InForce, InForce) async -> Void
    private let hangUps: UnixSignalsSequence
    private let audit: AuditTrail?
    private let clock: WallClock
    private let logger: Logger
    private let turn = AsyncLock()
    private var isStopping = false

    /// - Parameters:
    ///   - hangUps: SIGHUP, trapped since before the configuration was read first.
    ///   - apply: tells of the new configuration, in the place of the second, who does not ask by itself.
    init(
        _ live: LiveConfiguration, package: ModelPackage, hangUps: UnixSignalsSequence, audit: AuditTrail?,
        clock: WallClock, logger: Logger,
        making makeInForce: @escaping @Sendable (NodeConfiguration, ConfigurationSource, InForce) -> InForce,
        apply: @escaping @Sendable (InForce, InForce) async -> Void
    ) {
        self.live = live
        self.package = package
        self.hangUps = hangUps
        self.audit = audit
        self.clock = clock
        self.logger = logger
        self.makeInForce = makeInForce
        self.apply = apply
        measure(isGood: true)
    }

    func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            for await _ in hangUps { _ = await reload(by: Self.signal) }
        }
        isStopping = true
    }

    /// - Parameter user: who asks for it.
    func reload(by user: String) async -> ControlResponse {
        do {
            return try await turn.inTurn {
                if isStopping { throw CancellationError() }
                let file = live.value.source.file
                do throws(CommandFailure) {
                    let reload = try await readAgain()
                    let changes = reload.changes.filter(\.isLive)
                    logger.notice(
                        "configuration read again",
                        metadata: [
                            "by": "\(user)", "changes": "\(changes.map(\.description))",
                            "at.next.start": "\(reload.changes.filter { !$0.isLive }.map(\.key))",
                        ])
                    for warning in reload.warnings {
                        logger.warning("configuration needs attention", metadata: ["finding": "\(warning)"])
                    }
                    measure(isGood: true)
                    audit?.record(.configured(file: file, by: user, changes: changes.map(\.key), failure: nil))
                    return .reloaded(reload)
                } catch {
                    if error.code == .unavailable { throw CancellationError() }
                    live.refused(error.description, at: clock.now())
                    logger.error(
                        "configuration refused, the earlier one stays in force",
                        metadata: ["by": "\(user)", "reason": "\(error)"])
                    measure(isGood: false)
                    audit?.record(.configured(file: file, by: user, changes: [], failure: error.description))
                    return .failed("\(error)\nnothing has changed: the earlier configuration stays in force")
                }
            }
        } catch { return .failed("the node is stopping: it reads its configuration when it starts again") }
    }

    private func readAgain() async throws(CommandFailure) -> ConfigurationReload {
        let held = live.value
        do {
            let file = try ConfigurationFile(held.source.file, options: held.source.options)
            let (configuration, source) = try file.keeping(held.configuration)
            try checkThresholds(configuration, file.source.file)
            let examination = try await ConfigurationExamination(
                configuration, and: file.configuration.keyMaterials, inForce: held.configuration)
            guard examination.problems.isEmpty else {
                let lines = examination.problems.map { "\(file.source.file): \($0)" }
                throw CommandFailure(.configuration, lines.joined(separator: "\n"))
            }
            if isStopping || Task.isCancelled { throw CommandFailure(.unavailable, "the node is stopping") }
            let changes = ConfigurationChange.between(held.source, source)
            let next = makeInForce(configuration, source.keeping(held.source), held)
            live.replace(by: next)
            await apply(next, held)
            return ConfigurationReload(changes: changes, warnings: examination.warnings)
        } catch let failure as CommandFailure { throw failure } catch {
            if Task.isCancelled { throw CommandFailure(.unavailable, "the node is stopping") }
            throw CommandFailure(.configuration, "\(error)")
        }
    }

    private func checkThresholds(_ configuration: NodeConfiguration, _ file: String) throws {
        for route in configuration.routes {
            do { _ = try package.operatingPoint(route.threshold) } catch {
                throw CommandFailure(.configuration, "\(file): route \"\(route.name)\": \(error)")
            }
        }
    }

    private nonisolated func measure(isGood: Bool) {
        Gauge(label: "ichnode_configuration_reload_successful").record(isGood ? 1 : 0)
        if isGood {
            Gauge(label: "ichnode_configuration_success_timestamp_seconds").record(clock.now().timeIntervalSince1970)
        }
    }
}
