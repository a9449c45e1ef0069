public import WorkerProtocol

/// Who may open an association, and how many at once. Checked before DCMTK sees a byte.
public struct AdmissionRules: Sendable {
    /// AE titles that we answer to.
    public var calledAETitles: [AETitle]
    /// AE titles that may call; empty: any.
    public var callingAETitles: [AETitle]
    public var allowedNetworks: [NetworkBlock]
    public var mostAssociations: Int
    public var mostAssociationsPerPeer: Int
    /// How long a request waits for a free place before it is rejected.
    public var queueTime: Duration
    /// How long a peer may take to send its whole A-ASSOCIATE-RQ.
    public var requestDeadline: Duration
    /// Connections without a complete request that are held at once; beyond it the oldest is closed.
    public var mostWaiting: Int
    /// Whether there is room to store anything. Asked at each request; quick.
    public var hasRoom: @Sendable () -> Bool

    public init(
        calledAETitles: [AETitle], callingAETitles: [AETitle] = [], allowedNetworks: [NetworkBlock],
        mostAssociations: Int = 64, mostAssociationsPerPeer: Int = 32, queueTime: Duration = .seconds(5),
        requestDeadline: Duration = .seconds(10), mostWaiting: Int = 512,
        hasRoom: @escaping @Sendable () -> Bool = { true }
    ) {
        self.calledAETitles = calledAETitles
        self.callingAETitles = callingAETitles
        self.allowedNetworks = allowedNetworks
        self.mostAssociations = mostAssociations
        self.mostAssociationsPerPeer = mostAssociationsPerPeer
        self.queueTime = queueTime
        self.requestDeadline = requestDeadline
        self.mostWaiting = mostWaiting
        self.hasRoom = hasRoom
    }
}

extension AdmissionRules {
    /// - Returns: nil where the request may have an association.
    func rejection(of request: AssociationRequest) -> Rejection? {
        associationRules.rejection(of: request, hasRoom: hasRoom())
    }

    /// What a worker checks again, or within TLS alone.
    var associationRules: AssociationRules {
        AssociationRules(calledAETitles: calledAETitles, callingAETitles: callingAETitles)
    }
}

/// The first record of a TLS handshake (RFC 8446 §5.1), which holds the ClientHello.
enum TLSHello {
    static let headerBytes = 5
    private static let handshake: UInt8 = 0x16
    private static let mostBytes = 1 << 14

    enum Problem: Error, Equatable, CustomStringConvertible {
        case plainDICOM
        case http
        case notTLS

        var description: String {
            switch self {
            case .plainDICOM: "plain DICOM on the TLS port: switch TLS on at the peer"
            case .http: "HTTP on the TLS port: the console has a port of its own"
            case .notTLS: "neither TLS nor DICOM on the TLS port"
            }
        }
    }

    /// Bytes of the whole record, from its header.
    /// - Parameter bytes: at least one; what is there of the header.
    /// - Returns: nil where the header is not whole.
    static func length(_ bytes: some Collection<UInt8>) throws(Problem) -> Int? {
        let header = Array(bytes.prefix(headerBytes))
        switch header.first ?? 0 {
        case handshake: break
        case 0x01...0x07: throw .plainDICOM
        case 0x47, 0x50, 0x48: throw .http
        default: throw .notTLS
        }
        guard header.count == headerBytes else { return nil }
        let length = Int(header[3]) << 8 | Int(header[4])
        // Major version 3: SSL 3.0 and all of TLS.
        guard header[1] == 3, (1...mostBytes).contains(length) else { throw .notTLS }
        return headerBytes + length
    }
}
