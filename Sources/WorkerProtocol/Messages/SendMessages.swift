/// A DICOM application to which we open associations.
public struct RemotePeer: Codable, Sendable, Hashable {
    public var aeTitle: AETitle
    public var host: String
    public var port: Int
    public init(aeTitle: AETitle, host: String, port: Int) {
        self.aeTitle = aeTitle
        self.host = host
        self.port = port
    }
}

/// Daemon → `ichnode-dicom send`, `echo` or `find`: one job, then the worker exits.
public enum SendRequest: Codable, Sendable {
    case store(StoreJob)
    case echo(EchoJob)
    case find(FindJob)
}

/// How many images of each series of a study does the peer hold?
public struct FindJob: Codable, Sendable {
    public var peer: RemotePeer
    public var callingAETitle: AETitle
    public var studyInstanceUID: UID
    public var timeoutSeconds: Double
    public init(peer: RemotePeer, callingAETitle: AETitle, studyInstanceUID: UID, timeoutSeconds: Double = 30) {
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.studyInstanceUID = studyInstanceUID
        self.timeoutSeconds = timeoutSeconds
    }
}

public struct StoreJob: Codable, Sendable {
    public var peer: RemotePeer
    public var callingAETitle: AETitle
    /// Result files, sent in this order over one association.
    public var objects: [ComposedObject]
    public var connectTimeoutSeconds: Double
    public var responseTimeoutSeconds: Double
    public init(
        peer: RemotePeer, callingAETitle: AETitle, objects: [ComposedObject], connectTimeoutSeconds: Double = 10,
        responseTimeoutSeconds: Double = 60
    ) {
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.objects = objects
        self.connectTimeoutSeconds = connectTimeoutSeconds
        self.responseTimeoutSeconds = responseTimeoutSeconds
    }
}

public struct EchoJob: Codable, Sendable {
    public var peer: RemotePeer
    public var callingAETitle: AETitle
    public var timeoutSeconds: Double
    public init(peer: RemotePeer, callingAETitle: AETitle, timeoutSeconds: Double = 10) {
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.timeoutSeconds = timeoutSeconds
    }
}

/// `ichnode-dicom send`, `echo` and `find` → daemon.
public enum SendEvent: Codable, Sendable {
    /// C-STORE-RSP for one object (PS3.7 §9.1.1.1.9).
    case response(sopInstanceUID: UID, status: UInt16, comment: String)
    /// No presentation context was accepted for the object's SOP class.
    case noPresentationContext(sopInstanceUID: UID, sopClassUID: UID)
    /// C-ECHO-RSP.
    case echoed(status: UInt16, milliseconds: Double)
    /// Images of one series that the peer holds.
    case found(seriesInstanceUID: UID, images: Int)
    /// The association could not be opened, or broke. What has no response yet was not delivered.
    case failed(SendFailure)
    /// Last message.
    case done
}

public struct SendFailure: Codable, Sendable, Equatable {
    public enum Kind: String, Codable, Sendable {
        case connect, rejectedPermanently, rejectedTransiently, aborted, timeout, localFile, other
    }
    public var kind: Kind
    /// Lower-case phrase that says what to check.
    public var reason: String
    public init(kind: Kind, reason: String) {
        self.kind = kind
        self.reason = reason
    }
}
