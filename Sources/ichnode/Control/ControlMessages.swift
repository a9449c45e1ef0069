import Foundation
import Ledger
import WorkerProtocol

/// What an operator's command asks of the running node, over `control.sock`.
enum ControlRequest: Codable, Sendable {
    case listStudies(limit: Int)
    case showStudy(UID)
    /// Nothing more will come: decide now.
    case completeStudy(UID)
}

enum ControlResponse: Codable, Sendable {
    case studies([StudyEntry])
    case study(StudyDetail)
    case done(String)
    case failed(String)
}
