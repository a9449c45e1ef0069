/// Ask a peer for storage commitment (PS3.4 §J.3.2), and wait a little for its report.
public struct CommitJob: Codable, Sendable {
    public var peer: RemotePeer
    public var callingAETitle: AETitle
    public var transactionUID: UID
    /// Paths are not used.
    public var objects: [ComposedObject]
    /// For each response.
    public var timeoutSeconds: Double
    /// For a report on the same association; other peers open one of their own for it.
    public var reportSeconds: Double
    public init(
        peer: RemotePeer, callingAETitle: AETitle, transactionUID: UID, objects: [ComposedObject],
        timeoutSeconds: Double = 30, reportSeconds: Double = 3
    ) {
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.transactionUID = transactionUID
        self.objects = objects
        self.timeoutSeconds = timeoutSeconds
        self.reportSeconds = reportSeconds
    }
}

/// What an N-EVENT-REPORT of the Storage Commitment Push Model says (PS3.4 §J.3.3).
public struct CommitmentReport: Codable, Sendable, Equatable {
    public struct Failure: Codable, Sendable, Equatable {
        public var sopInstanceUID: UID
        /// Failure Reason (0008,1197); nil where the peer gives none.
        public var reason: UInt16?
        public init(sopInstanceUID: UID, reason: UInt16?) {
            self.sopInstanceUID = sopInstanceUID
            self.reason = reason
        }
    }

    public var transactionUID: UID
    /// SOP Instance UIDs of the Referenced SOP Sequence.
    public var committed: [UID]
    /// Of the Failed SOP Sequence.
    public var failed: [Failure]
    public init(transactionUID: UID, committed: [UID], failed: [Failure] = []) {
        self.transactionUID = transactionUID
        self.committed = committed
        self.failed = failed
    }
}

/// What the daemon made of a report.
public enum CommitmentAnswer: String, Codable, Sendable {
    /// It is recorded, or was before.
    case recorded
    /// Nothing was asked under its Transaction UID.
    case unknown
    /// It could not be recorded.
    case failed
}
