import Foundation
import WorkerProtocol

/// One audit message (PS3.15 §A.5.1.1), as the schema has it.
struct AuditMessage: Sendable {
    enum Action: String, Sendable {
        case create = "C"
        case read = "R"
        case update = "U"
        case delete = "D"
        case execute = "E"
    }

    enum Outcome: String, Sendable {
        case success = "0"
        case minorFailure = "4"
        case seriousFailure = "8"
    }

    struct Participant: Sendable {
        var userID: String
        var aeTitles: [AETitle] = []
        var userName: String?
        var isRequestor = false
        var role: AuditCode?
        /// IP address or host name.
        var address: String?
    }

    struct Object: Sendable {
        enum Kind: String, Sendable {
            case person = "1"
            case system = "2"
        }
        enum Role: String, Sendable {
            case patient = "1"
            case report = "3"
            case securityResource = "13"
        }

        var kind: Kind
        var role: Role?
        var idType: AuditCode
        var id: String
        var name = ""
        /// In place of the name.
        var query: Data?
        var details: [(type: String, value: String)] = []
        var accessionNumber: String?
        /// Instances by SOP class; nil for a class that is not known.
        var counts: [UID?: Int] = [:]
    }

    var event: AuditCode
    var type: AuditCode?
    var action: Action
    var outcome = Outcome.success
    var outcomeDescription: String?
    var participants: [Participant]
    var objects: [Object] = []
}

/// Who reports.
struct AuditSource: Sendable {
    var id: String
    var enterpriseSite: String?

    /// - Returns: the message on one line.
    func xml(_ message: AuditMessage, at time: Date) -> String {
        let children =
            [Self.event(message, time)] + message.participants.map(Self.participant)
            + [
                XMLText.element(
                    "AuditSourceIdentification", [("AuditSourceID", id), ("AuditEnterpriseSiteID", enterpriseSite)],
                    // Application server process.
                    [XMLText.element("AuditSourceTypeCode", [("csd-code", "4")])])
            ] + message.objects.map(Self.object)
        return XMLText.element("AuditMessage", [], children)
    }

    private static func event(_ message: AuditMessage, _ time: Date) -> String {
        XMLText.element(
            "EventIdentification",
            [
                ("EventActionCode", message.action.rawValue), ("EventDateTime", time.formatted(dateTime)),
                ("EventOutcomeIndicator", message.outcome.rawValue),
            ],
            [code("EventID", message.event)] + (message.type.map { [code("EventTypeCode", $0)] } ?? [])
                + (message.outcomeDescription.map { [XMLText.element("EventOutcomeDescription", text: $0)] } ?? []))
    }

    private static let dateTime = Date.ISO8601FormatStyle(includingFractionalSeconds: true)

    private static func code(_ name: String, _ code: AuditCode) -> String {
        XMLText.element(
            name, [("csd-code", code.value), ("codeSystemName", code.system), ("originalText", code.meaning)])
    }

    /// AE titles as §A.5.2.2 has them.
    private static func participant(_ each: AuditMessage.Participant) -> String {
        XMLText.element(
            "ActiveParticipant",
            [
                ("UserID", each.userID),
                (
                    "AlternativeUserID",
                    each.aeTitles.isEmpty ? nil : "AETITLES=\(each.aeTitles.map(\.string).joined(separator: ";"))"
                ), ("UserName", each.userName), ("UserIsRequestor", "\(each.isRequestor)"),
                ("NetworkAccessPointID", each.address),
                ("NetworkAccessPointTypeCode", each.address.map { isIPAddress($0) ? "2" : "1" }),
            ], each.role.map { [code("RoleIDCode", $0)] } ?? [])
    }

    private static func isIPAddress(_ text: String) -> Bool {
        text.contains(":") || text.allSatisfy { $0 == "." || ("0"..."9").contains($0) }
    }

    private static func object(_ each: AuditMessage.Object) -> String {
        var children = [code("ParticipantObjectIDTypeCode", each.idType)]
        if let query = each.query {
            children.append(XMLText.element("ParticipantObjectQuery", text: query.base64EncodedString()))
        } else {
            children.append(XMLText.element("ParticipantObjectName", text: each.name))
        }
        children += each.details.map { detail in
            let value = Data(detail.value.utf8).base64EncodedString()
            return XMLText.element("ParticipantObjectDetail", [("type", detail.type), ("value", value)])
        }
        let classes = each.counts.sorted { ($0.key?.string ?? "") < ($1.key?.string ?? "") }
        if !classes.isEmpty {
            let accession = each.accessionNumber.map { [XMLText.element("Accession", [("Number", $0)])] } ?? []
            children.append(
                XMLText.element(
                    "ParticipantObjectDescription", [],
                    accession
                        + classes.map {
                            XMLText.element(
                                "SOPClass", [("UID", $0.key?.string), ("NumberOfInstances", "\($0.value)")])
                        }))
        }
        return XMLText.element(
            "ParticipantObjectIdentification",
            [
                ("ParticipantObjectID", each.id), ("ParticipantObjectTypeCode", each.kind.rawValue),
                ("ParticipantObjectTypeCodeRole", each.role?.rawValue),
            ], children)
    }
}

/// XML 1.0 without line breaks.
enum XMLText {
    /// - Parameter children: XML. Attributes that are nil are left out.
    static func element(_ name: String, _ attributes: [(String, String?)], _ children: [String] = []) -> String {
        let opening =
            name + attributes.map { key, value in value.map { " \(key)=\"\(escaped($0))\"" } ?? "" }.joined()
        return children.isEmpty ? "<\(opening)/>" : "<\(opening)>\(children.joined())</\(name)>"
    }

    static func element(_ name: String, text: String) -> String { "<\(name)>\(escaped(text))</\(name)>" }

    /// What a header holds may be anything: characters that XML cannot have become U+FFFD.
    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x26: result += "&amp;"
            case 0x3c: result += "&lt;"
            case 0x3e: result += "&gt;"
            case 0x22: result += "&quot;"
            case 0x09, 0x0a, 0x0d: result += "&#\(scalar.value);"
            case 0x20...0xd7ff, 0xe000...0xfffd, 0x10000...0x10ffff: result.unicodeScalars.append(scalar)
            default: result += "\u{fffd}"
            }
        }
        return result
    }
}
