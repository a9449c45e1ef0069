internal import HTTPTypes
internal import Hummingbird
internal import HummingbirdCore
internal import HummingbirdTLS
public import Ledger
public import Logging
internal import NIOCore
public import ServiceLifecycle

/// The node's HTTP side: health and metrics, and the pages of whoever looks after it.
public struct ConsoleServer: Service {
    /// What the console shows, and asks of the node.
    public struct Parts: Sendable {
        public var ledger: any Ledger
        public var actions: any NodeActions
        public var registry: MetricsRegistry
        public var clock: WallClock
        public var peers: any NodePeers
        public var audit: ConsoleAudit
        /// nil when ready, else what is missing.
        public var notReady: @Sendable () async -> String?
        /// Parts of the node that stand still; nil: none.
        public var standstill: @Sendable () -> String? = { nil }
        /// nil: there are none to show.
        public var results: ResultFolder?
        /// nil: no images are shown.
        public var images: (any StudyImages)?
        /// What system, model and configuration are; nil: they have no pages.
        public var facts: (any NodeFacts)?
        /// Who is signed in; nil: nobody else has to know.
        public var sessions: SessionTable?

        public init(
            ledger: any Ledger, actions: any NodeActions, registry: MetricsRegistry, clock: WallClock,
            peers: any NodePeers,
            audit: ConsoleAudit = ConsoleAudit { _ in },
            notReady: @escaping @Sendable () async -> String?, images: (any StudyImages)? = nil,
            facts: (any NodeFacts)? = nil
        ) {
            self.ledger = ledger
            self.actions = actions
            self.registry = registry
            self.clock = clock
            self.peers = peers
            self.audit = audit
            self.notReady = notReady
            self.images = images
            self.facts = facts
        }
    }

    private let current: @Sendable () -> ConsoleSettings
    private var settings: ConsoleSettings { current() }
    private let parts: Parts
    private let gate: any Gate
    private let outcomes = ActionOutcomes()
    private let logger: Logger
    private let hub: LiveHub
    private let fragments: LiveFragments
    private let onListening: @Sendable (Int) async -> Void

    /// - Parameters:
    ///   - settings: asked for with each request: who may use it may change, and for how long.
    ///   - onListening: called with the bound port once requests are answered.
    public init(
        _ settings: @escaping @autoclosure @Sendable () -> ConsoleSettings, parts: Parts, logger: Logger,
        onListening: @escaping @Sendable (Int) async -> Void
    ) {
        self.init(
            settings(), parts: parts,
            gate: AccessGate(settings, audit: parts.audit, sessions: parts.sessions, clock: parts.clock),
            logger: logger, onListening: onListening)
    }

    init(
        _ settings: @escaping @autoclosure @Sendable () -> ConsoleSettings, parts: Parts, gate: any Gate,
        live: LiveHub.Limits = .init(), logger: Logger, onListening: @escaping @Sendable (Int) async -> Void
    ) {
        current = settings
        self.parts = parts
        self.gate = gate
        self.logger = logger
        hub = LiveHub(ledger: parts.ledger, clock: parts.clock, limits: live)
        fragments = LiveFragments(hub: hub, clock: parts.clock)
        self.onListening = onListening
    }

    public func run() async throws {
        let application = Application(
            router: router, server: try server(),
            configuration: .init(
                address: .hostname(settings.host, port: settings.port), serverName: "ichnode",
                availableConnectionsDelegate: .maximum(settings.mostConnections, logger: logger)),
            onServerRunning: { [onListening] channel in await onListening(channel.localAddress?.port ?? 0) },
            logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { [hub] group in
            group.addTask { await hub.run() }
            // Streams are open as long as somebody looks: they end before the server waits for connections to end.
            try await withGracefulShutdownHandler {
                try await application.run()
            } onGracefulShutdown: {
                hub.close()
            }
            group.cancelAll()
        }
    }

    private static let mostHeaderBytes = 16 << 10

    private func server() throws -> HTTPServerBuilder {
        let counts = ConnectionCounts(
            most: settings.isBehindProxy ? settings.mostConnections : settings.mostConnectionsPerAddress)
        let plain = HTTPServerBuilder.http1(
            configuration: .init(
                additionalChannelHandlers: [ConnectionGuard(counts: counts, settings: settings)],
                idleTimeout: .milliseconds(Int64(settings.idleSeconds * 1000)),
                httpDecoderConfiguration: .init(
                    maxHeaderFieldSize: Self.mostHeaderBytes, maxHeaderListSize: Self.mostHeaderBytes,
                    maxHeaderFieldCount: 100)))
        guard let files = settings.tls else { return plain }
        return try .tls(
            plain, tlsConfiguration: try ConsoleCertificate(files, logger: logger).configuration())
    }

    /// All that can be asked of it.
    var routes: [ConsoleRoute] {
        HealthRoutes(parts: parts).routes + [ConsoleAssets.route] + gate.routes + EventRoutes(hub: hub).routes
            + WorklistRoutes(parts: parts, fragments: fragments).routes
            + StudyRoutes(parts: parts, outcomes: outcomes).routes + StudyViewer(parts: parts).routes
            + DeliveriesPage(parts: parts, outcomes: outcomes).routes + AlertsPage(parts: parts).routes
            + PeersPage(parts: parts, outcomes: outcomes).routes + parts.aboutTheNode + APIRoutes(parts: parts).routes
    }

    var router: Router<ConsoleContext> { router(routes) }

    /// Nothing is answered that the gate did not let through.
    func router(_ routes: [ConsoleRoute]) -> Router<ConsoleContext> {
        let router = Router(context: ConsoleContext.self, options: .autoGenerateHeadEndpoints)
        router.add(middleware: ConsoleMiddleware(settings: current, gate: gate))
        router.add(middleware: APIMethods(routes: routes))
        for route in routes {
            router.on(RouterPath(route.path), method: route.method) { [gate] request, context in
                var (request, context) = (request, context)
                do {
                    context.form = try await Self.form(&request)
                    if let refusal = try await gate.admit(request, to: route, &context) { return refusal }
                    return try await route.handler(request, context)
                } catch { return ConsoleMiddleware.response(to: error, request, context) }
            }
        }
        return router
    }

    private static let mostFormBytes = 64 << 10

    /// - Throws: 413 for more than a form of ours can have, 400 for what is none.
    private static func form(_ request: inout Request) async throws -> [String: String] {
        guard request.method == .post,
            request.headers[.contentType]?.hasPrefix("application/x-www-form-urlencoded") == true
        else { return [:] }
        let body = try await request.collectBody(upTo: mostFormBytes)
        do { return try URLEncodedFormDecoder().decode([String: String].self, from: String(buffer: body)) } catch {
            throw HTTPError(.badRequest, message: "the form cannot be read")
        }
    }
}

extension ConsoleServer: CustomStringConvertible {
    /// As logs name a service: without its secrets.
    public var description: String { "ConsoleServer" }
}
