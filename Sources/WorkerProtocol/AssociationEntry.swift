public import struct Foundation.Date

/// An association that a peer opened or tried to, or several in a row that went alike.
public struct AssociationEntry: Sendable, Equatable {
    public enum Ending: Sendable, Equatable {
        case released
        /// In words: how it ended otherwise.
        case broken(String)
        /// In words: why it was not admitted, and what to change.
        case refused(String)
    }

    public var peerAddress: String
    public var isSecure: Bool
    /// nil within TLS before the request was read, and where none came.
    public var callingAETitle: String?
    public var calledAETitle: String?
    /// Subject of the peer's certificate, which was verified; nil where none was asked for.
    public var certificate: String?
    /// Of the first.
    public var began: Date
    /// Of the last; nil while it is open.
    public var ended: Date?
    public var ending: Ending?
    /// How many associations went this way.
    public var count = 1
    /// Objects that were stored, and those that were here already.
    public var objects = 0
    public var known = 0
    public var refusedObjects = 0
    /// Why the last of these was refused.
    public var objectRefusal: String?
    /// Of the objects' data sets.
    public var bytes: UInt64 = 0
    /// That objects came of; at most so many as the node keeps of one entry.
    public var studies: Set<UID> = []
    public var echoes = 0

    public init(
        peerAddress: String, isSecure: Bool, callingAETitle: String? = nil, calledAETitle: String? = nil, began: Date
    ) {
        self.peerAddress = peerAddress
        self.isSecure = isSecure
        self.callingAETitle = callingAETitle
        self.calledAETitle = calledAETitle
        self.began = began
    }
}

/// What is known of associations, newest first.
public struct AssociationOverview: Sendable, Equatable {
    public var open: [AssociationEntry]
    public var ended: [AssociationEntry]
    public var refused: [AssociationEntry]
    public init(open: [AssociationEntry] = [], ended: [AssociationEntry] = [], refused: [AssociationEntry] = []) {
        self.open = open
        self.ended = ended
        self.refused = refused
    }
}
