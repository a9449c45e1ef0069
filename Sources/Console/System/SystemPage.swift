internal import Foundation
internal import Hummingbird
internal import Ledger

/// How the node is: what is wrong first, then all that an administrator asks about.
struct SystemPage {
    private let parts: ConsoleServer.Parts
    private let facts: any NodeFacts
    private let spool: Cached<SpoolStanding>

    /// Looking at every image that is held costs a second where there are many.
    private static let spoolAge: TimeInterval = 600
    private static let day: TimeInterval = 86400
    private static let mostAlerts = 20

    init(parts: ConsoleServer.Parts, facts: any NodeFacts) {
        self.parts = parts
        self.facts = facts
        spool = Cached(atMost: Self.spoolAge, clock: parts.clock) {
            try await parts.ledger.spoolStanding(receivedSince: parts.clock.now() - Self.day)
        }
    }

    var routes: [ConsoleRoute] {
        [
            .get("/system", .overview) { _, context in
                let (facts, state) = (await facts.system(), await state())
                return Page(
                    title: "System", area: .system, visitor: context.visitor, styles: [SystemStyle.name],
                    content: SystemCards(
                        facts: facts, state: state, now: parts.clock.now(), maySeeLog: context.visitor.maySeePatients
                    ).content
                ).response(state.ledgerFailure == nil ? .ok : .internalServerError)
            }
        ]
    }

    private func state() async -> SystemState {
        let registry = parts.registry
        var state = SystemState(notReady: await parts.notReady())
        do {
            state.standing = try await parts.ledger.standing()
            state.alerts = try await parts.ledger.operatorAlerts(all: false, limit: Self.mostAlerts)
            state.spool = try await spool.value()
        } catch { state.ledgerFailure = "\(error)" }
        state.crashes = registry.counts(of: "ichnode_worker_crashes_total", by: "verb")
        state.storedInstances = registry.count(of: "ichnode_instances_stored_total")
        state.refusedInstances = registry.count(of: "ichnode_instances_refused_total")
        state.associations = registry.count(of: "ichnode_associations_total")
        state.failedHandshakes = registry.count(of: "ichnode_tls_handshakes_failed_total")
        state.auditMessages = registry.count(of: "ichnode_audit_messages_total")
        state.auditLost = registry.count(of: "ichnode_audit_messages_lost_total")
        state.auditFailures = registry.count(of: "ichnode_audit_write_failures_total")
        return state
    }
}
