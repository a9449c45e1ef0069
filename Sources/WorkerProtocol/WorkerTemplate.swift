internal import CLinux
internal import Foundation

#if canImport(Glibc)
internal import Glibc
#endif

/// A process that is prepared to be a worker and makes workers by fork(2), which costs a fraction of what starting the
/// program does. It never sees a byte of a peer.
///
/// All workers of one template have the same addresses: what a peer learns of one by crashing it would hold for the
/// next. So the owner throws a template away once a worker of it has crashed.
public actor WorkerTemplate {
    /// Of the template; its workers have that of the program. /proc/PID/comm shows it.
    static let processName = "dicom-template"

    private let process: WorkerProcess
    private let turn = AsyncLock()

    /// Starts the program with the argument `--template`.
    /// - Throws: `WorkerError` when it cannot be started or prepared.
    public init(_ program: WorkerProgram) async throws {
        var program = program
        program.arguments.append("--template")
        // Each symbol is looked up here, and not again in every worker.
        program.environment.append("LD_BIND_NOW=1")
        process = try WorkerProcess(program, limits: .messagesOnly)
        try await process.start()
    }

    public nonisolated var processID: Int32 { process.processID }

    /// False soon after the process has ended.
    public nonisolated var isRunning: Bool { process.isRunning }

    /// A new worker, before its hello.
    /// - Parameter limits: of each frame that is read from it.
    /// - Throws: `WorkerError` when there is none; the template is of no use then.
    public func makeWorker(limits: Frame.Limits = .init(), within deadline: Duration = .seconds(5)) async throws
        -> WorkerProcess
    {
        // One reply at a time: it carries no number of its request.
        try await turn.inTurn {
            var sockets: [Int32] = [-1, -1]
            guard clinux_socket_pair(&sockets) == 0 else {
                throw WorkerError(.system, "cannot make a socket pair: \(Errno.text)")
            }
            let channel = Channel(takingOwnershipOf: sockets[0], limits: limits)
            let theirs = sockets[1]
            defer { close(theirs) }
            let reply = try await withDeadline(deadline, "no reply from the template of workers") { [process] in
                try await process.send(TemplateRequest.fork, descriptor: theirs)
                for try await frame in process.frames { return try frame.message(TemplateReply.self) }
                throw WorkerError(.closed, "the template of workers ended")
            } onDeadline: { [process] in
                process.kill()
            }
            switch reply {
            case .forked(let pid): return WorkerProcess(processID: pid, channel: channel)
            case .failed(let reason): throw WorkerError(.start, "cannot fork a worker: \(reason)")
            }
        }
    }

    /// Ends the template; its workers go on.
    public func stop() async { await process.stop() }
}
