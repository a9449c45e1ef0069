/// A DICOM application to which we open associations.
public struct RemotePeer: Codable, Sendable, Hashable {
    public var aeTitle: AETitle
    public var host: String
    public var port: Int
    /// nil: without TLS.
    public var tls: PeerTLS?
    public init(aeTitle: AETitle, host: String, port: Int, tls: PeerTLS? = nil) {
        self.aeTitle = aeTitle
        self.host = host
        self.port = port
        self.tls = tls
    }
}

/// How associations to a peer are opened within TLS.
public struct PeerTLS: Codable, Sendable, Hashable {
    /// Where the key material is; it never travels itself.
    public var files: TLSFiles
    /// Whether the peer's certificate has to name its host.
    public var verifiesHost: Bool
    public init(files: TLSFiles, verifiesHost: Bool) {
        self.files = files
        self.verifiesHost = verifiesHost
    }
}

/// Daemon → `ichnode-dicom send`, `echo`, `reach`, `find`, `move` or `commit`: one job, then the worker exits.
public enum SendRequest: Codable, Sendable {
    case store(StoreJob)
    case echo(EchoJob)
    case reach(ReachJob)
    case find(FindJob)
    case move(MoveJob)
    case commit(CommitJob)

    /// nil: without TLS.
    public var tls: PeerTLS? {
        switch self {
        case .store(let job): job.peer.tls
        case .echo(let job): job.peer.tls
        case .reach(let job): job.tls
        case .find(let job): job.peer.tls
        case .move(let job): job.peer.tls
        case .commit(let job): job.peer.tls
        }
    }
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

/// Send the images of a series to the caller's AE title.
public struct MoveJob: Codable, Sendable {
    public var peer: RemotePeer
    /// Also the Move Destination (0000,0600).
    public var callingAETitle: AETitle
    public var studyInstanceUID: UID
    public var seriesInstanceUID: UID
    /// For the next response: while images are sent, peers report each.
    public var timeoutSeconds: Double
    /// For all of it.
    public var mostSeconds: Double
    public init(
        peer: RemotePeer, callingAETitle: AETitle, studyInstanceUID: UID, seriesInstanceUID: UID,
        timeoutSeconds: Double = 60, mostSeconds: Double = 300
    ) {
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.studyInstanceUID = studyInstanceUID
        self.seriesInstanceUID = seriesInstanceUID
        self.timeoutSeconds = timeoutSeconds
        self.mostSeconds = mostSeconds
    }
}

public struct StoreJob: Codable, Sendable {
    public var peer: RemotePeer
    public var callingAETitle: AETitle
    /// Result files, sent in this order over one association.
    public var objects: [ComposedObject]
    /// The others are sent only once the first is stored.
    public var waitsForFirst: Bool
    public var connectTimeoutSeconds: Double
    public var responseTimeoutSeconds: Double
    public init(
        peer: RemotePeer, callingAETitle: AETitle, objects: [ComposedObject], waitsForFirst: Bool = false,
        connectTimeoutSeconds: Double = 10, responseTimeoutSeconds: Double = 60
    ) {
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.objects = objects
        self.waitsForFirst = waitsForFirst
        self.connectTimeoutSeconds = connectTimeoutSeconds
        self.responseTimeoutSeconds = responseTimeoutSeconds
    }
}

public struct EchoJob: Codable, Sendable {
    public var peer: RemotePeer
    public var callingAETitle: AETitle
    /// SOP classes that are proposed along with Verification, to see whether the peer accepts them.
    public var sopClasses: [UID]
    public var timeoutSeconds: Double
    public init(peer: RemotePeer, callingAETitle: AETitle, sopClasses: [UID] = [], timeoutSeconds: Double = 10) {
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.sopClasses = sopClasses
        self.timeoutSeconds = timeoutSeconds
    }
}

/// Does a host take a connection, and TLS where it is asked for? Nothing is sent within it.
public struct ReachJob: Codable, Sendable {
    public var host: String
    public var port: Int
    public var tls: PeerTLS?
    public var timeoutSeconds: Double
    public init(host: String, port: Int, tls: PeerTLS?, timeoutSeconds: Double = 5) {
        self.host = host
        self.port = port
        self.tls = tls
        self.timeoutSeconds = timeoutSeconds
    }
}

/// What a TLS handshake agreed on, and whose certificate the peer showed.
public struct TLSSession: Codable, Sendable, Equatable {
    /// "TLSv1.3".
    public var version: String
    /// RFC 2253.
    public var subject: String
    public var issuer: String
    /// Seconds since 1970.
    public var validTo: Int64
    public init(version: String, subject: String, issuer: String, validTo: Int64) {
        self.version = version
        self.subject = subject
        self.issuer = issuer
        self.validTo = validTo
    }
}

/// `ichnode-dicom send`, `echo`, `reach`, `find`, `move` and `commit` → daemon.
public enum SendEvent: Codable, Sendable {
    /// C-STORE-RSP for one object (PS3.7 §9.1.1.1.9).
    case response(sopInstanceUID: UID, status: UInt16, comment: String)
    /// No presentation context was accepted for the object's SOP class.
    case noPresentationContext(sopInstanceUID: UID, sopClassUID: UID)
    /// A connection stands, within TLS where that was asked for. Of an association that is echoed: only within TLS.
    case reached(address: String, session: TLSSession?)
    /// C-ECHO-RSP.
    case echoed(status: UInt16, milliseconds: Double)
    /// SOP classes that were proposed along with Verification, for which no presentation context was accepted.
    case refused(sopClasses: [UID])
    /// Images of one series that the peer holds.
    case found(seriesInstanceUID: UID, images: Int)
    /// Sub-operations of a C-MOVE; what went wrong with them follows as `failed`.
    case moved(MoveCounts)
    /// N-ACTION was answered with success: the peer is going to report.
    case commitmentAsked
    /// The peer reported on the same association, and was answered with success.
    case commitment(CommitmentReport)
    /// The association could not be opened, or broke. What has no response yet was not delivered.
    case failed(SendFailure)
    /// Last message.
    case done
}

/// Numbers of sub-operations of a C-MOVE (PS3.7 §9.1.4.1); nil where the peer does not tell.
public struct MoveCounts: Codable, Sendable, Equatable {
    public var completed: UInt16?
    public var failed: UInt16?
    public var warning: UInt16?
    public init(completed: UInt16?, failed: UInt16?, warning: UInt16?) {
        self.completed = completed
        self.failed = failed
        self.warning = warning
    }
}

public struct SendFailure: Codable, Sendable, Equatable {
    public enum Kind: String, Codable, Sendable {
        case name, connect, handshake, needsTLS, rejectedPermanently, rejectedTransiently, aborted, timeout, localFile
        case other
    }
    public enum Title: String, Codable, Sendable { case called, calling }
    public var kind: Kind
    /// Lower-case phrase that says what to check.
    public var reason: String
    /// The AE title that a rejection is about.
    public var refusedTitle: Title?
    /// Whether the peer answered by TLS, though that led to nothing; nil where that is not known.
    public var speaksTLS: Bool?
    public init(kind: Kind, reason: String, refusedTitle: Title? = nil, speaksTLS: Bool? = nil) {
        self.kind = kind
        self.reason = reason
        self.refusedTitle = refusedTitle
        self.speaksTLS = speaksTLS
    }
}

/// Statuses of C-STORE that say that the peer has the object (PS3.4 Table B.2-1, PS3.7 Annex C).
public enum StoredStatus {
    public static let table: [(codes: ClosedRange<UInt16>, meaning: String)] = [
        (0x0000...0x0000, "success"),
        (0xB000...0xBFFF, "warning, such as coercion of data elements: stored all the same"),
        (0x0107...0x0107, "warning: attribute list error"),
        (0x0116...0x0116, "warning: attribute value out of range"),
        (0x0111...0x0111, "duplicate SOP instance: our UID names these very bytes"),
    ]

    public static func contains(_ status: UInt16) -> Bool { table.contains { $0.codes.contains(status) } }
}
