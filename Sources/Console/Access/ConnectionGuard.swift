internal import HTTPTypes
internal import NIOCore
internal import NIOHTTPTypes
internal import Synchronization

/// How many connections each address has.
final class ConnectionCounts: Sendable {
    private let most: Int
    private let counts = Mutex<[String: Int]>([:])

    init(most: Int) { self.most = most }

    func open(_ address: String) -> Bool {
        counts.withLock { counts in
            guard counts[address, default: 0] < most else { return false }
            counts[address, default: 0] += 1
            return true
        }
    }

    func close(_ address: String) {
        counts.withLock { counts in
            let left = counts[address, default: 0] - 1
            counts[address] = left > 0 ? left : nil
        }
    }
}

/// Ends connections of one address that has too many, requests that take too long to arrive, and responses that nobody
/// reads. What the server says of requests that it could not read passes here alone: it gets the security headers.
///
/// `@unchecked Sendable` is safe because a channel handler is used on its channel's event loop alone.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler, @unchecked Sendable {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let counts: ConnectionCounts
    private let patience: TimeAmount
    private let isSecure: Bool
    private var address: String?
    private var arrival: Scheduled<Void>?
    private var reading: Scheduled<Void>?

    init(counts: ConnectionCounts, settings: ConsoleSettings) {
        self.counts = counts
        patience = .milliseconds(Int64(settings.idleSeconds * 1000))
        isSecure = settings.isSecure
    }

    func channelActive(context: ChannelHandlerContext) {
        let address = ClientAddress.network(of: context.remoteAddress?.ipAddress ?? ClientAddress.unknown)
        guard counts.open(address) else { return context.close(promise: nil) }
        self.address = address
        // The head of the first request, and the handshake before it.
        arrival = deadline(context)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        arrival?.cancel()
        reading?.cancel()
        if let address { counts.close(address) }
        address = nil
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head:
            arrival?.cancel()
            arrival = deadline(context)
        case .body: break
        case .end:
            arrival?.cancel()
            arrival = nil
        }
        context.fireChannelRead(data)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        reading?.cancel()
        reading = context.channel.isWritable ? nil : deadline(context)
        context.fireChannelWritabilityChanged()
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .head(var head) = unwrapOutboundIn(data) else { return context.write(data, promise: promise) }
        SecurityHeaders.add(to: &head.headerFields, isSecure: isSecure)
        context.write(wrapOutboundOut(.head(head)), promise: promise)
    }

    private func deadline(_ context: ChannelHandlerContext) -> Scheduled<Void> {
        let channel = context.channel
        return context.eventLoop.scheduleTask(in: patience) { channel.close(promise: nil) }
    }
}
