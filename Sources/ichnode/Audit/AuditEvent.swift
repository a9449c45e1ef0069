import AlertDispatcher
import Console
import Foundation
import StoreSCP
import WorkerProtocol

/// What happened, as it is known where it happens.
enum AuditEvent: Sendable {
    case started
    case stopped
    case reception(ReceptionEvent)
    /// Refusals beyond what is recorded singly.
    case furtherRefusals(Int)
    case delivery(DeliveryAttempt, to: NodeConfiguration.Peer)
    case query(StudyQuery)
    case command(OperatorAction)
    /// Retention removed a study's images.
    case removed(study: UID, files: Int, trouble: String?)
    case auditLogUsed(by: String)
    /// The configuration was read again. Keys whose change counts; why the file was refused, nil where it was not.
    case configured(file: String, by: String, changes: [String], failure: String?)
    /// Of the console.
    case access(AccessEvent)
    /// Sign-ins that were refused, beyond what is recorded singly.
    case furtherSignIns(Int)
    /// Messages that found no room in the queue.
    case lost(Int)

    /// The study whose patient a message has to name, where the event does not say it.
    var studyInstanceUID: UID? {
        switch self {
        case .delivery(let attempt, _): attempt.studyInstanceUID
        case .command(let action): action.studyInstanceUID
        case .removed(let study, _, _): study
        case .access(.viewed(let study, _, _)): study
        case .started, .stopped, .reception, .furtherRefusals, .query, .auditLogUsed, .configured, .access,
            .furtherSignIns, .lost:
            nil
        }
    }
}

/// A C-FIND that we made: which series of a study a peer holds.
struct StudyQuery: Sendable {
    var studyInstanceUID: UID
    var peer: NodeConfiguration.Peer
    /// What was in the way; nil where it was answered.
    var failure: String?

    static let sopClassUID = "1.2.840.10008.5.1.4.1.2.2.1"
    static let transferSyntaxUID = "1.2.840.10008.1.2.1"

    /// The identifier, in Explicit VR Little Endian: level SERIES, the study, and the keys that are asked for.
    var identifier: Data {
        Self.element(0x0008, 0x0052, "CS", "SERIES", padding: " ")
            + Self.element(0x0020, 0x000d, "UI", studyInstanceUID.string, padding: "\0")
            + Self.element(0x0020, 0x000e, "UI", "", padding: "\0")
            + Self.element(0x0020, 0x1209, "IS", "", padding: " ")
    }

    private static func element(
        _ group: UInt16, _ element: UInt16, _ vr: String, _ value: String, padding: Character
    ) -> Data {
        let text = value.utf8.count % 2 == 0 ? value : value + String(padding)
        func littleEndian(_ number: UInt16) -> [UInt8] { [UInt8(number & 0xff), UInt8(number >> 8)] }
        return Data(
            littleEndian(group) + littleEndian(element) + Array(vr.utf8) + littleEndian(UInt16(text.utf8.count))
                + Array(text.utf8))
    }
}

/// An operator's command about one study.
struct OperatorAction: Sendable {
    /// As it was typed.
    var command: String
    /// Whether it changes what the node keeps of the study, or only uses its images.
    var changes: Bool
    /// login@host
    var user: String
    var studyInstanceUID: UID
    /// Why it was refused; nil where it was not.
    var failure: String?
}
