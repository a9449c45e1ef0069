import CLinux
import Foundation
import Glibc
import Logging
import ServiceLifecycle
import Synchronization
import WorkerProtocol

/// Answers operators' commands on a Unix socket, so that one process writes the ledger. Only root and the node's own
/// user may.
final class ControlServer: Service {
    typealias Handler = @Sendable (ControlRequest, _ user: uid_t) async -> ControlResponse

    static func path(runDirectory: String) -> String { runDirectory + "/control.sock" }

    private static let mostRequestBytes = 64 << 10
    /// For a client to send its request, and to take a part of the answer.
    private static let patienceSeconds = 10
    private let descriptor: Int32
    private let path: String
    private let handler: Handler
    private let logger: Logger
    private let isStopping = Mutex(false)

    init(path: String, logger: Logger, handler: @escaping Handler) throws {
        self.path = path
        self.handler = handler
        self.logger = logger
        unlink(path)
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        guard descriptor >= 0, UnixAddress.with(path, { bind(descriptor, $0, $1) }) == 0, chmod(path, 0o600) == 0,
            listen(descriptor, 16) == 0
        else { throw WorkerError(.system, "cannot listen on \(path): \(Errno.text)") }
    }

    func run() async throws {
        let connections = AsyncStream<Int32> { continuation in
            let thread = Thread { [self] in
                acceptAll(continuation)
                // Only here is the descriptor not in use any more.
                close(descriptor)
                unlink(path)
                continuation.finish()
            }
            thread.name = "control"
            thread.start()
        }
        await withTaskCancellationOrGracefulShutdownHandler {
            for await connection in connections { serve(connection) }
        } onCancelOrGracefulShutdown: { [self] in
            isStopping.withLock { stopping in
                if !stopping { shutdown(descriptor, Int32(SHUT_RDWR)) }
                stopping = true
            }
        }
    }

    /// Until the server stops: out of descriptors or memory, it is there again once they are.
    private func acceptAll(_ continuation: AsyncStream<Int32>.Continuation) {
        while !isStopping.withLock({ $0 }) {
            let connection = accept(descriptor, nil, nil)
            if connection >= 0 { continuation.yield(connection) } else if errno != EINTR { usleep(50_000) }
        }
    }

    static func limit(_ connection: Int32, seconds: Int) {
        var patience = timeval(tv_sec: seconds, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(connection, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    /// On a thread: the channel blocks.
    private func serve(_ connection: Int32) {
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        Self.limit(connection, seconds: Self.patienceSeconds)
        var (pid, uid, gid): (pid_t, uid_t, gid_t) = (0, 0, 0)
        let channel = Channel(takingOwnershipOf: connection, limits: Frame.Limits(message: Self.mostRequestBytes))
        guard clinux_peer_credentials(connection, &pid, &uid, &gid) == 0, uid == 0 || uid == geteuid() else {
            logger.warning("control connection of another user refused", metadata: ["uid": "\(uid)"])
            return channel.close()
        }
        Thread.detachNewThread { [handler, logger, uid] in
            do {
                guard let (request, passed) = try channel.receive(ControlRequest.self) else { return }
                if let passed { Glibc.close(passed) }
                Task { [uid] in
                    let response = await handler(request, uid)
                    DispatchQueue.global().async {
                        do { try channel.send(response) } catch {
                            logger.info("control connection left", metadata: ["error": "\(error)"])
                        }
                        channel.close()
                    }
                }
            } catch { logger.warning("control request is no request", metadata: ["error": "\(error)"]) }
        }
    }
}

/// The command line's end.
enum ControlClient {
    /// - Parameter patienceSeconds: for connection and answer each; nil: without end.
    static func ask(
        _ request: ControlRequest, runDirectory: String, patienceSeconds: Int? = nil
    ) throws -> ControlResponse {
        let path = ControlServer.path(runDirectory: runDirectory)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let channel = Channel(takingOwnershipOf: descriptor)
        if let patienceSeconds { ControlServer.limit(descriptor, seconds: patienceSeconds) }
        guard UnixAddress.with(path, { connect(descriptor, $0, $1) }) == 0 else {
            throw CommandFailure(
                .unavailable,
                "no node answers at \(path) (\(Errno.text)): is it running, and is this its run directory?")
        }
        try channel.send(request)
        guard let (response, _) = try channel.receive(ControlResponse.self) else {
            throw CommandFailure(.unavailable, "the node closed the connection without an answer: see its log")
        }
        if case .failed(let reason) = response { throw CommandFailure(.failed, reason) }
        return response
    }
}
