public import Ledger
public import WorkerProtocol

/// What an operator can have done from the console.
public enum NodeAction: Sendable, Equatable {
    /// Nothing more will come: decide now.
    case complete(UID)
    /// Analyse again, with the model and configuration of now.
    case reprocess(UID)
    /// Neither analyse nor report it.
    case ignore(UID)
    /// Analyse what was ignored, or held for a conflict of identity.
    case release(UID)
    /// The results of its latest analysis go once more to where they went.
    case resend(UID)
    /// A delivery, now.
    case retry(Int64)
    /// A delivery is withdrawn.
    case discard(Int64)
}

/// Why something was not done, and what to do instead.
public struct ActionRefusal: Error, Sendable, Equatable {
    public var reason: String
    public init(reason: String) { self.reason = reason }
}

/// Does it; the node keeps the audit.
public protocol NodeActions: Sendable {
    /// - Parameter user: who asked for it.
    /// - Returns: what was done, in a sentence.
    func perform(_ action: NodeAction, by user: String) async throws(ActionRefusal) -> String
    /// What a study waits for, and why each of its series is analysed or not.
    func explanation(ofStudy uid: UID) async throws(ActionRefusal) -> StudyExplanation
}
