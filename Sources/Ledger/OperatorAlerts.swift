public import Foundation
public import WorkerProtocol

/// What an operator should look at.
public enum OperatorAlertKind: String, Codable, Sendable, CaseIterable {
    /// A head CT of which nobody has had a result for too long.
    case noResult = "no-result"
    /// A destination does not take what it is owed.
    case destinationFailing = "destination-failing"
    /// A destination refused something for good, or it grew too old.
    case deliveryGivenUp = "delivery-given-up"
    case diskShort = "disk-short"
    /// Child processes of one verb die too often.
    case processCrashes = "process-crashes"
    case certificateExpiring = "certificate-expiring"
    /// A study is held until somebody decides whose it is.
    case identityConflict = "identity-conflict"
}

/// Something that holds now. One condition is the same as another of its kind and subject, whatever the text.
public struct OperatorCondition: Sendable, Equatable {
    public var kind: OperatorAlertKind
    /// Study Instance UID, destination, verb or file.
    public var subject: String
    /// What it is and what to do, without anything of a patient or of what a peer said.
    public var text: String
    public init(_ kind: OperatorAlertKind, _ subject: String, _ text: String) {
        self.kind = kind
        self.subject = subject
        self.text = text
    }
}

/// A condition from when it was first seen to when it was over.
public struct OperatorAlertEntry: Codable, Sendable, Equatable, Identifiable {
    public var id: Int64
    public var kind: OperatorAlertKind
    public var subject: String
    public var text: String
    /// 1 for the first time of this kind and subject.
    public var occurrence: Int
    public var raisedAt: Date
    /// nil while it is active.
    public var clearedAt: Date?
    public init(
        id: Int64, kind: OperatorAlertKind, subject: String, text: String, occurrence: Int, raisedAt: Date,
        clearedAt: Date? = nil
    ) {
        self.id = id
        self.kind = kind
        self.subject = subject
        self.text = text
        self.occurrence = occurrence
        self.raisedAt = raisedAt
        self.clearedAt = clearedAt
    }
}

/// Which alerts are asked for.
public enum OperatorAlertStanding: Sendable { case all, active, over }

/// What the node has yet to do, for whoever watches that it does.
public struct OpenWork: Sendable, Equatable {
    /// A study without a result that anybody has.
    public struct Study: Sendable, Equatable {
        public var studyInstanceUID: UID
        public var state: StudyState
        /// When the first image of what has no result came.
        public var since: Date
        public var lastReceivedAt: Date
        /// Destinations that its result is owed to, and those that refused it; both empty before it is concluded, and
        /// where no route takes it.
        public var owedTo: [String]
        public var refusedBy: [String]
        public init(
            studyInstanceUID: UID, state: StudyState, since: Date, lastReceivedAt: Date, owedTo: [String] = [],
            refusedBy: [String] = []
        ) {
            self.studyInstanceUID = studyInstanceUID
            self.state = state
            self.since = since
            self.lastReceivedAt = lastReceivedAt
            self.owedTo = owedTo
            self.refusedBy = refusedBy
        }
    }

    /// Deliveries to one destination.
    public struct Lane: Sendable, Equatable {
        public var destination: String
        /// Of what it has not taken, or does not answer for, or does not report on more than once.
        public var owed: Int
        /// When the first of these was made; nil where there is none.
        public var owedSince: Date?
        public var givenUp: Int
        public init(destination: String, owed: Int, owedSince: Date?, givenUp: Int) {
            self.destination = destination
            self.owed = owed
            self.owedSince = owedSince
            self.givenUp = givenUp
        }
    }

    public var studies: [Study]
    public var lanes: [Lane]
    /// Studies held for a conflict of identity.
    public var held: [UID]
    public init(studies: [Study] = [], lanes: [Lane] = [], held: [UID] = []) {
        self.studies = studies
        self.lanes = lanes
        self.held = held
    }
}
