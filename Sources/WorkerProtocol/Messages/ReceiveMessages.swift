/// Daemon → `ichnode-dicom receive`. The connected socket travels with `serve` as a descriptor.
public enum ReceiveRequest: Codable, Sendable {
    /// Serve one association on the socket that comes along, then exit.
    case serve(AssociationJob)
    /// Answer to `ReceiveEvent.collision`.
    case verdict(CollisionVerdict)
    /// Answer to `ReceiveEvent.commitment`.
    case commitment(CommitmentAnswer)
    /// Release nothing, accept nothing more: abort the association after the object under way.
    case stop
}

/// Everything the worker needs to know of the association it is to serve. Paths are absolute.
public struct AssociationJob: Codable, Sendable, Equatable {
    /// Names the association in logs and temporary files.
    public var associationID: String
    public var peerAddress: String
    /// Titles that we answer to; the daemon checked the request already, the worker checks again.
    public var calledAETitles: [AETitle]
    /// Storage SOP classes beyond the standard's.
    public var extraSOPClasses: [UID]
    public var maxPDUBytes: Int
    /// Seconds to wait for a peer's next byte.
    public var idleTimeoutSeconds: Double
    /// Seconds that the association may last in all.
    public var deadlineSeconds: Double
    public var limits: ObjectLimits
    /// With less than so many bytes free, objects are refused with 0xA700.
    public var leastFreeBytes: UInt64
    /// Where the peer speaks TLS: then the worker has the handshake before it, and admits.
    public var tls: SecureAdmission?

    public init(
        associationID: String, peerAddress: String, calledAETitles: [AETitle], extraSOPClasses: [UID] = [],
        maxPDUBytes: Int = 131_072, idleTimeoutSeconds: Double = 60, deadlineSeconds: Double = 3600,
        limits: ObjectLimits = .init(), leastFreeBytes: UInt64 = 0, tls: SecureAdmission? = nil
    ) {
        self.associationID = associationID
        self.peerAddress = peerAddress
        self.calledAETitles = calledAETitles
        self.extraSOPClasses = extraSOPClasses
        self.maxPDUBytes = maxPDUBytes
        self.idleTimeoutSeconds = idleTimeoutSeconds
        self.deadlineSeconds = deadlineSeconds
        self.limits = limits
        self.leastFreeBytes = leastFreeBytes
        self.tls = tls
    }
}

/// What the daemon checks of a request on the plain port, and cannot see within TLS.
public struct SecureAdmission: Codable, Sendable, Equatable {
    public var rules: AssociationRules
    /// Whether there was room to store anything when the connection was handed over.
    public var hasRoom: Bool
    /// Seconds for the handshake and the whole A-ASSOCIATE-RQ together.
    public var requestSeconds: Double

    public init(rules: AssociationRules, hasRoom: Bool = true, requestSeconds: Double = 10) {
        self.rules = rules
        self.hasRoom = hasRoom
        self.requestSeconds = requestSeconds
    }
}

/// Bounds on one received object; what exceeds them is refused, never truncated.
public struct ObjectLimits: Codable, Sendable, Equatable {
    /// Depth of sequences within sequences. Real objects stay below 10; the DCMTK at hand dies near 320 (on a small
    /// stack).
    public var sequenceDepth: Int
    /// Bytes of one element's value before Pixel Data.
    public var elementBytes: Int
    /// Bytes of the header: all before Pixel Data (7FE0,0010), after inflation where deflated.
    public var headerBytes: Int
    /// Bytes of the whole data set as sent.
    public var objectBytes: Int
    /// Inflated bytes for each deflated byte.
    public var deflateRatio: Int

    /// The widest that a configuration may set: what is stored is within them, whatever was configured when it came.
    public static let widest = ObjectLimits(sequenceDepth: 100, objectBytes: 4095 << 20)

    public init(
        sequenceDepth: Int = 32, elementBytes: Int = 64 << 20, headerBytes: Int = 128 << 20, objectBytes: Int = 2 << 30,
        deflateRatio: Int = 1032
    ) {
        self.sequenceDepth = sequenceDepth
        self.elementBytes = elementBytes
        self.headerBytes = headerBytes
        self.objectBytes = objectBytes
        self.deflateRatio = deflateRatio
    }
}

/// `ichnode-dicom receive` → daemon.
public enum ReceiveEvent: Codable, Sendable {
    /// The association was accepted; sent before its first DIMSE message is read.
    case accepted(AssociationAccepted)
    /// What the instances that follow have in common, until another is told.
    case common(CommonAttributes)
    /// An object is durable in the spool, under the name that its UIDs and version give. Sent right before the C-STORE
    /// response. Where `refused` follows, its name may not survive a power cut, and the sender was told to come again.
    /// - Parameter microseconds: since its command was read.
    case stored(OwnAttributes, microseconds: Int)
    /// The final name exists already; the worker waits for the verdict.
    case collision(Collision)
    /// An object was refused with a status of the 0xA000 or 0xC000 range; nothing of it remains.
    case refused(InstanceRefused)
    /// C-ECHO was answered.
    case echoed
    /// A peer reports whether it keeps what was sent to it; the worker waits for the answer.
    case commitment(CommitmentReport)
    /// Such a report was refused.
    case reportRefused(reason: String)
    /// Last message; the worker exits after it.
    case ended(AssociationEnded)
}

public struct AssociationAccepted: Codable, Sendable, Equatable {
    public var callingAETitle: AETitle
    public var calledAETitle: AETitle
    public var acceptedContexts: Int
    public var proposedContexts: Int
    public var implementation: String
    public var tls: SecureConnection?
    public init(
        callingAETitle: AETitle, calledAETitle: AETitle, acceptedContexts: Int, proposedContexts: Int,
        implementation: String = "", tls: SecureConnection? = nil
    ) {
        self.callingAETitle = callingAETitle
        self.calledAETitle = calledAETitle
        self.acceptedContexts = acceptedContexts
        self.proposedContexts = proposedContexts
        self.implementation = implementation
        self.tls = tls
    }
}

/// What a TLS handshake agreed on.
public struct SecureConnection: Codable, Sendable, Equatable {
    /// Such as TLSv1.3.
    public var version: String
    public var cipher: String
    /// Subject of the peer's certificate, which was verified; nil where none was asked for.
    public var peerCertificate: String?
    public init(version: String, cipher: String, peerCertificate: String? = nil) {
        self.version = version
        self.cipher = cipher
        self.peerCertificate = peerCertificate
    }
}

/// A SOP instance arrived whose name is taken. The daemon compares; the worker may not read what is committed.
public struct Collision: Codable, Sendable, Equatable {
    public var record: InstanceRecord
    /// The new object, durable in `incoming/`.
    public var temporaryPath: String
    public var existingPath: String
    public init(record: InstanceRecord, temporaryPath: String, existingPath: String) {
        self.record = record
        self.temporaryPath = temporaryPath
        self.existingPath = existingPath
    }
}

public enum CollisionVerdict: Codable, Sendable, Equatable {
    /// Same data set bytes: acknowledge, discard the copy.
    case identical
    /// Other bytes: keep under this path as a version; acknowledge. The version number goes into the record.
    case keepAs(path: String, version: Int)
    /// Cannot be compared or kept: refuse with 0xA700, the sender tries again.
    case refuse(reason: String)
}

public struct InstanceRefused: Codable, Sendable, Equatable {
    public var status: UInt16
    /// Lower-case phrase, no patient identity; also sent to the peer as Error Comment (0000,0902).
    public var reason: String
    public var object: LostObject
    public init(status: UInt16, reason: String, object: LostObject) {
        self.status = status
        self.reason = reason
        self.object = object
    }
}

/// An object that was announced, and did not arrive or was refused.
public struct LostObject: Codable, Sendable, Equatable {
    /// Of the presentation context.
    public var sopClassUID: String
    /// nil where its command names none.
    public var sopInstanceUID: UID?
    /// nil where its data set was not read as far as that, or is of another instance.
    public var studyInstanceUID: UID?
    public init(sopClassUID: String, sopInstanceUID: UID?, studyInstanceUID: UID? = nil) {
        self.sopClassUID = sopClassUID
        self.sopInstanceUID = sopInstanceUID
        self.studyInstanceUID = studyInstanceUID
    }
}

public struct AssociationEnded: Codable, Sendable, Equatable {
    public enum How: String, Codable, Sendable {
        case released, abortedByPeer, abortedByUs, rejected, closedByPeer, idle, deadline, failed
        /// There was no association: the TLS handshake failed.
        case handshake
    }
    public var how: How
    public var reason: String
    public var storedInstances: Int
    /// A message had begun and was not answered.
    public var isWithinMessage: Bool
    /// What was under way then, where its command was read.
    public var lost: LostObject?
    public init(
        how: How, reason: String = "", storedInstances: Int, isWithinMessage: Bool = false, lost: LostObject? = nil
    ) {
        self.how = how
        self.reason = reason
        self.storedInstances = storedInstances
        self.isWithinMessage = isWithinMessage
        self.lost = lost
    }
}
