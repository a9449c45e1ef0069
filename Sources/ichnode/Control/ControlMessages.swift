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
