internal import Foundation
internal import Synchronization
public import Ledger
public import WorkerProtocol

/// What the audit trail is told of the console's visitors (PS3.15 §A.5.3.12 and §A.5.3.6).
public enum AccessEvent: Sendable, Equatable {
    case signedIn(user: String, address: String)
    /// - user: as it was claimed.
    case signInRefused(user: String, address: String, reason: String)
    case signedOut(user: String, address: String)
    /// Patient data of a study was shown.
    case viewed(study: UID, user: String, address: String)
}

/// Tells it.
public final class ConsoleAudit: Sendable {
    /// A study that is looked at again and again is looked at once in so many seconds.
    private static let again: TimeInterval = 600
    private static let mostRemembered = 10_000

    private struct View: Hashable {
        var study: UID
        var visitor: String
    }

    private let clock: WallClock
    private let record: @Sendable (AccessEvent) -> Void
    private let views = Mutex<[View: Date]>([:])

    public init(clock: WallClock = .system, record: @escaping @Sendable (AccessEvent) -> Void) {
        self.clock = clock
        self.record = record
    }

    /// Once for each session, or token, and study in ten minutes.
    func viewed(study: UID, by visitor: Visitor) {
        guard let user = visitor.user else { return }
        let view = View(study: study, visitor: "\(user) \(visitor.address) \(visitor.csrfToken)")
        let now = clock.now()
        let isNew = views.withLock { views in
            if let last = views[view], now.timeIntervalSince(last) < Self.again { return false }
            if views.count >= Self.mostRemembered {
                views = views.filter { now.timeIntervalSince($0.value) < Self.again }
                if views.count >= Self.mostRemembered { views.removeAll() }
            }
            views[view] = now
            return true
        }
        if isNew { record(.viewed(study: study, user: user, address: visitor.address)) }
    }

    func tell(_ event: AccessEvent) { record(event) }
}
