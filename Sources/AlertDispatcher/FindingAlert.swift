public import Foundation
public import Ledger
public import WorkerProtocol

/// What an alert says of one study, for whatever channel.
public struct FindingAlert: Sendable, Equatable {
    public enum Kind: String, Codable, Sendable {
        /// A positive study.
        case finding
        /// A study of which a finding was alerted, and of which a later report says otherwise.
        case correction
    }

    public var kind: Kind
    public var studyInstanceUID: UID
    public var patient: PatientIdentity
    public var accessionNumber: String?
    public var presence: Presence
    /// nil where the study is undetermined.
    public var probability: Double?
    public var threshold: Double
    /// SOP Instance UIDs of stored objects, feet → head, each once.
    public var flagged: [UID]
    public var modelName: String
    public var modelVersion: String
    public var modelDigest: String
    /// The Structured Report that says the same.
    public var report: UID
    /// 1 for the first report on the study.
    public var revision: Int
    public var lastReceivedAt: Date
    public var analysedAt: Date

    public init(
        kind: Kind, studyInstanceUID: UID, patient: PatientIdentity, accessionNumber: String?, presence: Presence,
        probability: Double?, threshold: Double, flagged: [UID], modelName: String, modelVersion: String,
        modelDigest: String, report: UID, revision: Int, lastReceivedAt: Date, analysedAt: Date
    ) {
        self.kind = kind
        self.studyInstanceUID = studyInstanceUID
        self.patient = patient
        self.accessionNumber = accessionNumber
        self.presence = presence
        self.probability = probability
        self.threshold = threshold
        self.flagged = flagged.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
        self.modelName = modelName
        self.modelVersion = modelVersion
        self.modelDigest = modelDigest
        self.report = report
        self.revision = revision
        self.lastReceivedAt = lastReceivedAt
        self.analysedAt = analysedAt
    }
}

/// Puts alerts into the words of one receiver; the destination of the same name delivers them.
public protocol AlertChannel: Sendable {
    var name: String { get }
    /// - Parameter moment: of the conclusion.
    func message(of alert: FindingAlert, at moment: Date) throws -> OutboundMessage
}

/// Puts operators' alerts, raised or cleared, into the words of one receiver; the destination of the same name delivers
/// them.
public protocol OperatorAlertChannel: Sendable {
    var name: String { get }
    func messages(of changes: [OperatorAlertEntry], at moment: Date) throws -> [OutboundMessage]
}
