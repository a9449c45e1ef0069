public import WorkerProtocol

/// Where a receiver is, and how it wants to be spoken to.
public struct HL7ReceiverSettings: Sendable, Equatable {
    public var name: String
    public var host: String
    public var port: Int
    /// nil: without TLS.
    public var tls: PeerTLS?
    public var convention: HL7Convention
    public var connectTimeout: Duration
    public var acknowledgementTimeout: Duration
    public init(
        name: String, host: String, port: Int, tls: PeerTLS? = nil, convention: HL7Convention,
        connectTimeout: Duration = .seconds(10), acknowledgementTimeout: Duration = .seconds(30)
    ) {
        self.name = name
        self.host = host
        self.port = port
        self.tls = tls
        self.convention = convention
        self.connectTimeout = connectTimeout
        self.acknowledgementTimeout = acknowledgementTimeout
    }
}
