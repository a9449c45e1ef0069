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
        public var ports: DICOMPorts
        public var rules: AdmissionRules
        /// Workers kept ready, for each port.
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
            addresses: [String], ports: DICOMPorts, rules: AdmissionRules, warmWorkers: Int = 2,
            extraSOPClasses: [UID] = [], maxPDUBytes: Int = 131_072, idleTimeout: Duration = .seconds(60),
            associationDeadline: Duration = .seconds(3600), stopDeadline: Duration = .seconds(10),
            limits: ObjectLimits = .init(), leastFreeBytes: UInt64 = 0
        ) {
            self.addresses = addresses
            self.ports = ports
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

    private let settings: @Sendable () -> Settings
    private let listener: AssociationListener
    private let pool: ReceiverPool
    private let admitted: AsyncStream<AdmittedConnection>
    private let admitting: AsyncStream<AdmittedConnection>.Continuation
    private let logger: Logger

    /// The bound TCP ports.
    public var ports: DICOMPorts { listener.ports }
    public var openAssociations: Int { listener.openCount }
    /// Of the thread that accepts connections.
    public var acceptingPulse: Pulse { listener.pulse }
    /// Of who looks after the workers.
    public var workersPulse: Pulse { pool.pulse }

    /// Binds the ports; accepts once `run` is called.
    /// - Parameters:
    ///   - settings: asked for anew for each association: all but addresses and ports may change.
    ///   - commitments: takes what peers report on storage commitment.
    ///   - audit: is told what came from whom, and who was refused. Quick.
    ///   - book: as well.
    public init(
        settings: @escaping @autoclosure @Sendable () -> Settings, spool: Spool, programs: ReceivePrograms,
        intake: StudyIntake, commitments: @escaping @Sendable (CommitmentReport) async -> CommitmentAnswer,
        audit: @escaping @Sendable (ReceptionEvent) -> Void = { _ in }, book: AssociationBook = AssociationBook(),
        logger: Logger
    ) throws {
        self.settings = settings
        self.logger = logger
        (admitted, admitting) = AsyncStream.makeStream()
        listener = try AssociationListener(
            addresses: settings().addresses, ports: settings().ports, rules: settings().rules, audit: audit,
            book: book, logger: logger
        ) { [admitting] connection in
            // The node is stopping: nobody will serve it.
            if case .terminated = admitting.yield(connection) { close(connection.descriptor) }
        }
        pool = ReceiverPool(
            settings: settings, spool: spool, programs: programs, intake: intake, commitments: commitments,
            audit: audit, book: book, logger: logger)
    }

    public func run() async throws {
        await pool.refill()
        let listening = listener.start()
        await withTaskCancellationOrGracefulShutdownHandler {
            await withDiscardingTaskGroup { group in
                group.addTask { [pool] in await pool.keepDeadlines() }
                for await connection in admitted {
                    group.addTask { [self] in
                        await pool.serve(connection)
                        listener.release(connection)
                    }
                }
                await pool.stop(within: settings().stopDeadline)
            }
        } onCancelOrGracefulShutdown: { [listener, admitting] in
            listener.stop()
            admitting.finish()
        }
        await listening.value
    }
}

/// What to start for each port.
public struct ReceivePrograms: Sendable {
    public var plain: WorkerProgram
    /// Loads the key material at its start; nil where there is no TLS port.
    public var tls: WorkerProgram?
    /// Files that a worker for the TLS port loads: one that is older than they are is of no use.
    public var tlsFiles: [String]

    public init(plain: WorkerProgram, tls: WorkerProgram? = nil, tlsFiles: [String] = []) {
        self.plain = plain
        self.tls = tls
        self.tlsFiles = tlsFiles
    }

    func program(_ transport: Transport) -> WorkerProgram? { transport == .plain ? plain : tls }
}

/// The receive workers: those that wait, and those that serve. Workers for the plain port never hold the private key.
actor ReceiverPool {
    /// A worker that waits, and the state of the files that it has loaded.
    private struct Idle {
        var worker: WorkerProcess
        var files: [FileStamp?]
    }

    /// What workers are made of, and the state of the files that it has loaded.
    private struct Prepared {
        var template: WorkerTemplate
        var files: [FileStamp?]
    }

    /// A worker that serves, and when it is to be killed; nil once it was.
    private struct Serving {
        var worker: WorkerProcess
        var end: ContinuousClock.Instant?
        var log: Logger
    }

    private let current: @Sendable () -> Reception.Settings
    /// As of now: they may change.
    private var settings: Reception.Settings { current() }
    private let spool: Spool
    private let programs: ReceivePrograms
    private let intake: StudyIntake
    private let commitments: @Sendable (CommitmentReport) async -> CommitmentAnswer
    private let audit: @Sendable (ReceptionEvent) -> Void
    private let book: AssociationBook
    private let logger: Logger
    private var templates: [Transport: Prepared] = [:]
    /// Counts how often all that was prepared for a port was thrown away.
    private var generations: [Transport: Int] = [:]
    private let starting = AsyncLock()
    private var idle: [Transport: [Idle]] = [:]
    private var serving: [String: Serving] = [:]
    nonisolated let pulse = Pulse()
    private var isStopping = false
    private var isRefilling = false
    private var served = 0
    private var failuresLogged = RateLimit(perMinute: 60)
    /// As the log says.
    private var confinementMissing: [String] = []
    private static let stopping = WorkerError(.closed, "the node is stopping")
    /// Apart, so that what peers can bring about does not hide what an administrator has to mend.
    private var startFailuresLogged = RateLimit(perMinute: 6)
    private let crashes = Counter(label: "ichnode_worker_crashes_total", dimensions: [("verb", "receive")])
    private let associations = Counter(label: "ichnode_associations_total")
    private let associationTime = Metrics.Timer(label: "ichnode_association_seconds")
    private let receiveTime = Metrics.Timer(label: "ichnode_instance_receive_seconds")
    private let refusedAssociations = Counter(label: "ichnode_associations_refused_total")
    private let failedHandshakes = Counter(label: "ichnode_tls_handshakes_failed_total")
    private let stored = Counter(label: "ichnode_instances_stored_total")
    private let refusedInstances = Counter(label: "ichnode_instances_refused_total")

    init(
        settings: @escaping @Sendable () -> Reception.Settings, spool: Spool, programs: ReceivePrograms,
        intake: StudyIntake, commitments: @escaping @Sendable (CommitmentReport) async -> CommitmentAnswer,
        audit: @escaping @Sendable (ReceptionEvent) -> Void, book: AssociationBook, logger: Logger
    ) {
        current = settings
        self.spool = spool
        self.programs = programs
        self.intake = intake
        self.commitments = commitments
        self.audit = audit
        self.book = book
        self.logger = logger
    }

    /// Starts workers until enough are ready for either port.
    func refill() async {
        guard !isRefilling else { return }
        isRefilling = true
        defer { isRefilling = false }
        var failed: Set<Transport> = []
        // Looked at anew after each: while one port's are started, the other's are taken.
        while !isStopping, let transport = lacking(besides: failed) {
            do {
                let generation = generations[transport]
                let ready = try await startWorker(transport)
                guard !isStopping, generations[transport] == generation else {
                    Task { await ready.worker.stop() }
                    continue
                }
                idle[transport, default: []].append(ready)
            } catch {
                // Tried again for each association.
                failed.insert(transport)
                guard !isStopping, startFailuresLogged.allows(at: ProcessInfo.processInfo.systemUptime) else {
                    continue
                }
                logger.error(
                    "receive worker does not start",
                    metadata: ["error": "\(error)", "port": "\(transport == .tls ? "tls" : "plain")"])
            }
        }
    }

    /// The port with the fewest workers ready, where that is too few.
    private func lacking(besides failed: Set<Transport>) -> Transport? {
        let settings = settings
        let open: [Transport] =
            (settings.ports.plain == nil ? [] : [.plain]) + (settings.ports.tls == nil ? [] : [.tls])
        return open.filter { !failed.contains($0) && ready($0) < settings.warmWorkers }.min { ready($0) < ready($1) }
    }

    private func ready(_ transport: Transport) -> Int { idle[transport, default: []].count }

    private func startWorker(_ transport: Transport) async throws -> Idle {
        let (worker, files) = try await starting.inTurn {
            let prepared = try await preparedTemplate(transport)
            do { return (try await prepared.template.makeWorker(limits: .messagesOnly), prepared.files) } catch {
                // It may have been killed a moment ago.
                discardTemplate(transport)
                let another = try await preparedTemplate(transport)
                return (try await another.template.makeWorker(limits: .messagesOnly), another.files)
            }
        }
        let hello = try await worker.start()
        // Of a kernel that lacks it every worker says the same.
        if !hello.confinement.missing.isEmpty, confinementMissing != hello.confinement.missing {
            confinementMissing = hello.confinement.missing
            logger.warning(
                "worker confinement is not complete", metadata: ["missing": "\(hello.confinement.missing)"])
        }
        return Idle(worker: worker, files: files)
    }

    /// That of the port, a new one where it has ended or is older than the files that it has loaded.
    private func preparedTemplate(_ transport: Transport) async throws -> Prepared {
        guard !isStopping else { throw Self.stopping }
        guard let program = programs.program(transport) else {
            throw WorkerError(.start, "there is no program for the TLS port")
        }
        // Before it loads them: what is replaced meanwhile counts as newer than the template.
        let files = currentFiles(transport)
        if let known = templates[transport], known.template.isRunning, known.files == files { return known }
        discardTemplate(transport)
        let prepared = Prepared(template: try await WorkerTemplate(program), files: files)
        templates[transport] = prepared
        return prepared
    }

    private func discardTemplate(_ transport: Transport) {
        guard let old = templates.removeValue(forKey: transport) else { return }
        Task { await old.template.stop() }
    }

    /// Nothing that a peer may have learned by a crash holds for the next worker: it is made of a new template, with
    /// other addresses.
    private func startAfresh(_ transport: Transport) {
        generations[transport, default: 0] += 1
        discardTemplate(transport)
        for each in idle.removeValue(forKey: transport) ?? [] { Task { await each.worker.stop() } }
        Task { await refill() }
    }

    private func currentFiles(_ transport: Transport) -> [FileStamp?] {
        transport == .plain ? [] : programs.tlsFiles.map { FileStamp(path: $0) }
    }

    /// One that waits and can serve: neither dead nor older than the files that it has loaded.
    private func takeIdle(_ transport: Transport) -> WorkerProcess? {
        let files = currentFiles(transport)
        while !idle[transport, default: []].isEmpty {
            let next = idle[transport, default: []].removeFirst()
            if next.worker.isRunning && next.files == files { return next.worker }
            Task { await next.worker.stop() }
        }
        return nil
    }

    /// Serves one association to its end. Never throws: what goes wrong costs this association and is logged.
    func serve(_ connection: AdmittedConnection) async {
        served += 1
        let id = "\(ProcessInfo.processInfo.processIdentifier)-\(served)"
        var log = logger
        log[metadataKey: "association.id"] = "\(id)"
        log[metadataKey: "peer.address"] = "\(connection.peerAddress)"
        if let title = connection.callingAETitle { log[metadataKey: "peer.ae"] = "\(title)" }
        let begun = ContinuousClock.now
        var course = Course(association: id, peer: connection.peerAddress)
        book.opened(id, connection)
        // Within TLS there is none until the handshake is done and the request was admitted: nobody who only stalls
        // keeps a study open.
        if connection.transport == .plain { await opened(&course) }
        do {
            let worker = try await hand(connection, association: id, log)
            Task { await refill() }
            try await follow(worker, &course, &log)
        } catch {
            log.log(level: isStopping ? .notice : .error, "association failed", metadata: ["error": "\(error)"])
        }
        if let ended = serving.removeValue(forKey: id) {
            let ending = await ended.worker.stop()
            if ending != .exited(code: 0) {
                crashes.increment()
                log.error("receive worker died", metadata: ["ending": "\(ending)"])
                startAfresh(connection.transport)
            }
        }
        do { try spool.removeUnfinished(association: id) } catch {
            log.error("cannot remove what an association left", metadata: ["error": "\(error)"])
        }
        course.transfers.end(trouble: course.ending == .released ? nil : course.trouble).forEach(audit)
        book.ended(id, course.entryEnding)
        if course.isOpen {
            associationTime.record(duration: begun.duration(to: .now))
            await intake.associationEnded(id, course.ending)
        }
    }

    /// How far an association has come.
    private struct Course {
        let association: String
        let peer: String
        var isOpen = false
        /// Until the worker tells of another: it died.
        var ending = AssociationConclusion.imageLost
        var trouble = "the receive worker died"
        /// Why there was no association.
        var refusal: String?
        var hasRefusedImage = false
        /// Of which the assembler was told.
        var lost = 0
        /// For each association, so that none hides what is refused to others.
        var refusalsLogged = RateLimit(perMinute: 60)
        /// Of the instances that the worker tells of.
        var common: CommonAttributes?
        var transfers: ReceivedTransfers

        init(association: String, peer: String) {
            self.association = association
            self.peer = peer
            transfers = ReceivedTransfers(peerAddress: peer)
        }

        var entryEnding: AssociationEntry.Ending {
            if let refusal { return .refused(refusal) }
            return ending == .released ? .released : .broken(trouble)
        }
    }

    private func opened(_ course: inout Course) async {
        guard !course.isOpen else { return }
        course.isOpen = true
        associations.increment()
        await intake.associationOpened(course.association, peer: course.peer)
    }

    /// Gives the connection to a worker. Our copy of the descriptor is closed in any case, or it would outlive the
    /// association.
    private func hand(
        _ connection: AdmittedConnection, association id: String, _ log: Logger
    ) async throws -> WorkerProcess {
        defer { close(connection.descriptor) }
        // One that died while it waited must not cost an association.
        let ready = takeIdle(connection.transport)
        let worker = if let ready { ready } else { try await startWorker(connection.transport).worker }
        // Those who serve have been told to stop already.
        guard !isStopping else {
            await worker.stop()
            throw Self.stopping
        }
        let settings = settings
        // Within TLS the handshake comes before the association, whose deadline the worker keeps.
        let patience: Duration = .seconds(5) + settings.rules.requestDeadline
        serving[id] = Serving(worker: worker, end: .now + settings.associationDeadline + patience, log: log)
        try await worker.send(ReceiveRequest.serve(job(id, connection, settings)), descriptor: connection.descriptor)
        return worker
    }

    private func job(
        _ id: String, _ connection: AdmittedConnection, _ settings: Reception.Settings
    ) -> AssociationJob {
        AssociationJob(
            associationID: id, peerAddress: connection.peerAddress, calledAETitles: settings.rules.calledAETitles,
            extraSOPClasses: settings.extraSOPClasses, maxPDUBytes: settings.maxPDUBytes,
            idleTimeoutSeconds: settings.idleTimeout.inSeconds,
            deadlineSeconds: settings.associationDeadline.inSeconds, limits: settings.limits,
            leastFreeBytes: settings.leastFreeBytes,
            tls: connection.transport == .plain
                ? nil
                : SecureAdmission(
                    rules: settings.rules.associationRules, hasRoom: settings.rules.hasRoom(),
                    requestSeconds: settings.rules.requestDeadline.inSeconds))
    }

    /// Kills each worker that overruns its deadline, until the pool has stopped. One task for all: a cancelled
    /// `Task.sleep` keeps its memory until it would have ended, here an hour.
    func keepDeadlines() async {
        while !isStopping || !serving.isEmpty {
            pulse.beat()
            do { try await Task.sleep(for: .milliseconds(500)) } catch { return }
            for (id, each) in serving {
                guard let end = each.end, end < .now else { continue }
                each.log.error("receive worker overran its deadline and is killed")
                each.worker.kill()
                serving[id]?.end = nil
            }
        }
    }

    /// Handles a worker's events until it closes its channel, or is killed.
    private func follow(_ worker: WorkerProcess, _ course: inout Course, _ log: inout Logger) async throws {
        for try await frame in worker.frames {
            let event = try frame.message(ReceiveEvent.self)
            if case .accepted(let accepted) = event {
                log[metadataKey: "peer.ae"] = "\(accepted.callingAETitle)"
                book.change(course.association) { $0.accepted(accepted) }
                await opened(&course)
            }
            if case .common(let common) = event { course.common = common }
            if case .refused(let refusal) = event, Self.isImage(refusal.object) {
                course.hasRefusedImage = true
                await noteLoss(of: refusal.object, &course)
            }
            if case .ended(let ended) = event {
                if let object = ended.lost, Self.isImage(object) { await noteLoss(of: object, &course) }
                course.ending = Self.conclusion(ended, course)
                course.trouble = Self.trouble(ended, course)
            }
            try await handle(event, from: worker, &course, log)
        }
    }

    /// CT, Enhanced CT, Legacy Converted Enhanced CT Image Storage.
    private static let ctClasses: Set<String> = [
        "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2",
    ]

    private static func isImage(_ object: LostObject) -> Bool { ctClasses.contains(object.sopClassUID) }

    /// A sender of which everything is refused costs no more than this many; what is lost beyond it nobody knows.
    private static let mostLost = 1000

    private func noteLoss(of object: LostObject, _ course: inout Course) async {
        course.lost += 1
        guard course.lost <= Self.mostLost else { return }
        await intake.lost(object, association: course.association)
    }

    private static func conclusion(_ ended: AssociationEnded, _ course: Course) -> AssociationConclusion {
        // Of what is known to be lost the assembler has been told.
        if ended.isWithinMessage && ended.lost == nil || course.lost > mostLost { return .imageLost }
        return ended.how == .released ? .released : .brokeOff
    }

    private static func trouble(_ ended: AssociationEnded, _ course: Course) -> String {
        let reason = ended.reason.isEmpty ? "" : " (\(ended.reason))"
        return "association \(ended.how.rawValue)\(reason)"
            + (ended.isWithinMessage ? ", within an object" : "")
            + (course.hasRefusedImage ? ", an image was refused" : "")
    }

    /// - Throws: where no object can be so large: what the ledger adds up stays within a number.
    private static func check(_ record: InstanceRecord) throws {
        guard (0...2 * ObjectLimits.widest.objectBytes).contains(record.fileSize) else {
            throw WorkerError(.protocolViolation, "an object of \(record.fileSize) bytes")
        }
    }

    private func handle(
        _ event: ReceiveEvent, from worker: WorkerProcess, _ course: inout Course, _ log: Logger
    ) async throws {
        let id = course.association
        switch event {
        case .accepted(let accepted): log.info("association accepted", metadata: Self.metadata(accepted))
        case .common: break
        case .stored(let own, let microseconds):
            guard let common = course.common else {
                throw WorkerError(.protocolViolation, "an instance before what it has in common with others")
            }
            stored.increment()
            receiveTime.recordMicroseconds(max(0, microseconds))
            let record = InstanceRecord(common, own)
            try Self.check(record)
            course.transfers.add(record, record.version == 1 ? .created : .versioned).forEach(audit)
            book.change(id) { $0.stored(record, isKnown: false) }
            await take(record, association: id, isPlaced: true)
        case .collision(let collision):
            try Self.check(collision.record)
            let (verdict, version) = await judge(collision)
            if verdict == .identical {
                // The ledger may not know it: the worker that stored it died before it could say so.
                var record = collision.record
                record.version = version
                course.transfers.add(record, .alreadyHeld).forEach(audit)
                book.change(id) { $0.stored(record, isKnown: true) }
                await take(record, association: id, isPlaced: false)
            }
            try await worker.send(ReceiveRequest.verdict(verdict))
        case .refused(let refusal):
            refusedInstances.increment()
            book.change(id) { $0.refusedObject(refusal.reason) }
            guard course.refusalsLogged.allows(at: ProcessInfo.processInfo.systemUptime) else { break }
            log.warning(
                "object refused",
                metadata: ["status": "0x\(String(refusal.status, radix: 16))", "reason": "\(refusal.reason)"])
        case .echoed:
            book.change(id) { $0.echoes += 1 }
            log.debug("echo answered")
        case .commitment(let report):
            let answer = await commitments(report)
            if answer == .unknown { warn("report of commitment refused", "unknown Transaction UID", log) }
            try await worker.send(ReceiveRequest.commitment(answer))
        case .reportRefused(let reason): warn("report of commitment refused", reason, log)
        case .ended(let ended) where ended.how == .handshake:
            failedHandshakes.increment()
            course.refusal = ended.reason
            audit(.refused(peerAddress: course.peer, reason: ended.reason))
            warn("TLS handshake failed", ended.reason, log)
        case .ended(let ended) where ended.how == .rejected:
            refusedAssociations.increment()
            course.refusal = ended.reason
            audit(.refused(peerAddress: course.peer, reason: ended.reason))
            warn("connection refused", ended.reason, log)
        case .ended(let ended):
            log.info(
                "association ended",
                metadata: [
                    "how": "\(ended.how.rawValue)", "reason": "\(ended.reason)",
                    "instances": "\(ended.storedInstances)",
                ])
        }
    }

    private func take(_ record: InstanceRecord, association id: String, isPlaced: Bool) async {
        let path = spool.path(
            study: record.studyInstanceUID, instance: record.sopInstanceUID, version: record.version)
        await intake.stored(record, path: path, association: id, isPlaced: isPlaced)
    }

    private static func metadata(_ accepted: AssociationAccepted) -> Logger.Metadata {
        var metadata: Logger.Metadata = ["contexts": "\(accepted.acceptedContexts) of \(accepted.proposedContexts)"]
        guard let tls = accepted.tls else { return metadata }
        metadata["tls.version"] = "\(tls.version)"
        metadata["tls.cipher"] = "\(tls.cipher)"
        if let subject = tls.peerCertificate { metadata["peer.certificate"] = "\(subject)" }
        return metadata
    }

    /// Of what any peer can bring about as often as it likes.
    private func warn(_ message: Logger.Message, _ reason: String, _ log: Logger) {
        guard failuresLogged.allows(at: ProcessInfo.processInfo.systemUptime) else { return }
        log.warning(message, metadata: ["reason": "\(reason)"])
    }

    /// Reads two whole files at worst: neither on the actor, nor on the cooperative pool.
    private nonisolated func judge(_ collision: Collision) async -> (verdict: CollisionVerdict, version: Int) {
        await withCheckedContinuation { continuation in
            DispatchQueue.global(qos: .default).async { [spool, logger] in
                let judged = spool.judge(collision) { path, error in
                    logger.error(
                        "a stored object cannot be used; what comes again is kept as its next version",
                        metadata: ["path": "\(path)", "error": "\(error)"])
                }
                continuation.resume(returning: judged)
            }
        }
    }

    /// Asks all to stop, waits, kills.
    func stop(within deadline: Duration) async {
        isStopping = true
        // A ledger that refuses would keep those who serve from ending.
        await intake.stopHoldingBack()
        for each in idle.values.joined() { await each.worker.stop() }
        idle = [:]
        for transport in Transport.allCases { discardTemplate(transport) }
        for each in serving.values { try? await each.worker.send(ReceiveRequest.stop) }
        let end = ContinuousClock.now + deadline
        while !serving.isEmpty && ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(20)) }
        for each in serving.values { each.worker.kill() }
    }
}
