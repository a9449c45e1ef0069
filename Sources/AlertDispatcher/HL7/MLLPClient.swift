internal import Foundation
internal import NIOCore
internal import NIOPosix
internal import NIOSSL
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// A connection to one receiver: opened when it is needed, kept, and closed on anything that is not the one answer that
/// is waited for. One message at a time; the caller sees to that.
actor MLLPClient {
    struct Settings: Sendable, Equatable {
        var host: String
        var port: Int
        /// nil: without TLS.
        var tls: PeerTLS?
        var connectTimeout: Duration
        var answerTimeout: Duration
    }

    private let settings: Settings
    private var kept: (any NIOCore.Channel)?

    init(_ settings: Settings) { self.settings = settings }

    deinit { kept?.close(promise: nil) }

    /// - Parameter read: makes sense of the answer. Where it throws, the connection is closed.
    /// - Throws: `MLLPFailure`, which may come from `read`.
    func exchange<Answer: Sendable>(
        _ text: String, read: @Sendable (String) throws -> Answer
    ) async throws -> Answer {
        var isSent = false
        if let channel = kept, channel.isActive {
            do { return try read(try await answer(to: text, on: channel)) } catch let failure as MLLPFailure
                where failure.code == .closed
            {
                // Receivers close what is idle, and may do so this very moment: the message goes once more, at once.
                try Task.checkCancellation()
                isSent = true
            } catch {
                close()
                throw error
            }
        }
        close()
        do {
            let channel = try await open()
            kept = channel
            return try read(try await answer(to: text, on: channel))
        } catch {
            close()
            // It may have been taken before.
            if isSent, let failure = error as? MLLPFailure, failure.code == .connect {
                throw MLLPFailure(.closed, failure.reason)
            }
            throw error
        }
    }

    private func close() {
        kept?.close(promise: nil)
        kept = nil
    }

    private func answer(to text: String, on channel: any NIOCore.Channel) async throws -> String {
        let answer = channel.eventLoop.makePromise(of: String.self)
        let written = channel.eventLoop.makePromise(of: Void.self)
        // A channel that is closed by now takes nothing.
        written.futureResult.whenFailure { _ in
            answer.fail(MLLPFailure(.closed, "closed the connection"))
        }
        channel.writeAndFlush(MLLPRequest(content: text, answer: answer), promise: written)
        return try await withTaskCancellationHandler {
            try await answer.futureResult.get()
        } onCancel: {
            channel.close(promise: nil)
        }
    }

    private func open() async throws -> any NIOCore.Channel {
        let tls = try settings.tls.map(Self.context)
        let (host, answerTimeout) = (settings.host, TimeAmount(settings.answerTimeout))
        let verifiedName = settings.tls?.verifiesHost == true && !Self.isAddress(host) ? host : nil
        do {
            return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(TimeAmount(settings.connectTimeout))
                .channelOption(.socketOption(.so_keepalive), value: 1)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        if let tls {
                            try channel.pipeline.syncOperations.addHandler(
                                NIOSSLClientHandler(context: tls, serverHostname: verifiedName))
                        }
                        try channel.pipeline.syncOperations.addHandler(MLLPExchange(timeout: answerTimeout))
                    }
                }
                .connect(host: host, port: settings.port).get()
        } catch is ChannelError {
            throw MLLPFailure(.connect, "does not take a connection in time")
        } catch let error as NIOConnectionError {
            let first = error.connectionErrors.first.map { "\($0.error)" }
            throw MLLPFailure(.connect, "cannot be reached: \(first ?? "its name is not known")")
        } catch {
            throw MLLPFailure(.connect, "cannot be reached: \(error)")
        }
    }

    // MARK: TLS

    /// Anew for each connection: certificates are renewed while the node runs. TLS 1.2 and 1.3 (BCP 195).
    private static func context(_ tls: PeerTLS) throws -> NIOSSLContext {
        do {
            try refuseOpenKey(tls.files)
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.minimumTLSVersion = .tlsv12
            configuration.certificateVerification = tls.verifiesHost ? .fullVerification : .noHostnameVerification
            configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(tls.files.certificate)
                .map { .certificate($0) }
            configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: tls.files.key, format: .pem))
            configuration.trustRoots = tls.files.authorities.map { .file($0) } ?? .certificates([])
            return try NIOSSLContext(configuration: configuration)
        } catch let failure as MLLPFailure { throw failure } catch {
            throw MLLPFailure(
                .connect, "is called by TLS with files that are of no use (\(tls.files.section)): \(error)")
        }
    }

    /// As for DICOM: a key that others may read or change is none.
    private static func refuseOpenKey(_ files: TLSFiles) throws {
        var status = stat()
        guard stat(files.key, &status) == 0 else { return }
        if status.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO) != 0 {
            throw MLLPFailure(.connect, "is called by TLS with \(files.section).key, which is open to others")
        }
    }

    private static func isAddress(_ host: String) -> Bool { (try? SocketAddress(ipAddress: host, port: 0)) != nil }
}

/// What is written to the channel.
private struct MLLPRequest: Sendable {
    var content: String
    var answer: EventLoopPromise<String>
}

/// Sends a message, waits for its answer. What comes unasked ends the connection.
private final class MLLPExchange: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = MLLPRequest
    typealias OutboundOut = ByteBuffer

    private let timeout: TimeAmount
    private var reader = MLLPReader()
    private var waiting: EventLoopPromise<String>?
    private var deadline: Scheduled<Void>?
    /// What ended the connection.
    private var failure: MLLPFailure?

    init(timeout: TimeAmount) { self.timeout = timeout }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let request = unwrapOutboundIn(data)
        waiting = request.answer
        if let failure { return settle(.failure(failure), promise) }
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) {
            self.end(context, MLLPFailure(.silence, "does not answer in time"))
        }
        context.write(wrapOutboundOut(ByteBuffer(bytes: MLLPFrame.encoded(request.content))), promise: promise)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard waiting != nil else { return end(context, MLLPFailure(.closed, "speaks without being asked")) }
        do {
            guard let (content, hasMore) = try reader.take(unwrapInboundIn(data).readableBytesView) else { return }
            settle(.success(content))
            if hasMore { end(context, MLLPFailure(.closed, "speaks without being asked")) }
        } catch { end(context, error) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        let isCutOff = !reader.isEmpty
        end(context, MLLPFailure(isCutOff ? .unexpected : .closed, "closes the connection before its answer is whole"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if case NIOSSLError.uncleanShutdown = error { return channelInactive(context: context) }
        let isTLS = error is NIOSSLError || error is NIOSSLExtraError || error is BoringSSLError
        end(context, MLLPFailure(isTLS ? .connect : .closed, (isTLS ? "fails in TLS: " : "breaks off: ") + "\(error)"))
    }

    private func end(_ context: ChannelHandlerContext, _ failure: MLLPFailure) {
        if self.failure == nil { self.failure = failure }
        settle(.failure(self.failure ?? failure))
        context.close(promise: nil)
    }

    private func settle(_ result: Result<String, MLLPFailure>, _ written: EventLoopPromise<Void>? = nil) {
        deadline?.cancel()
        deadline = nil
        waiting?.completeWith(result.mapError { $0 })
        waiting = nil
        if case .failure(let failure) = result { written?.fail(failure) }
    }
}
