import AlertDispatcher
import Console
import Foundation
import ICHModel
import Ledger
import StoreSCP
import Synchronization
import WorkerProtocol

/// A configuration and what is made of it. Never changed, but replaced as a whole: who makes one decision of several
/// steps takes one of these.
final class InForce: Sendable {
    let configuration: NodeConfiguration
    let source: ConfigurationSource
    let alerts: AlertDestinations
    let destinations: [any Destination]
    let queries: QueryRetrieve
    let recordDelivery: @Sendable (DeliveryAttempt) -> Void

    /// - Parameter previous: from which connections are taken over that stay as they are.
    init(
        _ configuration: NodeConfiguration, from source: ConfigurationSource, programs: WorkerPrograms,
        audit: AuditTrail?, clock: WallClock, after previous: InForce? = nil
    ) {
        self.configuration = configuration
        self.source = source
        alerts = AlertDestinations(configuration, clock: clock, after: previous?.alerts)
        queries = QueryRetrieve(configuration, programs: programs) { audit?.record(.query($0)) }
        let peers = configuration.peers
        destinations =
            peers.map { peer in
                DICOMDestination(
                    name: peer.name, peer: peer.remote, callingAETitle: peer.callingAETitle, program: programs.send,
                    commitment: peer.commitment == .none
                        ? nil
                        : DICOMCommitment(
                            timeout: .seconds(peer.commitmentTimeoutSeconds), peer: peer.remote,
                            callingAETitle: peer.callingAETitle, program: programs.commit),
                    fallback: peer.fallback.map {
                        DestinationFallback(name: $0, after: .seconds(peer.fallbackAfterSeconds))
                    })
            } + alerts.destinations
        recordDelivery = { attempt in
            // Only peers take DICOM instances.
            guard let peer = peers.first(where: { $0.name == attempt.destination }) else { return }
            audit?.record(.delivery(attempt, to: peer))
        }
    }

    var terms: StudyPipeline.Terms {
        .init(rules: configuration.selection, routes: configuration.routeTable, alerts: alerts.desk)
    }
}

/// The configuration that the node runs with, for all who ask anew whenever they need it.
final class LiveConfiguration: Sendable {
    private struct Held {
        var inForce: InForce
        var refusal: ConfigurationFacts.Refusal?
    }

    private let held: Mutex<Held>

    init(_ inForce: InForce) { held = Mutex(Held(inForce: inForce)) }

    var value: InForce { held.withLock { $0.inForce } }
    var configuration: NodeConfiguration { value.configuration }

    func facts() -> ConfigurationFacts {
        let held = held.withLock { $0 }
        return held.inForce.source.facts(refusal: held.refusal)
    }

    func replace(by inForce: InForce) { held.withLock { $0 = Held(inForce: inForce) } }
    func refused(_ reason: String, at moment: Date) {
        held.withLock { $0.refusal = .init(at: moment, reason: reason) }
    }
}
