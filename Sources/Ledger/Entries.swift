public import Foundation
public import WorkerProtocol

/// A SOP instance in the spool, as the ledger lists it.
public struct StoredInstance: Codable, Sendable, Hashable {
    public var record: InstanceRecord
    /// Absolute path in the spool.
    public var path: String
    public var receivedAt: Date
    /// Retention removed the file; what its header said is still known.
    public var isPurged: Bool
    public init(record: InstanceRecord, path: String, receivedAt: Date, isPurged: Bool = false) {
        self.record = record
        self.path = path
        self.receivedAt = receivedAt
        self.isPurged = isPurged
    }

    /// One for each frame of a multi-frame image; see `InstanceRecord.images`.
    public var images: [StoredInstance] {
        record.images.map { StoredInstance(record: $0, path: path, receivedAt: receivedAt, isPurged: isPurged) }
    }
    public var location: FrameLocation { FrameLocation(path: path, number: record.frame?.number) }
}

/// Whether the file of an instance should be there.
public enum FileStanding: Sendable, Equatable {
    case present
    /// What the ledger knows of it was received then.
    case purged(receivedAt: Date)
}

/// Where a study stands.
public enum StudyState: String, Codable, Sendable, CaseIterable {
    /// Instances arrived that no analysis has seen yet.
    case receiving
    /// Complete, or given up waiting; the analysis runs.
    case analysing
    /// Has an outcome.
    case concluded
}

/// What an operator decided about a study; it holds until another is made.
public enum OperatorDecision: String, Codable, Sendable, CaseIterable {
    /// No analysis and no result, whatever arrives.
    case ignored
    /// Analysed although its identity is in conflict.
    case released
}

/// How the analysis of a study ended. Every head CT gets one of the first three.
public enum Outcome: String, Codable, Sendable, CaseIterable {
    case positive, negative
    /// A head CT that was not analysed, or not completely: the report says *undetermined* and why.
    case undetermined
    /// Recorded only; nothing is sent.
    case notHeadCT = "not a head CT"
}

/// One row of the study list.
public struct StudyEntry: Codable, Sendable {
    public var studyInstanceUID: UID
    public var state: StudyState
    public var outcome: Outcome?
    /// Why, in words, where the outcome alone does not say it.
    public var reason: String?
    public var studyProbability: Double?
    public var decision: OperatorDecision?
    public var instanceCount: Int
    /// Of these, those whose pixels retention removed.
    public var purgedCount: Int
    public var callingAETitle: String?
    public var calledAETitle: String?
    public var accessionNumber: String?
    public var description: String?
    public var firstReceivedAt: Date
    public var lastReceivedAt: Date
    public var concludedAt: Date?
    /// Deliveries that are still owed, or not yet committed.
    public var pendingDeliveries: Int
    /// Deliveries that a destination refused for good.
    public var givenUpDeliveries: Int?
    /// As the first instance has it, PN as in the data set.
    public var patientName: String?
    public var patientID: String?
    /// DA, TM: as in the data set.
    public var birthDate: String?
    public var sex: String?
    public var studyDate: String?
    public var studyTime: String?
    /// When the last image came that the latest analysis saw; nil where an operator asked for it.
    public var seenUntil: Date?
    /// When a destination first accepted the report of the latest analysis.
    public var flaggedAt: Date?
    /// It has no result although time is up.
    public var isLate: Bool?

    /// Seconds from the last image that the latest analysis saw to the first acceptance of its report; nil where there
    /// is none.
    public var timeToFlag: TimeInterval? {
        guard let seenUntil, let flaggedAt else { return nil }
        return max(0, flaggedAt.timeIntervalSince(seenUntil))
    }

    /// An undetermined study has none that anybody could take for a negative.
    public var shownProbability: Double? { outcome == .undetermined ? nil : studyProbability }

    /// Begins the reason of a study that nobody is sent anything of until an operator decides whose it is.
    public static let heldReason = "identity conflict"
    public var isHeld: Bool {
        outcome == .undetermined && decision == nil && reason?.hasPrefix(Self.heldReason) == true
    }
}

/// Why a series was taken or left.
public struct SeriesVerdictEntry: Codable, Sendable, Equatable {
    public var seriesInstanceUID: UID
    public var number: Int?
    public var description: String?
    public var instanceCount: Int
    /// "chosen", "candidate" or "refused".
    public var verdict: String
    public var reason: String
    public init(
        seriesInstanceUID: UID, number: Int?, description: String?, instanceCount: Int, verdict: String, reason: String
    ) {
        self.seriesInstanceUID = seriesInstanceUID
        self.number = number
        self.description = description
        self.instanceCount = instanceCount
        self.verdict = verdict
        self.reason = reason
    }
}

/// Which series of a study is analysed, and why.
public struct StudyExplanation: Codable, Sendable {
    public var studyInstanceUID: UID
    /// What it waits for, or what came of it.
    public var standing: String
    public var series: [SeriesVerdictEntry]
    public init(studyInstanceUID: UID, standing: String, series: [SeriesVerdictEntry]) {
        self.studyInstanceUID = studyInstanceUID
        self.standing = standing
        self.series = series
    }
}

/// One analysis of one revision of a study, recorded together with its objects and deliveries.
public struct AnalysisEntry: Codable, Sendable {
    public var studyInstanceUID: UID
    /// SHA-256 over the instances that the analysis saw; the same study again gives the same value.
    public var revisionDigest: String
    public var modelDigest: String
    public var configurationDigest: String
    public var route: String
    public var startedAt: Date
    public var completedAt: Date
    public var outcome: Outcome
    public var reason: String
    /// Which rule of the completion policy let the study through.
    public var completion: String
    public var studyProbability: Double?
    public var threshold: Double?
    public var flaggedSlices: Int
    /// The series that was analysed; nil where none was.
    public var seriesInstanceUID: UID?
    /// The report that was made of it; nil where none was.
    public var report: ImageReference?
    /// When the last image came that the analysis saw; nil where an operator asked for it, or an earlier version of the
    /// node did not keep it.
    public var lastArrival: Date?
    public init(
        studyInstanceUID: UID, revisionDigest: String, modelDigest: String, configurationDigest: String, route: String,
        startedAt: Date, completedAt: Date, outcome: Outcome, reason: String, completion: String,
        studyProbability: Double?, threshold: Double?, flaggedSlices: Int, seriesInstanceUID: UID? = nil,
        report: ImageReference? = nil, lastArrival: Date? = nil
    ) {
        self.studyInstanceUID = studyInstanceUID
        self.revisionDigest = revisionDigest
        self.modelDigest = modelDigest
        self.configurationDigest = configurationDigest
        self.route = route
        self.startedAt = startedAt
        self.completedAt = completedAt
        self.outcome = outcome
        self.reason = reason
        self.completion = completion
        self.studyProbability = studyProbability
        self.threshold = threshold
        self.flaggedSlices = flaggedSlices
        self.seriesInstanceUID = seriesInstanceUID
        self.report = report
        self.lastArrival = lastArrival
    }
}

/// The analyses that a study has had, oldest first, and what follows from them for the next.
/// Images of a study that did not arrive or were refused.
public struct LostImages: Sendable, Equatable {
    /// SOP Instance UIDs.
    public var known: Set<UID>
    /// Some of which nothing is known.
    public var hasOthers: Bool
    public init(known: Set<UID> = [], hasOthers: Bool = false) {
        self.known = known
        self.hasOthers = hasOthers
    }
}

public struct StudyHistory: Sendable {
    public var analyses: [AnalysisEntry]
    public init(_ analyses: [AnalysisEntry]) { self.analyses = analyses }

    public var latest: AnalysisEntry? { analyses.last }
    /// The number of the next report, from 1.
    public var nextRevision: Int { 1 + analyses.count { $0.report != nil } }
    /// The report that the next one supersedes.
    public var predecessor: ImageReference? { analyses.last { $0.report != nil }?.report }
    /// A later series takes the place of an analysed one only where that one was incomplete or could not be analysed.
    public var settledSeries: UID? {
        guard let latest, latest.outcome == .positive || latest.outcome == .negative, latest.reason.isEmpty else {
            return nil
        }
        return latest.seriesInstanceUID
    }
}

/// A message owed to a destination that takes no DICOM objects; the same at every attempt.
public struct OutboundMessage: Codable, Sendable, Equatable {
    /// By which its receiver knows one that comes again: Message Control ID (MSH-10), or an event's id.
    public var id: String
    public var body: String
    public init(id: String, body: String) {
        self.id = id
        self.body = body
    }
}

/// What is owed to one destination: objects, sent in order, or a message.
public struct NewDelivery: Sendable {
    public var destination: String
    /// Lower is sent first.
    public var priority: Int
    public var objects: [DeliveryObject]
    public var message: OutboundMessage?

    /// - Parameter alternatives: what the first object can be for a destination that refuses it, in order.
    public init(
        destination: String, priority: Int, objects: [ComposedObject], alternatives: [ComposedObject] = []
    ) {
        self.destination = destination
        self.priority = priority
        self.objects = objects.map { DeliveryObject(object: $0, state: .pending, status: nil) }
        if !alternatives.isEmpty && !objects.isEmpty { self.objects[0].alternatives = alternatives }
    }

    /// The same objects to the same destination, in the SOP classes that it was last offered.
    init(again delivery: DeliveryEntry) {
        self.init(destination: delivery.destination, priority: delivery.priority, objects: [])
        objects = delivery.objects.map { earlier in
            var object = DeliveryObject(object: earlier.object, state: .pending, status: nil)
            object.alternatives = earlier.alternatives
            return object
        }
    }

    public init(destination: String, priority: Int, message: OutboundMessage) {
        self.init(destination: destination, priority: priority, objects: [])
        self.message = message
    }
}

/// What waits for one destination.
public struct PendingLane: Sendable, Equatable {
    /// When the first of it is due.
    public var due: Date
    /// Deliveries never tried, or that an operator wants tried again.
    public var untried: Int
    public init(due: Date, untried: Int) {
        self.due = due
        self.untried = untried
    }
}

public enum DeliveryState: String, Codable, Sendable, CaseIterable {
    /// Not all is accepted.
    case pending
    /// All is accepted; whether the destination keeps it, it has yet to say (storage commitment, PS3.4 Annex J).
    case accepted
    /// Accepted, and committed where that was asked for.
    case delivered
    /// Refused for good; an operator has to look.
    case dead
    /// Withdrawn, because the destination has a later revision by now.
    case superseded
    /// Withdrawn by an operator.
    case discarded

    /// Whether an operator can do something about it.
    public var isOpen: Bool { [.pending, .accepted, .dead].contains(self) }
}

/// A delivery as the outbox sees it.
public struct DeliveryEntry: Codable, Sendable, Identifiable {
    public var id: Int64
    /// nil for a message about the node itself.
    public var studyInstanceUID: UID?
    public var destination: String
    public var state: DeliveryState
    /// Lower is sent first.
    public var priority: Int
    public var attempts: Int
    public var nextAttemptAt: Date
    public var lastError: String?
    public var createdAt: Date
    public var deliveredAt: Date?
    /// Empty where a message is owed.
    public var objects: [DeliveryObject]
    public var message: OutboundMessage?
    /// The fallback that has taken what is accepted; nil: the destination itself.
    public var takenBy: String?
    /// Under which commitment was asked for; nil once something is sent again.
    public var transactionUID: UID?
    /// When the destination promised to report on it. Of a message: when an attempt first ended that its receiver may
    /// have got it by, taken or not.
    public var commitmentAskedAt: Date?

    /// Who is asked for commitment.
    public var taker: String { takenBy ?? destination }

    /// A message that its receiver cannot have: every attempt ended before it was sent.
    public var isUnheard: Bool { message != nil && commitmentAskedAt == nil && state != .delivered }

    /// The error of one that was accepted and on which no report of commitment came, until it is tried again. After
    /// more than `mostUnreported` attempts it stays, also where all is accepted again, until a report comes.
    public static let unreported = "no report of commitment came in time; all is sent again"
    /// Attempts up to which a report that does not come may have been lost.
    public static let mostUnreported = 1
}

public struct DeliveryObject: Codable, Sendable, Equatable {
    public var object: ComposedObject
    public var state: DeliveryState
    /// Last C-STORE status, or Failure Reason of a commitment.
    public var status: UInt16?
    /// Why it was not taken; nil where it was, or nothing was said.
    public var reason: String?
    /// What it can be for a destination that refuses it, in order; nil: nothing else.
    public var alternatives: [ComposedObject]?
    /// How many of all these were refused in a row; nil: none.
    public var refusals: Int?
    public init(object: ComposedObject, state: DeliveryState, status: UInt16?) {
        self.object = object
        self.state = state
        self.status = status
    }

    /// Refused for good: next is the first alternative, if one is left.
    public mutating func refuse(status: UInt16?, reason: String) {
        (self.status, self.reason) = (status, reason)
        refusals = (refusals ?? 0) + 1
        guard let next = alternatives?.first else {
            state = .dead
            return
        }
        alternatives = (alternatives?.dropFirst() ?? []) + [object]
        object = next
        state = refusals == alternatives.map { $0.count + 1 } ? .dead : .pending
    }
}

/// One line of a study's history.
public struct StudyEvent: Codable, Sendable {
    public var at: Date
    public var kind: String
    public var text: String
}

/// All that is known of one study.
public struct StudyDetail: Codable, Sendable {
    public var study: StudyEntry
    public var series: [SeriesVerdictEntry]
    public var analyses: [AnalysisEntry]
    public var deliveries: [DeliveryEntry]
    public var events: [StudyEvent]
}
