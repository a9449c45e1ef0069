internal import HTTPTypes
internal import Hummingbird
public import Logging
internal import NIOCore
public import ServiceLifecycle

/// The node's HTTP side: health and metrics. Loopback only until it has users and TLS.
public struct ConsoleServer: Service {
    /// What the console asks of the node.
    public struct Probes: Sendable {
        /// nil when ready, else what is missing.
        public var notReady: @Sendable () async -> String?
        public init(notReady: @escaping @Sendable () async -> String?) { self.notReady = notReady }
    }

    private let host: String
    private let port: Int
    private let registry: MetricsRegistry
    private let probes: Probes
    private let logger: Logger
    private let onListening: @Sendable (Int) async -> Void

    /// - Parameter onListening: called with the bound port once requests are answered.
    public init(
        host: String, port: Int, registry: MetricsRegistry, probes: Probes, logger: Logger,
        onListening: @escaping @Sendable (Int) async -> Void
    ) {
        self.host = host
        self.port = port
        self.registry = registry
        self.probes = probes
        self.logger = logger
        self.onListening = onListening
    }

    public func run() async throws {
        let router = Router()
        router.get("/health/live") { _, _ in "live\n" }
        router.get("/health/ready") { [probes] _, _ in
            if let missing = await probes.notReady() {
                return Self.text("not ready: \(missing)\n", .serviceUnavailable)
            }
            return Self.text("ready\n", .ok)
        }
        router.get("/metrics") { [registry] _, _ in
            Self.text(registry.prometheusText(), .ok, type: "text/plain; version=0.0.4; charset=utf-8")
        }
        let application = Application(
            router: router, configuration: .init(address: .hostname(host, port: port), serverName: "ichnode"),
            onServerRunning: { [onListening] channel in await onListening(channel.localAddress?.port ?? 0) },
            logger: logger)
        try await application.run()
    }

    private static func text(
        _ body: String, _ status: HTTPResponse.Status, type: String = "text/plain; charset=utf-8"
    ) -> Response {
        Response(
            status: status, headers: [.contentType: type, .cacheControl: "no-store"],
            body: .init(byteBuffer: ByteBuffer(string: body)))
    }
}
