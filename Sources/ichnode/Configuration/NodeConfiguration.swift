import AlertDispatcher
import Console
import Foundation
import ICHModel
import StoreSCP
import WorkerProtocol

/// The node's settings. Defaults, units and reasons are in the annotated example `etc/ichnode.yaml`; a test holds both
/// equal.
struct NodeConfiguration: Sendable, Equatable {
    struct Node: Sendable, Equatable {
        var aeTitle: AETitle
        /// Called AE titles that we answer to beside our own.
        var furtherAETitles: [AETitle] = []
        var allAETitles: [AETitle] { [aeTitle] + furtherAETitles }
        var dataDirectory: String
        var runDirectory: String
        var model: String
        var logLevel: String
        var inferenceThreads: Int
    }

    struct DICOMPort: Sendable, Equatable {
        /// nil: closed.
        var port: Int?
        var bind: [String]
        var allowedNetworks: [NetworkBlock]
        var allowedCallingAETitles: [AETitle]
        var mostAssociations: Int
        var mostAssociationsPerPeer: Int
        var admissionQueueSeconds: Double
        var requestDeadlineSeconds: Double
        var idleTimeoutSeconds: Double
        var associationDeadlineSeconds: Double
        var stopDeadlineSeconds: Double
        var warmWorkers: Int
        var maxPDUBytes: Int
        var mostObjectMebibytes: Int
        var sequenceDepth: Int
        var extraSOPClasses: [UID]
    }

    struct TLS: Sendable, Equatable {
        enum Clients: String, CaseIterable, Sendable { case required, none }

        var port: Int
        var certificate: String
        var key: String
        /// Not used where no certificate is asked for.
        var authorities: String
        var clients: Clients

        var files: TLSFiles {
            TLSFiles(certificate: certificate, key: key, authorities: clients == .required ? authorities : nil)
        }
    }

    struct Disk: Sendable, Equatable {
        var rejectAssociationsBelowMebibytes: Int
        var refuseObjectsBelowMebibytes: Int
    }

    struct Completion: Sendable, Equatable {
        var graceSeconds: Double
        var quietSeconds: Double
        var deadlineSeconds: Double
    }

    struct Retention: Sendable, Equatable {
        /// nil: for ever.
        var keepDays: Double?
        var leastKeepHours: Double
    }

    struct Delivery: Sendable, Equatable {
        var firstRetrySeconds: Double
        var mostRetrySeconds: Double
        /// nil: never given up.
        var mostAgeHours: Double?
    }

    struct Audit: Sendable, Equatable {
        var isEnabled = true
        var fileMebibytes = 64
        /// Closed ones.
        var keepFiles = 16
        /// nil: none is told.
        var enterpriseSite: String?
    }

    struct Alerts: Sendable, Equatable {
        var mostStudyAgeHours: Double
    }

    struct Peer: Sendable, Equatable {
        /// Whether results are delivered when they are accepted, or when the peer has committed to keep them.
        enum Commitment: String, CaseIterable, Sendable { case none, required }

        var name: String
        var remote: RemotePeer
        /// What we call ourselves there.
        var callingAETitle: AETitle
        var commitment = Commitment.none
        var commitmentTimeoutSeconds = 21600.0
        /// Name of the peer that gets the results while this one cannot be reached; nil: none.
        var fallback: String?
        var fallbackAfterSeconds = 60.0
    }

    struct OperatorAlerts: Sendable, Equatable {
        var checkSeconds: Double
        var noResultMinutes: Double
        var destinationMinutes: Double
        var diskBelowMebibytes: Int
        var crashes: Int
        var crashWindowMinutes: Double
        var certificateDays: Double
        /// Names.
        var webhooks: [String]
        /// nil: none is sent.
        var mail: Mail?

        var policy: OperatorAlertPolicy {
            OperatorAlertPolicy(
                noResult: .seconds(noResultMinutes * 60), destinationFailing: .seconds(destinationMinutes * 60),
                diskBelow: UInt64(diskBelowMebibytes) << 20, crashes: crashes,
                crashWindow: .seconds(crashWindowMinutes * 60), certificate: .seconds(certificateDays * 86400))
        }
    }

    /// Key material, and which part of the handshake it is for.
    struct KeyMaterial: Sendable, Hashable {
        var files: TLSFiles
        var side: TLSSide
    }

    var node: Node
    var dicom: DICOMPort
    /// nil: no TLS port.
    var tls: TLS?
    var disk: Disk
    var completion: Completion
    var selection: SelectionRules
    var retention: Retention
    var delivery: Delivery
    var audit: Audit
    var alerts: Alerts
    var console: ConsoleSettings
    var peers: [Peer]
    var webhooks: [Webhook]
    var operatorAlerts: OperatorAlerts
    var hl7: [HL7ReceiverSettings]
    var routes: [Route]

    var routeTable: RouteTable {
        RouteTable(
            routes, peers: Dictionary(peers.map { ($0.name, $0.remote.aeTitle) }) { first, _ in first })
    }

    /// All of it, each once.
    var keyMaterials: [KeyMaterial] {
        var found = [tls?.files, console.tls].compactMap { $0 }.map { KeyMaterial(files: $0, side: .accepting) }
        for files in (peers.map(\.remote.tls) + hl7.map(\.tls)).compactMap({ $0?.files }) {
            let material = KeyMaterial(files: files, side: .requesting)
            if !found.contains(material) { found.append(material) }
        }
        return found
    }

    /// Whether what was found out about a study by the other would be found out by this one too.
    func judgesStudies(as other: NodeConfiguration) -> Bool {
        selection == other.selection && routes == other.routes && peers == other.peers
    }

    var watermarks: DiskWatch.Watermarks {
        DiskWatch.Watermarks(
            association: UInt64(disk.rejectAssociationsBelowMebibytes) << 20,
            object: UInt64(disk.refuseObjectsBelowMebibytes) << 20)
    }

    func admissionRules(hasRoom: @escaping @Sendable () -> Bool) -> AdmissionRules {
        AdmissionRules(
            calledAETitles: node.allAETitles, callingAETitles: dicom.allowedCallingAETitles,
            allowedNetworks: dicom.allowedNetworks, mostAssociations: dicom.mostAssociations,
            mostAssociationsPerPeer: dicom.mostAssociationsPerPeer, queueTime: .seconds(dicom.admissionQueueSeconds),
            requestDeadline: .seconds(dicom.requestDeadlineSeconds), hasRoom: hasRoom)
    }

    /// - Parameter hasRoom: whether the disk has room to store anything.
    func reception(hasRoom: @escaping @Sendable () -> Bool) -> Reception.Settings {
        Reception.Settings(
            addresses: dicom.bind, ports: DICOMPorts(plain: dicom.port, tls: tls?.port),
            rules: admissionRules(hasRoom: hasRoom), warmWorkers: dicom.warmWorkers,
            extraSOPClasses: dicom.extraSOPClasses, maxPDUBytes: dicom.maxPDUBytes,
            idleTimeout: .seconds(dicom.idleTimeoutSeconds),
            associationDeadline: .seconds(dicom.associationDeadlineSeconds),
            stopDeadline: .seconds(dicom.stopDeadlineSeconds),
            limits: ObjectLimits(sequenceDepth: dicom.sequenceDepth, objectBytes: dicom.mostObjectMebibytes << 20),
            leastFreeBytes: watermarks.object)
    }

    var completionPolicy: CompletionPolicy {
        CompletionPolicy(
            grace: .seconds(completion.graceSeconds), quietTime: .seconds(completion.quietSeconds),
            deadline: .seconds(completion.deadlineSeconds))
    }

    var retentionPolicy: StoreSCP.Retention.Policy {
        StoreSCP.Retention.Policy(
            keep: retention.keepDays.map { .seconds($0 * 86400) }, leastKeep: .seconds(retention.leastKeepHours * 3600))
    }

    var retryPolicy: Outbox.RetryPolicy {
        Outbox.RetryPolicy(
            first: .seconds(delivery.firstRetrySeconds), most: .seconds(delivery.mostRetrySeconds),
            mostAge: delivery.mostAgeHours.map { .seconds($0 * 3600) })
    }
}
