internal import Foundation
internal import Ledger
internal import WorkerProtocol

/// The JSON that a webhook gets: docs/webhook-event.schema.json.
struct WebhookEvent: Encodable {
    struct Sender: Encodable, Sendable {
        var aeTitle: String
        var softwareVersion: String
        enum CodingKeys: String, CodingKey {
            case aeTitle = "ae_title"
            case softwareVersion = "software_version"
        }
    }

    struct Study: Encodable {
        var studyInstanceUID: UID
        /// Both only where the receiver may know them.
        var accessionNumber: String?
        var patient: Patient?
        enum CodingKeys: String, CodingKey {
            case studyInstanceUID = "study_instance_uid"
            case accessionNumber = "accession_number"
            case patient
        }
    }

    struct Patient: Encodable {
        var id: String?
        var issuerOfID: String?
        var name: String?
        var birthDate: String?
        var sex: String?
        enum CodingKeys: String, CodingKey {
            case id
            case issuerOfID = "issuer_of_id"
            case name
            case birthDate = "birth_date"
            case sex
        }
    }

    struct Model: Encodable {
        var name: String
        var version: String
        var digest: String
    }

    struct Result: Encodable {
        var presence: Presence
        var probability: Double?
        var threshold: Double
        var flagged: [UID]
        var report: UID
        var revision: Int
        var model: Model
        var lastReceivedAt: String
        var analysedAt: String
        enum CodingKeys: String, CodingKey {
            case presence, probability, threshold, revision, model
            case flagged = "flagged_sop_instance_uids"
            case report = "report_sop_instance_uid"
            case lastReceivedAt = "last_image_received_at"
            case analysedAt = "analysed_at"
        }
    }

    struct Alert: Encodable {
        var number: Int64
        var kind: OperatorAlertKind
        var subject: String
        var text: String
        var occurrence: Int
        var raisedAt: String
        var clearedAt: String?
        enum CodingKeys: String, CodingKey {
            case number, kind, subject, text, occurrence
            case raisedAt = "raised_at"
            case clearedAt = "cleared_at"
        }
    }

    var version = 1
    var id = UUID().uuidString.lowercased()
    var kind: String
    var createdAt: String
    var node: Sender
    var study: Study?
    var result: Result?
    var alert: Alert?
    enum CodingKeys: String, CodingKey {
        case version, id, kind, node, study, result, alert
        case createdAt = "created_at"
    }

    init(_ finding: FindingAlert, includesPatient: Bool, node: Sender) {
        kind = finding.kind.rawValue
        createdAt = EventTime.text(finding.concludedAt)
        self.node = node
        study = Study(studyInstanceUID: finding.studyInstanceUID)
        if includesPatient {
            let patient = finding.identity.patient
            study?.accessionNumber = finding.identity.study.accessionNumber
            study?.patient = Patient(
                id: patient.id, issuerOfID: patient.issuerOfID, name: patient.name, birthDate: patient.birthDate,
                sex: patient.sex)
        }
        result = Result(
            presence: finding.presence, probability: finding.probability, threshold: finding.threshold,
            flagged: finding.flagged, report: finding.report, revision: finding.revision,
            model: Model(name: finding.model.name, version: finding.model.version, digest: finding.model.digest),
            lastReceivedAt: EventTime.text(finding.lastReceivedAt), analysedAt: EventTime.text(finding.analysedAt))
    }

    init(_ change: OperatorAlertEntry, node: Sender, at moment: Date) {
        kind = change.clearedAt == nil ? "operator-alert" : "operator-alert-cleared"
        createdAt = EventTime.text(moment)
        self.node = node
        alert = Alert(
            number: change.id, kind: change.kind, subject: change.subject, text: change.text,
            occurrence: change.occurrence, raisedAt: EventTime.text(change.raisedAt),
            clearedAt: change.clearedAt.map { EventTime.text($0) })
    }

    /// Patient where it is named, presence, probability as reports have it.
    static func said(by message: OutboundMessage) -> [String?] {
        struct Said: Decodable {
            struct Study: Decodable { var patient: Patient? }
            struct Patient: Decodable { var id: String? }
            struct Result: Decodable {
                var presence: Presence
                var probability: Double?
            }
            var study: Study?
            var result: Result?
        }
        guard let said = try? JSONDecoder().decode(Said.self, from: Data(message.body.utf8)) else { return [] }
        return [
            said.study?.patient?.id, said.result?.presence.rawValue, said.result?.probability.map(ReportText.number),
        ]
    }

    var message: OutboundMessage {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return OutboundMessage(id: id, body: String(decoding: try encoder.encode(self), as: UTF8.self))
        }
    }
}
