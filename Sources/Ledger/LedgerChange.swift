public import WorkerProtocol

/// What a transaction changed.
public enum LedgerChange: Sendable, Hashable {
    /// A study, or what belongs to it: images, analyses, deliveries, events.
    case study(UID)
    case deliveries
    /// Operators' alerts.
    case alerts
}

/// Watches as long as it is kept.
public protocol LedgerObservation: AnyObject, Sendable {}
