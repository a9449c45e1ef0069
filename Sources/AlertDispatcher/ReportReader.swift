public import WorkerProtocol

/// Has a confined worker say what a report holds: from the file that is sent, whichever version of the node wrote it.
public actor ReportReader {
    private static let deadline: Duration = .seconds(10)
    /// Files never change, so that what was read stays true.
    private static let mostKept = 16
    /// One that cannot be read is not tried again so soon.
    private static let pause: Duration = .seconds(60)
    private static let mostWaiting = 16

    private let program: WorkerProgram
    private let turn = AsyncLock()
    private var known: [(path: String, document: ReportDocument)] = []
    private var failures: [(path: String, error: WorkerError, at: ContinuousClock.Instant)] = []
    private var waiting = 0

    public init(program: WorkerProgram) { self.program = program }

    /// - Throws: `WorkerError` where the file cannot be read.
    public func document(at path: String) async throws -> ReportDocument {
        if let document = kept(path) { return document }
        guard waiting < Self.mostWaiting else { throw WorkerError(.failed, "many reports are being read: try again") }
        waiting += 1
        defer { waiting -= 1 }
        // One worker at a time, however many ask.
        return try await turn.inTurn {
            failures.removeAll { $0.at.duration(to: .now) > Self.pause }
            if let failure = failures.first(where: { $0.path == path }) { throw failure.error }
            do { return try await read(path) } catch let error as WorkerError {
                failures = failures.suffix(Self.mostKept - 1) + [(path, error, .now)]
                throw error
            }
        }
    }

    private func kept(_ path: String) -> ReportDocument? { known.first { $0.path == path }?.document }

    private func read(_ path: String) async throws -> ReportDocument {
        if let document = kept(path) { return document }
        let worker = try WorkerProcess(program, limits: Frame.Limits(bulk: 0))
        do {
            try await worker.start()
            let event = try await withDeadline(Self.deadline, "reading the report took too long") {
                try await worker.send(DescribeRequest(path: path))
                for try await frame in worker.frames { return try frame.message(DescribeEvent.self) }
                throw WorkerError(.closed, "the worker ended without an answer")
            } onDeadline: {
                worker.kill()
            }
            await worker.stop()
            switch event {
            case .failed(let reason): throw WorkerError(.failed, reason)
            case .described(let document):
                known = known.suffix(Self.mostKept - 1) + [(path, document)]
                return document
            }
        } catch {
            await worker.stop(patience: .milliseconds(200))
            throw error
        }
    }
}
