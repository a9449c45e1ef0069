public import Foundation
internal import CLinux

#if canImport(Glibc)
internal import Glibc
#endif

/// What to start: program, arguments, and descriptors that the child keeps open beside its channel.
public struct WorkerProgram: Sendable {
    public var path: String
    public var arguments: [String]
    /// Inherited from descriptor 4 on; the child never touches them (a lock on the spool lives as long as its last
    /// holder).
    public var heldDescriptors: [Int32]
    /// NAME=value, beside what every child is given.
    var environment: [String] = []

    public init(path: String, arguments: [String], heldDescriptors: [Int32] = []) {
        self.path = path
        self.arguments = arguments
        self.heldDescriptors = heldDescriptors
    }

    /// The program of the given name beside the running executable.
    public static func beside(_ name: String) -> String {
        let own =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        return URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent(name).path
    }
}

/// A child process of the daemon and its channel. Ends when `stop` is called or the value goes away.
///
/// Reading happens on a thread of its own, writing on a serial queue: nothing blocks the cooperative pool.
/// `@unchecked Sendable` is safe because mutable state is guarded by `lock`.
public final class WorkerProcess: @unchecked Sendable {
    /// How a child ended.
    public enum Ending: Sendable, Equatable {
        case exited(code: Int32)
        /// By a signal: a crash, or `stop` after its patience ran out.
        case signalled(Int32)
    }

    public let processID: Int32
    /// All frames after the hello; a descriptor that came along is closed. Finishes when the child closes its end,
    /// throws when it breaks the protocol. The child waits while too many are not taken; from `stop` or `kill` on it
    /// does not.
    public let frames: WorkerFrames

    private let channel: Channel
    private let sending: DispatchQueue
    private let lock = NSLock()
    private var hello: Hello?
    private var ending: Ending?
    private var endingWaiters: [CheckedContinuation<Ending, Never>] = []
    private var helloWaiters: [CheckedContinuation<Hello, any Error>] = []
    private var helloFailure: (any Error)?

    /// Starts the program.
    /// - Parameter limits: of each frame that is read from it; a worker that could be turned against us gets no more
    ///   than its verb needs.
    /// - Throws: `WorkerError` with code `start` when it cannot be started.
    public convenience init(_ program: WorkerProgram, limits: Frame.Limits = .init()) throws {
        var sockets: [Int32] = [-1, -1]
        guard clinux_socket_pair(&sockets) == 0 else {
            throw WorkerError(.system, "cannot make a socket pair: \(Errno.text)")
        }
        var arguments: [UnsafeMutablePointer<CChar>?] = ([program.path] + program.arguments).map { strdup($0) } + [nil]
        var environment: [UnsafeMutablePointer<CChar>?] =
            (Self.childEnvironment() + program.environment).map { strdup($0) } + [nil]
        defer { (arguments + environment).forEach { free($0) } }
        let descriptors = [sockets[1]] + program.heldDescriptors
        let pid = clinux_spawn(program.path, &arguments, &environment, -1, descriptors, Int32(descriptors.count))
        let failure = Errno.text
        Glibc.close(sockets[1])
        let channel = Channel(takingOwnershipOf: sockets[0], limits: limits)
        guard pid > 0 else { throw WorkerError(.start, "cannot start \(program.path): \(failure)") }
        self.init(processID: pid, channel: channel)
    }

    /// Takes over a child of this process that runs already.
    /// - Parameter channel: our end.
    init(processID: Int32, channel: Channel) {
        self.processID = processID
        self.channel = channel
        sending = DispatchQueue(label: "worker.\(processID).send")
        frames = WorkerFrames()
        let thread = Thread { [channel, frames, weak self] in
            Self.read(channel, frames) { hello in self?.settleHello(hello) }
            self?.waitForEnd()
        }
        thread.name = "worker \(processID)"
        thread.stackSize = 512 << 10
        thread.start()
    }

    deinit {
        channel.shutDown()
        frames.open()
        if lock.withLock({ ending == nil }) { Self.reapInBackground(processID) }
    }

    /// Waits for the child's hello.
    /// - Throws: `WorkerError`: `closed` when the child ends first, `protocolViolation` on another version, `deadline`.
    @discardableResult
    public func start(within deadline: Duration = .seconds(10)) async throws -> Hello {
        let hello = try await withDeadline(deadline, "no hello from the worker") { [self] in
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Hello, any Error>) in
                let known: Result<Hello, any Error>? = lock.withLock {
                    if let known = self.hello { return .success(known) }
                    if let helloFailure { return .failure(helloFailure) }
                    helloWaiters.append(continuation)
                    return nil
                }
                if let known { continuation.resume(with: known) }
            }
        } onDeadline: { [self] in
            kill()
        }
        guard hello.protocolVersion == Hello.protocolVersion else {
            kill()
            throw WorkerError(
                .protocolViolation,
                "worker speaks protocol \(hello.protocolVersion), we \(Hello.protocolVersion): restart the daemon"
            )
        }
        return hello
    }

    public func send(_ frames: [Frame], descriptor: Int32? = nil) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            sending.async { [channel] in
                continuation.resume(
                    with: Result {
                        for (index, frame) in frames.enumerated() {
                            try channel.send(frame, descriptor: index == 0 ? descriptor : nil)
                        }
                    })
            }
        }
    }

    public func send(_ message: some Encodable, bulk: [Data] = [], descriptor: Int32? = nil) async throws {
        let payload = try JSONEncoder().encode(message)
        try await send([.message(payload)] + bulk.map { .bulk($0) }, descriptor: descriptor)
    }

    /// Closes the channel, which tells the child to end; kills it when it has not after `patience`.
    @discardableResult
    public func stop(patience: Duration = .seconds(2)) async -> Ending {
        channel.shutDown()
        frames.open()
        let killer = Task {
            try await Task.sleep(for: patience)
            kill()
        }
        defer { killer.cancel() }
        return await ended()
    }

    /// Sends SIGKILL, if the child still runs.
    public func kill() {
        lock.withLock { if ending == nil { _ = Glibc.kill(processID, SIGKILL) } }
        frames.open()
    }

    /// False soon after the child has ended.
    public var isRunning: Bool { lock.withLock { ending == nil } }

    /// Waits for the child's end.
    public func ended() async -> Ending {
        await withCheckedContinuation { continuation in
            let known: Ending? = lock.withLock {
                if ending == nil { endingWaiters.append(continuation) }
                return ending
            }
            if let known { continuation.resume(returning: known) }
        }
    }

    private static func read(
        _ channel: Channel, _ frames: WorkerFrames, hello settle: (Result<Hello, any Error>) -> Void
    ) {
        do {
            guard let (hello, passed) = try channel.receive(Hello.self) else {
                throw WorkerError(.closed, "the worker ended before its hello")
            }
            if let passed { Glibc.close(passed) }
            settle(.success(hello))
            while let (frame, descriptor) = try channel.receive() {
                if let descriptor { Glibc.close(descriptor) }
                frames.add(frame)
                frames.waitForRoom()
            }
            frames.finish()
        } catch {
            settle(.failure(error))
            frames.finish(throwing: error)
        }
    }

    private func settleHello(_ result: Result<Hello, any Error>) {
        let waiters = lock.withLock {
            switch result {
            case .success(let value): hello = value
            case .failure(let error): helloFailure = error
            }
            defer { helloWaiters = [] }
            return helloWaiters
        }
        waiters.forEach { $0.resume(with: result) }
    }

    /// On the reader's thread, after the channel's end. Killed by `stop`, or ends by itself since its channel is gone.
    private func waitForEnd() {
        var status: Int32 = 0
        while clinux_reap(processID, &status) == 0 { usleep(2000) }
        let code = clinux_exit_code(status)
        let how: Ending = code > 128 ? .signalled(code - 128) : .exited(code: code)
        let waiters = lock.withLock {
            ending = how
            defer { endingWaiters = [] }
            return endingWaiters
        }
        waiters.forEach { $0.resume(returning: how) }
    }

    private static func reapInBackground(_ pid: Int32) {
        DispatchQueue.global(qos: .utility).async {
            var status: Int32 = 0
            for _ in 0..<1000 where clinux_reap(pid, &status) == 0 { usleep(2000) }
            if clinux_reap(pid, &status) == 0 {
                Glibc.kill(pid, SIGKILL)
                while clinux_reap(pid, &status) == 0 { usleep(2000) }
            }
        }
    }

    /// Children see what they need, not what an administrator's shell exports.
    private static func childEnvironment() -> [String] {
        let kept = ["PATH", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DCMDICTPATH"]
        let own = ProcessInfo.processInfo.environment
        return kept.compactMap { name in own[name].map { "\(name)=\($0)" } } + ["SWIFT_BACKTRACE=enable=no"]
    }
}

/// Runs `body`; when it has not ended by the deadline calls `onDeadline`, which has to make it end, and throws.
public func withDeadline<R: Sendable>(
    _ deadline: Duration, _ reason: String, _ body: @escaping @Sendable () async throws -> R,
    onDeadline: @escaping @Sendable () -> Void
) async throws -> R {
    try await withThrowingTaskGroup(of: R?.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: deadline)
            return nil
        }
        defer { group.cancelAll() }
        if let result = try await group.next(), let result { return result }
        onDeadline()
        // The body ends by what onDeadline did; its own error is less telling than the deadline.
        _ = try? await group.next()
        throw WorkerError(.deadline, reason)
    }
}
