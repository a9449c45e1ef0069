internal import Foundation
public import Logging
internal import Metrics
public import WorkerProtocol

/// Pixels and headers of stored files, through a confined worker that is started when needed and replaced when it dies.
/// Requests are served one at a time.
public actor DecodeClient {
    /// One frame in Hounsfield units.
    public struct Plane: Sendable {
        public var plane: DecodedPlane
        /// int16, [row][column].
        public var hounsfield: [Int16]
    }

    public enum Outcome: Sendable {
        case plane(Plane)
        /// Why there are no pixels for us.
        case failed(String)
    }

    private let program: WorkerProgram
    private let logger: Logger
    private let deadline: Duration
    /// For one request.
    public static let defaultDeadline: Duration = .seconds(120)
    private var worker: (process: WorkerProcess, frames: WorkerFrames.Iterator)?
    private var served = 0
    private let turn = AsyncLock()
    private let crashes = Counter(label: "ichnode_worker_crashes_total", dimensions: [("verb", "decode")])
    private let decodeTime = Metrics.Timer(label: "ichnode_decode_seconds")

    /// Files that one worker decodes before it is replaced: what leaks goes with it.
    private static let filesPerWorker = 20_000
    /// Multi-frame files of which one frame ended a worker, and when: the others are not tried for a while.
    private var fatal: [String: ContinuousClock.Instant] = [:]
    private static let fatalFor: Duration = .seconds(600)

    public init(program: WorkerProgram, deadline: Duration = defaultDeadline, logger: Logger) {
        self.program = program
        self.deadline = deadline
        self.logger = logger
    }

    /// Decodes single-frame files, and frames of others; after a crash of the worker each alone once more, so that only
    /// the bad one fails, and with it the rest of its file. Nothing fails because somebody killed the worker.
    /// - Returns: one outcome for each.
    /// - Throws: `WorkerError` with code `start` or `system` when no worker can be had; `CancellationError`.
    public func planes(of frames: [FrameLocation]) async throws -> [FrameLocation: Outcome] {
        var outcomes: [FrameLocation: Outcome] = [:]
        for start in stride(from: 0, to: frames.count, by: DecodeRequest.mostFrames) {
            let batch = Array(frames[start..<min(start + DecodeRequest.mostFrames, frames.count)])
            let answered = try await turn.inTurn { try await attempt(batch) }
            outcomes.merge(answered) { $1 }
        }
        return outcomes
    }

    /// Reads the headers of stored files.
    /// - Returns: records of those that could be read.
    /// - Throws: `WorkerError` with code `start` or `system` when no worker can be had; `CancellationError`.
    public func describe(_ paths: [String]) async throws -> [String: InstanceRecord] {
        var records: [String: InstanceRecord] = [:]
        for path in paths {
            records[path] = try await turn.inTurn {
                do { return try await describeOne(path) } catch let error as WorkerError where Self.isPassing(error) {
                    throw error
                } catch {
                    await discardWorker()
                    try Task.checkCancellation()
                    logger.error("cannot read a stored file", metadata: ["path": "\(path)", "error": "\(error)"])
                    return nil
                }
            }
        }
        return records
    }

    public func stop() async {
        // Killed if need be: nobody waits for pixels any more.
        await discardWorker()
    }

    private func attempt(_ asked: [FrameLocation], isSecond: Bool = false) async throws -> [FrameLocation: Outcome] {
        var outcomes: [FrameLocation: Outcome] = [:]
        fatal = fatal.filter { $0.value.duration(to: .now) < Self.fatalFor }
        for frame in asked where fatal[frame.path] != nil {
            outcomes[frame] = .failed("another frame of the object cannot be decoded")
        }
        let batch = asked.filter { fatal[$0.path] == nil }
        guard !batch.isEmpty else { return outcomes }
        return outcomes.merging(try await attemptAll(batch, isSecond: isSecond)) { $1 }
    }

    private func attemptAll(_ batch: [FrameLocation], isSecond: Bool) async throws -> [FrameLocation: Outcome] {
        do { return try await decode(batch) } catch let error as WorkerError where Self.isPassing(error) {
            throw error
        } catch {
            // What it still has to say would be taken for an answer to the next request.
            await discardWorker()
            try Task.checkCancellation()
            crashes.increment()
            logger.error("decode worker died", metadata: ["files": "\(batch.count)", "error": "\(error)"])
            guard !isSecond else {
                if batch[0].number != nil { fatal[batch[0].path] = .now }
                return [batch[0]: .failed("pixels cannot be decoded: \(error)")]
            }
        }
        var outcomes: [FrameLocation: Outcome] = [:]
        for frame in batch { outcomes.merge(try await attempt([frame], isSecond: true)) { $1 } }
        return outcomes
    }

    /// Trouble of the machine, not of a file: worth another try by the caller.
    private static func isPassing(_ error: WorkerError) -> Bool { [.start, .system].contains(error.code) }

    private func decode(_ asked: [FrameLocation]) async throws -> [FrameLocation: Outcome] {
        let process = try await running()
        served += asked.count
        let begun = ContinuousClock.now
        defer { decodeTime.record(duration: begun.duration(to: .now)) }
        return try await withWatchdog(process) {
            try await process.send(DecodeRequest.decode(frames: asked))
            var outcomes: [FrameLocation: Outcome] = [:]
            while true {
                switch try await self.next(DecodeEvent.self) {
                case .done: return outcomes
                case .failed(let path, let number, let reason):
                    outcomes[FrameLocation(path: path, number: number)] = .failed(reason)
                case .described: throw WorkerError(.protocolViolation, "a description where planes were due")
                case .plane(let plane):
                    let numbered = FrameLocation(path: plane.path, number: plane.frame &+ 1)
                    let whole = FrameLocation(path: plane.path)
                    guard let frame = [numbered, whole].first(where: asked.contains) else {
                        throw WorkerError(.protocolViolation, "an unknown path or frame")
                    }
                    // One that hid its frames from series selection ends here.
                    guard frame.number != nil || plane.frameCount == 1 else {
                        throw WorkerError(.protocolViolation, "a multi-frame object")
                    }
                    outcomes[frame] = .plane(try await self.pixels(of: plane))
                }
            }
        }
    }

    private func pixels(of plane: DecodedPlane) async throws -> Plane {
        let side = 1...DecodeLimits.rowsOrColumns
        guard side.contains(plane.rows), side.contains(plane.columns) else {
            throw WorkerError(.protocolViolation, "impossible size of a plane")
        }
        guard case .bulk(let bytes) = try await nextFrame(), bytes.count == plane.rows * plane.columns * 2 else {
            throw WorkerError(.protocolViolation, "pixels do not have the size announced")
        }
        let hounsfield = bytes.withUnsafeBytes { raw in
            [Int16](unsafeUninitializedCapacity: raw.count / 2) { buffer, count in
                UnsafeMutableRawBufferPointer(buffer).copyMemory(from: raw)
                count = raw.count / 2
            }
        }
        return Plane(plane: plane, hounsfield: hounsfield)
    }

    private func describeOne(_ path: String) async throws -> InstanceRecord? {
        let process = try await running()
        served += 1
        return try await withWatchdog(process) {
            try await process.send(DecodeRequest.describe(paths: [path]))
            var record: InstanceRecord?
            while true {
                switch try await self.next(DecodeEvent.self) {
                case .described(_, let value): record = value
                case .failed(_, _, let reason):
                    self.logger.error(
                        "a stored file cannot be read", metadata: ["path": "\(path)", "reason": "\(reason)"])
                case .done: return record
                case .plane: throw WorkerError(.protocolViolation, "a plane where a description was due")
                }
            }
        }
    }

    private func running() async throws -> WorkerProcess {
        if served >= Self.filesPerWorker { await discardWorker() }
        if let worker { return worker.process }
        served = 0
        let process = try WorkerProcess(program)
        do { try await process.start() } catch {
            try Task.checkCancellation()
            crashes.increment()
            // It has not seen any file yet.
            throw WorkerError(.start, "the decode worker does not start: \(error)")
        }
        worker = (process, process.frames.makeAsyncIterator())
        return process
    }

    private func discardWorker() async {
        guard let process = worker?.process else { return }
        worker = nil
        await process.stop(patience: .milliseconds(500))
    }

    private func next<Message: Decodable>(_ type: Message.Type) async throws -> Message {
        try await nextFrame().message(type)
    }

    private func nextFrame() async throws -> Frame {
        guard var iterator = worker?.frames else { throw WorkerError(.closed, "no worker") }
        let frame = try await iterator.next(isolation: self)
        guard let frame else { throw WorkerError(.closed, "the worker ended") }
        return frame
    }

    /// Kills the worker when an answer takes too long: the reader then sees the end of its channel.
    private func withWatchdog<R>(_ process: WorkerProcess, _ body: () async throws -> R) async throws -> R {
        let watchdog = Task { [deadline] in
            try await Task.sleep(for: deadline)
            process.kill()
        }
        defer { watchdog.cancel() }
        return try await body()
    }
}
