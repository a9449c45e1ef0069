internal import Foundation
public import Logging
internal import Metrics
public import WorkerProtocol

/// The inference engine in a child process (`ichnode infer`), started when first needed and again when it has died.
///
/// Calls are answered one at a time, in order. A request in flight when the child dies is tried once more on a new
/// child, then thrown. A child that does not answer by its deadline is killed and the call throws.
public actor InferenceChild: InferenceEngine {
    /// How long the child may take.
    public struct Deadlines: Sendable {
        /// Start, reading and compiling the model.
        public var load: Duration
        /// One encoder call.
        public var encode: Duration
        public var score: Duration

        public init(load: Duration = .seconds(60), encode: Duration = .seconds(60), score: Duration = .seconds(60)) {
            self.load = load
            self.encode = encode
            self.score = score
        }
    }

    private let package: ModelPackage
    private let program: WorkerProgram
    private let threads: Int
    private let deadlines: Deadlines
    private let logger: Logger
    private let sizes: ModelSizes
    private let turn = AsyncLock()
    private var child: WorkerProcess?
    private var starts = 0
    private let crashes = Counter(label: "ichnode_worker_crashes_total", dimensions: [("verb", "infer")])
    private let encodeTime = Metrics.Timer(label: "ichnode_encode_seconds")
    private let scoreTime = Metrics.Timer(label: "ichnode_score_seconds")

    /// - Parameters:
    ///   - executable: the program whose `infer` subcommand calls `InferenceServer.run`.
    ///   - threads: at most this many for one inference.
    public init(
        package: ModelPackage, executable: String, threads: Int = InferenceServer.defaultThreads,
        deadlines: Deadlines = .init(), logger: Logger = Logger(label: "ichnode.inference")
    ) {
        self.init(
            package: package,
            program: WorkerProgram(
                path: executable,
                arguments: InferenceServer.arguments(modelDirectory: package.directory, threads: threads)),
            threads: threads, deadlines: deadlines, logger: logger)
    }

    /// - Parameter program: whatever speaks `InferRequest` and `InferEvent`.
    public init(
        package: ModelPackage, program: WorkerProgram, threads: Int, deadlines: Deadlines = .init(),
        logger: Logger = Logger(label: "ichnode.inference")
    ) {
        self.package = package
        self.program = program
        self.threads = threads
        self.deadlines = deadlines
        self.logger = logger
        sizes = ModelSizes(package)
    }

    /// Children started after the first.
    public var restartCount: Int { max(0, starts - 1) }
    /// The running child's process id.
    public var processID: Int32? { child?.processID }

    /// Starts the child and loads the model, where that has not happened yet: for start-up checks.
    public func prepare() async throws {
        try await turn.inTurn { [self] in _ = try await running() }
    }

    public func encode(planes: [Float], count: Int) async throws -> [EncodedPlane] {
        try sizes.checkEncode(planes, count: count)
        let request = InferRequest.encode(count: count, size: sizes.input)
        let bulk = [Floats.bytes(planes)]
        let answer = try await exchange(request, bulk, within: deadlines.encode, hasBulk: true, encodeTime)
        guard case .encoded(count) = answer.event, let encoded = answer.bulk else { throw unexpected() }
        return try sizes.split(try Floats.values(encoded), count: count)
    }

    public func score(embeddings: [Float], logits: [Float], count: Int) async throws -> StudyScores {
        try sizes.checkScore(embeddings: embeddings, logits: logits, count: count)
        let bulk = [Floats.bytes(embeddings), Floats.bytes(logits)]
        let request = InferRequest.score(count: count)
        let answer = try await exchange(request, bulk, within: deadlines.score, hasBulk: false, scoreTime)
        guard case .scored(let scores) = answer.event else { throw unexpected() }
        try sizes.check(scores, count: count)
        return scores
    }

    /// Ends the child; a call in flight sees its end, a later one starts another.
    public func stop() async {
        let ended = child
        child = nil
        await ended?.stop()
    }

    // MARK: One request

    private typealias Answer = (event: InferEvent, bulk: Data?)

    private func exchange(
        _ request: InferRequest, _ bulk: [Data], within deadline: Duration, hasBulk: Bool, _ time: Metrics.Timer
    ) async throws -> Answer {
        try await turn.inTurn { [self] in
            let begun = ContinuousClock.now
            defer { time.record(duration: begun.duration(to: .now)) }
            do { return try await ask(request, bulk, deadline, hasBulk) } catch let error as WorkerError
                where error.code == .closed
            {
                logger.warning("inference child died, trying once more", metadata: ["error": "\(error)"])
                return try await ask(request, bulk, deadline, hasBulk)
            }
        }
    }

    /// Whatever goes wrong on the channel leaves it in an unknown state: then the child goes.
    private func ask(_ request: InferRequest, _ bulk: [Data], _ deadline: Duration, _ hasBulk: Bool) async throws
        -> Answer
    {
        let process = try await running()
        let answer: Answer
        do { answer = try await Self.ask(process, request, bulk, deadline, hasBulk) } catch {
            await discard(process)
            try Task.checkCancellation()
            crashes.increment()
            throw error
        }
        if case .failed(let reason) = answer.event { throw ModelError(.inference, reason) }
        return answer
    }

    private static func ask(
        _ process: WorkerProcess, _ request: InferRequest, _ bulk: [Data], _ deadline: Duration, _ hasBulk: Bool
    ) async throws -> Answer {
        try await withDeadline(deadline, "the inference child did not answer within \(deadline)") {
            try await process.send(request, bulk: bulk)
            let event: InferEvent = try await message(from: process)
            var answer: Data?
            if hasBulk, case .encoded = event { answer = try await Self.bulk(from: process) }
            return (event, answer)
        } onDeadline: {
            process.kill()
        }
    }

    private static func frame(from process: WorkerProcess) async throws -> Frame {
        // All iterators of the stream take from one buffer.
        var iterator = process.frames.makeAsyncIterator()
        guard let frame = try await iterator.next() else { throw WorkerError(.closed, "the inference child ended") }
        return frame
    }

    private static func message(from process: WorkerProcess) async throws -> InferEvent {
        guard case .message(let payload) = try await frame(from: process) else {
            throw WorkerError(.protocolViolation, "bulk bytes where a message was due")
        }
        do { return try JSONDecoder().decode(InferEvent.self, from: payload) } catch {
            throw WorkerError(.protocolViolation, "a message that is no InferEvent")
        }
    }

    private static func bulk(from process: WorkerProcess) async throws -> Data {
        guard case .bulk(let payload) = try await frame(from: process) else {
            throw WorkerError(.protocolViolation, "a message where bulk bytes were due")
        }
        return payload
    }

    private func unexpected() -> WorkerError {
        WorkerError(.protocolViolation, "the inference child answered something else than it was asked")
    }

    // MARK: The child

    private func running() async throws -> WorkerProcess {
        if let child { return child }
        let process = try WorkerProcess(program)
        starts += 1
        do {
            let hello = try await process.start(within: deadlines.load)
            if !hello.confinement.missing.isEmpty {
                let missing = hello.confinement.missing.joined(separator: "; ")
                logger.warning(
                    "inference child is less confined than it should be", metadata: ["missing": "\(missing)"])
            }
            let load = InferRequest.load(modelDirectory: package.directory, threads: threads)
            let answer = try await Self.ask(process, load, [], deadlines.load, false)
            switch answer.event {
            case .loaded(sizes.embedding, sizes.classes, sizes.map, package.modelDigest): break
            case .loaded(_, _, _, let digest):
                logger.error(
                    "model package was changed under the running node: restart the node",
                    metadata: ["digest": "\(digest)", "digest.running": "\(package.modelDigest)"])
                throw ModelError(.package, "the model package was changed under the running node: restart the node")
            case .failed(let reason): throw ModelError(.package, reason)
            default: throw unexpected()
            }
        } catch {
            await end(process)
            try Task.checkCancellation()
            crashes.increment()
            throw error
        }
        logger.notice(
            "inference child is ready", metadata: ["process.id": "\(process.processID)", "starts": "\(starts)"])
        child = process
        return process
    }

    private func discard(_ process: WorkerProcess) async {
        if child === process { child = nil }
        await end(process)
    }

    private func end(_ process: WorkerProcess) async {
        process.kill()
        _ = await process.ended()
    }
}
