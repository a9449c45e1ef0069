internal import CLinux
internal import Foundation
internal import Ledger
public import Logging
internal import Metrics
public import ServiceLifecycle
public import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// Receives DICOM: listens, admits, and hands each association to a confined worker process of its own.
///
/// Workers are started ahead, so that an association does not wait for a process to start.
public final class Reception: Service {
    public struct Settings: Sendable {
        public var addresses: [String]
        public var port: Int
        public var rules: AdmissionRules
        /// Workers kept ready.
        public var warmWorkers: Int
        public var extraSOPClasses: [UID]
        public var maxPDUBytes: Int
        public var idleTimeout: Duration
        public var associationDeadline: Duration
        /// How long associations may go on after the node was told to stop.
        public var stopDeadline: Duration
        public var limits: ObjectLimits
        /// Second watermark of the disk: with less free, workers refuse objects.
        public var leastFreeBytes: UInt64

        public init(
            addresses: [String], port: Int, rules: AdmissionRules, warmWorkers: Int = 2, extraSOPClasses: [UID] = [],
            maxPDUBytes: Int = 131_072, idleTimeout: Duration = .seconds(60),
            associationDeadline: Duration = .seconds(3600), stopDeadline: Duration = .seconds(10),
            limits: ObjectLimits = .init(), leastFreeBytes: UInt64 = 0
        ) {
            self.addresses = addresses
            self.port = port
            self.rules = rules
            self.warmWorkers = warmWorkers
            self.extraSOPClasses = extraSOPClasses
            self.maxPDUBytes = maxPDUBytes
            self.idleTimeout = idleTimeout
            self.associationDeadline = associationDeadline
            self.stopDeadline = stopDeadline
            self.limits = limits
            self.leastFreeBytes = leastFreeBytes
        }
    }

    private let settings: Settings
    private let listener: AssociationListener
    private let pool: ReceiverPool
    private let admitted: AsyncStream<AdmittedConnection>
    private let admitting: AsyncStream<AdmittedConnection>.Continuation
    private let logger: Logger

    /// The bound TCP port.
    public var port: Int { listener.port }

    /// Binds the port; accepts once `run` is called.
    public init(
        settings: Settings, spool: Spool, program: WorkerProgram, intake: StudyIntake, logger: Logger
    ) throws {
        self.settings = settings
        self.logger = logger
        (admitted, admitting) = AsyncStream.makeStream()
        listener = try AssociationListener(
            addresses: settings.addresses, port: settings.port, rules: settings.rules, logger: logger
        ) { [admitting] connection in
            // The node is stopping: nobody will serve it.
            if case .terminated = admitting.yield(connection) { close(connection.descriptor) }
        }
        pool = ReceiverPool(settings: settings, spool: spool, program: program, intake: intake, logger: logger)
    }

    public func run() async throws {
        await pool.refill()
        let listening = listener.start()
        await withTaskCancellationOrGracefulShutdownHandler {
            await withDiscardingTaskGroup { group in
                for await connection in admitted {
                    group.addTask { [self] in
                        await pool.serve(connection)
                        listener.release(connection)
                    }
                }
                await pool.stop(within: settings.stopDeadline)
            }
        } onCancelOrGracefulShutdown: { [listener, admitting] in
            listener.stop()
            admitting.finish()
        }
        await listening.value
    }
}

/// The receive workers: those that wait, and those that serve.
actor ReceiverPool {
    private let settings: Reception.Settings
    private let spool: Spool
    private let program: WorkerProgram
    private let intake: StudyIntake
    private let logger: Logger
    private var idle: [WorkerProcess] = []
    private var serving: [String: WorkerProcess] = [:]
    private var isStopping = false
    private var isRefilling = false
    private var served = 0
    private let crashes = Counter(label: "ichnode_worker_crashes_total", dimensions: [("verb", "receive")])
    private let associations = Counter(label: "ichnode_associations_total")
    private let stored = Counter(label: "ichnode_instances_stored_total")
    private let refusedInstances = Counter(label: "ichnode_instances_refused_total")

    init(settings: Reception.Settings, spool: Spool, program: WorkerProgram, intake: StudyIntake, logger: Logger) {
        self.settings = settings
        self.spool = spool
        self.program = program
        self.intake = intake
        self.logger = logger
    }

    /// Starts workers until enough are ready.
    func refill() async {
        guard !isRefilling else { return }
        isRefilling = true
        defer { isRefilling = false }
        while !isStopping && idle.count < settings.warmWorkers {
            do { idle.append(try await startWorker()) } catch {
                logger.error("receive worker does not start", metadata: ["error": "\(error)"])
                return
            }
        }
    }

    private func startWorker() async throws -> WorkerProcess {
        let worker = try WorkerProcess(program, limits: .messagesOnly)
        let hello = try await worker.start()
        if !hello.confinement.missing.isEmpty {
            logger.warning(
                "worker confinement is not complete", metadata: ["missing": "\(hello.confinement.missing)"])
        }
        return worker
    }

    /// Serves one association to its end. Never throws: what goes wrong costs this association and is logged.
    func serve(_ connection: AdmittedConnection) async {
        served += 1
        let id = "\(ProcessInfo.processInfo.processIdentifier)-\(served)"
        var log = logger
        log[metadataKey: "association.id"] = "\(id)"
        log[metadataKey: "peer.address"] = "\(connection.peerAddress)"
        log[metadataKey: "peer.ae"] = "\(connection.callingAETitle)"
        associations.increment()
        await intake.associationOpened(id, peer: connection.peerAddress)
        var released = false
        do {
            let worker = try await hand(connection, association: id)
            Task { await refill() }
            released = try await follow(worker, association: id, log)
        } catch {
            log.error("association failed", metadata: ["error": "\(error)"])
        }
        if let worker = serving.removeValue(forKey: id) {
            let ending = await worker.stop()
            if ending != .exited(code: 0) {
                crashes.increment()
                log.error("receive worker died", metadata: ["ending": "\(ending)"])
            }
        }
        do { try spool.removeUnfinished(association: id) } catch {
            log.error("cannot remove what an association left", metadata: ["error": "\(error)"])
        }
        await intake.associationEnded(id, released: released)
    }

    /// Gives the connection to a worker. Our copy of the descriptor is closed in any case, or it would outlive the
    /// association.
    private func hand(_ connection: AdmittedConnection, association id: String) async throws -> WorkerProcess {
        defer { close(connection.descriptor) }
        // One that died while it waited must not cost an association.
        idle.removeAll { !$0.isRunning }
        let worker = idle.isEmpty ? try await startWorker() : idle.removeFirst()
        serving[id] = worker
        try await worker.send(ReceiveRequest.serve(job(id, connection)), descriptor: connection.descriptor)
        return worker
    }

    private func job(_ id: String, _ connection: AdmittedConnection) -> AssociationJob {
        AssociationJob(
            associationID: id, peerAddress: connection.peerAddress, calledAETitles: settings.rules.calledAETitles,
            extraSOPClasses: settings.extraSOPClasses, maxPDUBytes: settings.maxPDUBytes,
            idleTimeoutSeconds: settings.idleTimeout.inSeconds,
            deadlineSeconds: settings.associationDeadline.inSeconds, limits: settings.limits,
            leastFreeBytes: settings.leastFreeBytes)
    }

    /// Handles a worker's events until it closes its channel, or its deadline and some patience passed.
    /// - Returns: whether the peer released the association.
    private func follow(_ worker: WorkerProcess, association id: String, _ log: Logger) async throws -> Bool {
        let patience: Duration = .seconds(5)
        let watchdog = Task { [settings] in
            try await Task.sleep(for: settings.associationDeadline + patience)
            log.error("receive worker overran its deadline and is killed")
            worker.kill()
        }
        defer { watchdog.cancel() }
        var released = false
        for try await frame in worker.frames {
            let event = try frame.message(ReceiveEvent.self)
            if case .ended(let ended) = event { released = ended.how == .released }
            try await handle(event, from: worker, association: id, log)
        }
        return released
    }

    private func handle(
        _ event: ReceiveEvent, from worker: WorkerProcess, association id: String, _ log: Logger
    ) async throws {
        switch event {
        case .accepted(let accepted):
            log.info(
                "association accepted",
                metadata: ["contexts": "\(accepted.acceptedContexts) of \(accepted.proposedContexts)"])
        case .stored(let record, let path):
            let expected = spool.path(
                study: record.studyInstanceUID, instance: record.sopInstanceUID, version: record.version)
            guard path == expected.path else {
                throw WorkerError(.protocolViolation, "worker stored an object under another name than its UIDs give")
            }
            stored.increment()
            await intake.stored(record, path: path, association: id)
        case .collision(let collision):
            let (verdict, version) = await judge(collision)
            if verdict == .identical {
                // The ledger may not know it: the worker that stored it died before it could say so.
                var record = collision.record
                record.version = version
                let path = spool.path(
                    study: record.studyInstanceUID, instance: record.sopInstanceUID, version: version)
                await intake.stored(record, path: path.path, association: id)
            }
            try await worker.send(ReceiveRequest.verdict(verdict))
        case .refused(let refusal):
            refusedInstances.increment()
            log.warning(
                "object refused",
                metadata: ["status": "0x\(String(refusal.status, radix: 16))", "reason": "\(refusal.reason)"])
        case .echoed: log.debug("echo answered")
        case .ended(let ended):
            log.info(
                "association ended",
                metadata: [
                    "how": "\(ended.how.rawValue)", "reason": "\(ended.reason)",
                    "instances": "\(ended.storedInstances)",
                ])
        }
    }

    /// Reads two whole files at worst: neither on the actor, nor on the cooperative pool.
    private nonisolated func judge(_ collision: Collision) async -> (verdict: CollisionVerdict, version: Int) {
        await withCheckedContinuation { continuation in
            DispatchQueue.global(qos: .userInitiated).async { [spool] in
                continuation.resume(returning: spool.judge(collision))
            }
        }
    }

    /// Asks all to stop, waits, kills.
    func stop(within deadline: Duration) async {
        isStopping = true
        for worker in idle { await worker.stop() }
        idle = []
        for worker in serving.values { try? await worker.send(ReceiveRequest.stop) }
        let end = ContinuousClock.now + deadline
        while !serving.isEmpty && ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(20)) }
        for worker in serving.values { worker.kill() }
    }
}
