internal import AsyncHTTPClient
public import Foundation
public import Ledger
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import NIOSSL
public import WorkerProtocol

/// Posts events. One connection for each, which ends with it.
public struct WebhookDestination: Destination, AlertChannel, OperatorAlertChannel {
    public var name: String { webhook.name }
    private let webhook: Webhook
    private let sender: WebhookEvent.Sender
    private let clock: WallClock

    public init(_ webhook: Webhook, nodeAETitle: AETitle, softwareVersion: String, clock: WallClock) {
        self.webhook = webhook
        sender = .init(aeTitle: nodeAETitle.string, softwareVersion: softwareVersion)
        self.clock = clock
    }

    // MARK: Words

    public func message(of alert: FindingAlert, after told: OutboundMessage?) throws -> OutboundMessage {
        try WebhookEvent(alert, includesPatient: webhook.includesPatient, node: sender).message
    }

    public func said(by message: OutboundMessage) -> [String?] { WebhookEvent.said(by: message) }

    public func messages(of changes: [OperatorAlertEntry], at moment: Date) throws -> [OutboundMessage] {
        try changes.map { try WebhookEvent($0, node: sender, at: moment).message }
    }

    // MARK: Delivery

    public func deliver(_ message: OutboundMessage) async throws -> MessageFate {
        let secret: Data
        do { secret = try SecretFile.read(webhook.secretFile) } catch { throw Unreachable(error.reason) }
        let body = Data(message.body.utf8)
        var request = HTTPClientRequest(url: webhook.url)
        request.method = .POST
        request.headers = [
            "Content-Type": "application/json", "User-Agent": "ICHNode/\(sender.softwareVersion)",
            WebhookSignature.header: WebhookSignature.value(body: body, secret: secret, at: clock.now()),
        ]
        request.body = .bytes(ByteBuffer(bytes: body))
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        let status: UInt
        do {
            // What follows the head of the answer is not read.
            status = try await client.execute(request, timeout: .seconds(webhook.timeout)).status.code
        } catch {
            try await client.shutdown()
            throw Self.failure(error)
        }
        try await client.shutdown()
        return Self.fate(status)
    }

    private var configuration: HTTPClient.Configuration { Self.configuration(webhook) }

    static func configuration(_ webhook: Webhook) -> HTTPClient.Configuration {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.minimumTLSVersion = .tlsv12
        if let authorities = webhook.authorities { tls.trustRoots = .file(authorities) }
        var configuration = HTTPClient.Configuration(
            tlsConfiguration: tls, redirectConfiguration: .disallow,
            timeout: .init(connect: .seconds(webhook.timeout)), decompression: .disabled)
        configuration.httpVersion = .http1Only
        // The outbox tries again.
        configuration.connectionPool.retryConnectionEstablishment = false
        return configuration
    }

    /// That this event will never be taken is final. All else somebody may be about to mend: a secret, a path, a proxy.
    static func fate(_ status: UInt) -> MessageFate {
        switch status {
        case 200..<300: .delivered
        // Bad Request, Gone, Content Too Large, Unsupported Media Type, Unprocessable Content (RFC 9110 §15.5).
        case 400, 410, 413, 415, 422: .refused(reason: "the receiver refuses the event (HTTP \(status))")
        case 300..<400:
            .retry(reason: "the receiver redirects (HTTP \(status)), which is not followed: correct the url")
        case 401, 403:
            .retry(reason: "the receiver does not accept the signature (HTTP \(status)): compare the secrets")
        default: .retry(reason: "the receiver answered HTTP \(status)")
        }
    }

    private static func failure(_ error: any Error) -> any Error {
        let text = "\(error)"
        if text.contains("CERTIFICATE_VERIFY_FAILED") || error is NIOSSLExtraError {
            return Unreachable(
                "the receiver's certificate is not of an issuer in ca, has expired, or names another host")
        }
        switch error {
        case is CancellationError: return error
        case let error as HTTPClientError where error == .connectTimeout:
            return Unreachable("the receiver does not answer")
        case let error as HTTPClientError where error == .deadlineExceeded || error == .readTimeout:
            return WorkerError(.deadline, "the receiver does not answer in time")
        case is NIOConnectionError:
            return Unreachable("cannot connect to the receiver: check host, port and firewall")
        default: return WorkerError(.failed, "no answer of the receiver: \(text)")
        }
    }
}

extension TimeAmount {
    fileprivate static func seconds(_ duration: Duration) -> TimeAmount {
        .nanoseconds(Int64(duration.inSeconds * 1e9))
    }
}
