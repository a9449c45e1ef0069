/// A coded value of an audit message (PS3.15 §A.5.1.1, CodedValueType).
struct AuditCode: Sendable, Equatable {
    var value: String
    var system: String
    var meaning: String

    private static func dcm(_ value: String, _ meaning: String) -> AuditCode {
        AuditCode(value: value, system: "DCM", meaning: meaning)
    }

    // PS3.16 CID 400, Audit Event ID.
    static let applicationActivity = dcm("110100", "Application Activity")
    static let auditLogUsed = dcm("110101", "Audit Log Used")
    static let beginTransferring = dcm("110102", "Begin Transferring DICOM Instances")
    static let instancesAccessed = dcm("110103", "DICOM Instances Accessed")
    static let instancesTransferred = dcm("110104", "DICOM Instances Transferred")
    static let studyDeleted = dcm("110105", "DICOM Study Deleted")
    static let query = dcm("110112", "Query")
    static let securityAlert = dcm("110113", "Security Alert")
    static let userAuthentication = dcm("110114", "User Authentication")

    static let events: [AuditCode] = [
        applicationActivity, auditLogUsed, beginTransferring, instancesAccessed, instancesTransferred, studyDeleted,
        query, securityAlert, userAuthentication,
    ]

    // CID 401, Audit Event Type Code.
    static let applicationStart = dcm("110120", "Application Start")
    static let applicationStop = dcm("110121", "Application Stop")
    static let login = dcm("110122", "Login")
    static let logout = dcm("110123", "Logout")
    static let nodeAuthentication = dcm("110126", "Node Authentication")
    static let softwareConfiguration = dcm("110131", "Software Configuration")
    static let auditRecordingStopped = dcm("110133", "Audit Recording Stopped")

    static let types: [AuditCode] = [
        applicationStart, applicationStop, login, logout, nodeAuthentication, softwareConfiguration,
        auditRecordingStopped,
    ]

    // CID 402, Audit Active Participant Role ID Code.
    static let application = dcm("110150", "Application")
    static let destination = dcm("110152", "Destination Role ID")
    static let source = dcm("110153", "Source Role ID")

    static let roles: [AuditCode] = [application, destination, source]

    // CID 404, Audit Participant Object ID Type Code.
    static let studyInstanceUID = dcm("110180", "Study Instance UID")
    static let sopClassUID = dcm("110181", "SOP Class UID")
    static let nodeID = dcm("110182", "Node ID")

    // PS3.15 §A.5.1.2.4.
    static let patientNumber = AuditCode(value: "2", system: "RFC-3881", meaning: "Patient Number")
    static let uri = AuditCode(value: "12", system: "RFC-3881", meaning: "URI")
    static let objectIDTypes: [AuditCode] = [studyInstanceUID, sopClassUID, nodeID, patientNumber, uri]
}
