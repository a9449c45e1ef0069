import Foundation
import Ledger
import WorkerProtocol

/// What an operator's command asks of the running node, over `control.sock`.
enum ControlRequest: Codable, Sendable {
    case listStudies(limit: Int)
    case showStudy(UID)
    /// Nothing more will come: decide now.
    case completeStudy(UID)
    /// Analyse again, with the model and configuration of now.
    case reprocessStudy(UID)
    /// Neither analyse nor report it.
    case ignoreStudy(UID)
    /// Analyse what was ignored, or held for a conflict of identity.
    case releaseStudy(UID)
    /// The results of its latest analysis go once more to where they went.
    case resendStudy(UID)
    case explainStudy(UID)
    case listDeliveries(all: Bool, limit: Int)
    case retryDelivery(Int64)
    case discardDelivery(Int64)
    case showAudit(limit: Int)
    case listOperatorAlerts(all: Bool, limit: Int)
    /// Which node this is.
    case showNode
    case reloadConfiguration
}

enum ControlResponse: Codable, Sendable {
    case studies([StudyEntry])
    case study(StudyDetail)
    case explanation(StudyExplanation)
    case deliveries([DeliveryEntry])
    /// XML, one message each.
    case auditMessages([String])
    case operatorAlerts([OperatorAlertEntry])
    case node(NodeStanding)
    case reloaded(ConfigurationReload)
    case done(String)
    case failed(String)
}

/// Which node runs, and with what.
struct NodeStanding: Codable, Sendable {
    var version: String
    var processID: Int32
    /// The file that it has read, and the digest of its text.
    var configurationFile: String
    var configurationDigest: String
    /// What the file says otherwise than what is in force until the next start: "dicom.port". nil of a node that does
    /// not know that.
    var pendingKeys: [String]?
    /// As configured.
    var ports: [Int]
}

/// What came of reading the configuration again.
struct ConfigurationReload: Codable, Sendable {
    var changes: [ConfigurationChange]
    /// Of certificates, and of what is wrong with the configuration that was in force before too.
    var warnings: [String]
}
