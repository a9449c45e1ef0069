public import Foundation
public import Ledger
public import WorkerProtocol

/// A system that the node opens associations to, as it is configured.
public struct ConfiguredPeer: Sendable, Equatable {
    public var name: String
    public var remote: RemotePeer
    public var callingAETitle: AETitle
    /// Whether what it has accepted is delivered only once it has committed to keep it.
    public var commits: Bool
    /// Who gets its results while it cannot be reached; nil: nobody.
    public var fallback: String?
    public var fallbackAfterSeconds: Double
    public init(
        name: String, remote: RemotePeer, callingAETitle: AETitle, commits: Bool = false, fallback: String? = nil,
        fallbackAfterSeconds: Double = 60
    ) {
        self.name = name
        self.remote = remote
        self.callingAETitle = callingAETitle
        self.commits = commits
        self.fallback = fallback
        self.fallbackAfterSeconds = fallbackAfterSeconds
    }
}

/// Somebody that results or messages are owed to, as configured.
public struct ConfiguredDestination: Sendable, Equatable {
    public enum Kind: String, Sendable {
        case peer = "DICOM peer"
        case hl7 = "HL7 receiver"
        case webhook = "webhook"
        case mail = "mail"
    }

    public var name: String
    public var kind: Kind
    /// Without anything secret.
    public var address: String
    public var aeTitle: AETitle?
    public init(name: String, kind: Kind, address: String, aeTitle: AETitle? = nil) {
        self.name = name
        self.kind = kind
        self.address = address
        self.aeTitle = aeTitle
    }
}

/// Who may open associations to the node, and where.
public struct Admission: Sendable, Equatable {
    /// The node's own first.
    public var aeTitles: [AETitle]
    /// Empty: any.
    public var callingAETitles: [AETitle]
    public var networks: [String]
    public var addresses: [String]
    /// nil: closed.
    public var plainPort: Int?
    public var tlsPort: Int?
    /// Whether the TLS port asks for a certificate.
    public var asksForCertificate: Bool
    public var mostAssociations: Int
    public var mostAssociationsPerPeer: Int
    public init(
        aeTitles: [AETitle], callingAETitles: [AETitle] = [], networks: [String], addresses: [String],
        plainPort: Int?, tlsPort: Int? = nil, asksForCertificate: Bool = false, mostAssociations: Int,
        mostAssociationsPerPeer: Int
    ) {
        self.aeTitles = aeTitles
        self.callingAETitles = callingAETitles
        self.networks = networks
        self.addresses = addresses
        self.plainPort = plainPort
        self.tlsPort = tlsPort
        self.asksForCertificate = asksForCertificate
        self.mostAssociations = mostAssociations
        self.mostAssociationsPerPeer = mostAssociationsPerPeer
    }
}

/// What came of asking a peer whether it is there and takes what it is to get.
public struct PeerVerification: Sendable, Equatable {
    public struct Finding: Sendable, Equatable {
        public var isGood: Bool
        public var isWarning: Bool
        public var text: String
        public init(isGood: Bool, isWarning: Bool = false, text: String) {
            self.isGood = isGood
            self.isWarning = isWarning
            self.text = text
        }
    }

    public var at: Date
    public var user: String
    public var seconds: Double
    public var findings: [Finding]
    public init(at: Date, user: String, seconds: Double, findings: [Finding]) {
        self.at = at
        self.user = user
        self.seconds = seconds
        self.findings = findings
    }

    public var isGood: Bool { findings.allSatisfy(\.isGood) }
}

/// Those that the node exchanges with.
public protocol NodePeers: Sendable {
    var peers: [ConfiguredPeer] { get }
    var destinations: [ConfiguredDestination] { get }
    var admission: Admission { get }
    /// Of each destination.
    func reach() async -> [String: DestinationReach]
    func associations() async -> AssociationOverview
    /// C-ECHO to a peer (PS3.4 Annex A), and whether it takes what it is to get. One at a time.
    /// - Parameter user: who asked for it.
    func verify(_ peer: String, by user: String) async throws(ActionRefusal) -> PeerVerification
    /// The latest of each peer since the node's start.
    func verifications() async -> [String: PeerVerification]
}
