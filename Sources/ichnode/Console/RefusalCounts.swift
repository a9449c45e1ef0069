import StoreSCP
import Synchronization

/// How often associations were refused since the start, by reason.
final class RefusalCounts: Sendable {
    /// Reasons may quote a peer: further ones are counted together.
    static let mostReasons = 40
    static let others = "other reasons: see the audit trail"

    private let held = Mutex<[String: Int]>([:])

    var counts: [String: Int] { held.withLock { $0 } }

    func note(_ event: ReceptionEvent) {
        guard case .refused(_, let reason) = event else { return }
        held.withLock { counts in
            let key = counts[reason] != nil || counts.count < Self.mostReasons ? reason : Self.others
            counts[key, default: 0] += 1
        }
    }
}
