internal import Foundation
internal import Ledger

/// What the ledger knows, as gauges: asked when metrics are read, and not more often than every few seconds, since
/// anybody may read them.
actor LedgerGauges {
    private static let pause: Duration = .seconds(5)
    private let parts: ConsoleServer.Parts
    private var next: ContinuousClock.Instant?

    init(parts: ConsoleServer.Parts) { self.parts = parts }

    func refresh() async {
        parts.registry.set("ichnode_ready", await parts.notReady() == nil ? 1 : 0)
        if let next, next > .now { return }
        next = .now + Self.pause
        let backlog: Backlog?
        do { backlog = try await parts.ledger.backlog() } catch is LedgerBusy { return } catch { backlog = nil }
        show(backlog)
    }

    /// - Parameter backlog: nil: not known, and nothing is shown in its place.
    private func show(_ backlog: Backlog?) {
        let registry = parts.registry
        let now = parts.clock.now()
        registry.set("ichnode_ledger_readable", backlog == nil ? 0 : 1)
        let states = backlog.map { backlog in
            StudyState.allCases.map { ($0.rawValue, Double(backlog.studies[$0] ?? 0)) }
        }
        registry.replace("ichnode_studies", by: "state", Dictionary(uniqueKeysWithValues: states ?? []))
        registry.set(
            "ichnode_studies_oldest_open_seconds",
            backlog.map { $0.openSince.map { max(0, now.timeIntervalSince($0)) } ?? 0 })
        let lanes = backlog?.lanes ?? []
        // Names that differ in bytes alone are one in Swift.
        func show(
            _ name: String, of several: (Double, Double) -> Double = (+), _ value: (OpenWork.Lane) -> Double
        ) {
            let values = lanes.map { ($0.destination, value($0)) }
            registry.replace(name, by: "destination", Dictionary(values, uniquingKeysWith: several))
        }
        show("ichnode_outbox_owed") { Double($0.owed) }
        show("ichnode_outbox_oldest_seconds", of: max) { $0.owedSince.map { max(0, now.timeIntervalSince($0)) } ?? 0 }
        show("ichnode_outbox_given_up") { Double($0.givenUp) }
    }
}
