public import WorkerProtocol

/// Where the console listens, and who may use it.
public struct ConsoleSettings: Sendable, Equatable {
    public struct User: Sendable, Equatable {
        public var name: String
        public var role: Role
        public var password: PasswordHash

        public init(name: String, role: Role, password: PasswordHash) {
            (self.name, self.role, self.password) = (name, role, password)
        }
    }

    public struct Token: Sendable, Equatable {
        public var name: String
        public var role: Role
        /// Lower-case hexadecimal, of the token's bytes.
        public var sha256: String

        public init(name: String, role: Role, sha256: String) {
            (self.name, self.role, self.sha256) = (name, role, sha256)
        }
    }

    /// What keeps passwords from being guessed.
    public struct LockOut: Sendable, Equatable {
        /// Wrong ones in a row, of a user from an address, before the first pause.
        public var tries = 5
        /// Doubles with each further one.
        public var firstSeconds = 30.0
        public var mostSeconds = 900.0

        public init() {}
    }

    public var host = "127.0.0.1"
    public var port = 8080
    /// Further names under which browsers may ask for it.
    public var hostNames: [String] = []
    /// Whether a proxy on this machine speaks HTTPS to the browsers, and says where they are.
    public var isBehindProxy = false
    public var users: [User] = []
    public var tokens: [Token] = []
    /// nil: plain HTTP.
    public var tls: TLSFiles?
    /// Without a request.
    public var sessionMinutes = 30.0
    /// From the sign-in on.
    public var mostSessionMinutes = 720.0
    public var lockOut = LockOut()
    public var mostConnections = 256
    public var mostConnectionsPerAddress = 64
    /// How long a connection may say nothing, or a request or a response may stand still.
    public var idleSeconds = 30.0

    public init() {}

    public static let loopback = ["127.0.0.1", "::1", "localhost"]

    public var isLoopback: Bool { Self.loopback.contains(host) }
    /// Whether browsers come by HTTPS.
    var isSecure: Bool { tls != nil || isBehindProxy }
}
