import AlertDispatcher
import Console
import Foundation
import ICHModel
import Ledger
import Logging
import Metrics
import ServiceLifecycle
import StoreSCP
import UnixSignals
import WorkerProtocol

/// The one place where everything is put together.
struct Node {
    private let services: [any Service]
    private let decoder: DecodeClient
    private let engine: InferenceChild
    private let logger: Logger
    /// The bound DICOM ports.
    let ports: DICOMPorts

    /// Opens spool and ledger, mends them, loads the model, binds the ports.
    /// - Throws: what an administrator has to change, in words.
    init(
        _ configuration: NodeConfiguration, from source: ConfigurationSource, hangUps: UnixSignalsSequence,
        registry: MetricsRegistry, log: LogRing, clock: WallClock = .system, logger: Logger
    ) async throws {
        let folders = try NodeFolders(configuration)
        let package = try ModelPackage(directory: configuration.node.model)
        for route in configuration.routes { _ = try package.operatingPoint(route.threshold) }
        NodeMeasures.record(package, startedAt: clock.now())
        let lock = try folders.spool.open()
        try folders.requireWhole()
        let progress = SystemdNotifier.startProgress()
        let ledger = try SQLiteLedger(path: folders.ledger.path, clock: clock, progress: progress)
        let programs = WorkerPrograms(
            spool: folders.spool.root, results: folders.results, tls: configuration.tls?.files, lock: lock)
        decoder = DecodeClient(program: programs.decode, logger: logger)
        engine = InferenceChild(
            package: package, executable: WorkerProgram.beside("ichnode"), threads: configuration.node.inferenceThreads,
            logger: logger)
        let audit = AuditTrail.make(configuration, folders, ledger: ledger, clock: clock, logger: logger)
        let live = LiveConfiguration(
            InForce(configuration, from: source, programs: programs, audit: audit, clock: clock))
        let certificates = try await CertificateWatch(live.configuration.keyMaterials, logger: logger)
        // Before the mender, by a clock that may be wrong, adds what the ledger does not know.
        let latestArrival = try await ledger.studies(limit: 1).first?.lastReceivedAt
        try await SpoolMender(
            spool: folders.spool, ledger: ledger, decoder: decoder, clock: clock, logger: logger,
            progress: progress
        ).mend()

        let assembler = StudyAssembler(
            policy: live.configuration.completionPolicy, ledger: ledger, clock: clock, logger: logger,
            evidence: { HeaderEvidence(rules: live.configuration.selection).find($0, settled: $1) },
            counts: { try await live.value.queries.counts($0, from: $1) },
            retrieval: { live.value.queries.retrieval(for: $0) })
        try await assembler.recallGaps()
        for uid in try await ledger.unconcludedStudies() {
            let detail = try await ledger.study(uid)
            // What was found incomplete is looked at anew: not all that said so is in the ledger.
            let decision = detail?.events.last { $0.kind == "complete" }?.text ?? ""
            await assembler.resume(
                uid, instances: try await ledger.instances(ofStudy: uid),
                settledSeries: try await ledger.history(ofStudy: uid).settledSeries,
                wasAssembled: detail?.study.state == .analysing && CompletionPolicy.Decision.isComplete(decision),
                lost: try await ledger.lostImages(ofStudy: uid), isReprocessed: try await ledger.isReopened(uid))
        }
        let intake = StudyIntake(ledger: ledger, assembler: assembler, clock: clock, logger: logger)
        let composer = ReportComposer(
            program: programs.compose, results: folders.results, installation: try folders.installation(),
            stationName: configuration.node.aeTitle.string, softwareVersion: NodeVersion.string,
            algorithm: .init(name: package.name, version: package.version, digest: package.modelDigest), logger: logger)
        let findings = FindingFiles(results: folders.results, logger: logger)
        let viewed = try ledger.forViewers()
        let images = ViewerImages(
            findings: findings, ledger: viewed, program: programs.view, clock: clock, logger: logger)
        let pipeline = StudyPipeline(
            tools: .init(
                package: package, engine: engine, decoder: decoder, clock: clock, logger: logger),
            assembler: assembler, ledger: ledger, composer: composer, terms: live.value.terms, findings: findings)
        let outbox = Outbox(
            ledger: ledger, destinations: live.value.destinations, policy: live.configuration.retryPolicy, clock: clock,
            audit: { live.value.recordDelivery }, logger: logger)
        let commitments = CommitmentDesk(
            ledger: ledger, destinations: live.value.destinations, policy: live.configuration.retryPolicy, clock: clock,
            logger: logger)
        let disk = DiskWatch(path: folders.spool.root.path, watermarks: live.configuration.watermarks, logger: logger)
        let watch = AlertDestinations.watch(
            live, ledger: ledger, outbox: outbox, disk: disk, certificates: certificates, registry: registry,
            clock: clock, logger: logger)
        let sessions = SessionTable(live.value.configuration.console, clock: clock)
        let reloader = ConfigurationReloader(
            live, package: package, hangUps: hangUps, audit: audit, clock: clock, logger: logger,
            making: { InForce($0, from: $1, programs: programs, audit: audit, clock: clock, after: $2) },
            apply: { inForce, earlier in
                sessions.sweep()
                LogLevel.change(to: inForce.configuration.node.logLevel)
                audit?.change(to: inForce.configuration.node.allAETitles)
                let judgesAlike = inForce.configuration.judgesStudies(as: earlier.configuration)
                if judgesAlike { await assembler.askAgain() } else { await assembler.reconsider() }
                await outbox.reopen()
                await watch.reconsider()
                await certificates.lookAgain()
            })
        let commands = OperatorCommands(
            ledger: ledger, assembler: assembler, rules: { live.configuration.selection }, audit: audit,
            standing: { NodeStanding(live.value) }, reload: reloader.reload)
        let control = try ControlServer(
            path: ControlServer.path(runDirectory: configuration.node.runDirectory), logger: logger
        ) { await commands.answer($0, by: LocalUser.name($1)) }
        let retention = Retention(
            policy: live.configuration.retentionPolicy, ledger: ledger, clock: clock, logger: logger,
            latestArrival: latestArrival, isShort: { disk.state != DiskWatch.State.roomy }
        ) { audit?.record(.removed(study: $0, files: $1, trouble: $2)) }
        let book = AssociationBook(clock: clock)
        let refusals = RefusalCounts()
        let reception = try Reception(
            settings: live.configuration.reception(hasRoom: { disk.state == DiskWatch.State.roomy }),
            spool: folders.spool, programs: programs.receive, intake: intake,
            commitments: { await commitments.take($0) },
            audit: {
                refusals.note($0)
                audit?.record(.reception($0))
            }, book: book, logger: logger)
        ports = reception.ports
        let readiness = Readiness(ports: reception.ports, logger: logger)
        let portrait = NodePortrait(
            live: live, folders: folders, package: package, startedAt: clock.now(), reception: reception,
            engine: engine, certificates: certificates, refusals: refusals, log: log, logger: logger)
        let reports = ReportReader(program: programs.describe)
        var parts = ConsoleServer.Parts(
            ledger: viewed, actions: commands, registry: registry, clock: clock,
            peers: ConsolePeers(
                live, ports: reception.ports, outbox: outbox, book: book, echo: programs.echo, clock: clock),
            audit: ConsoleAudit(clock: clock) { audit?.record(.access($0)) }, notReady: { await readiness.missing },
            images: images, facts: portrait)
        parts.results = ResultFolder(path: folders.results.path) { try await reports.document(at: $0) }
        let vitals = VitalSigns(
            .init(
                ledger: ledger, intake: intake, assembler: assembler, pipeline: pipeline, outbox: outbox, watch: watch,
                disk: disk, reception: reception),
            logger: logger)
        parts.standstill = { vitals.standstill }
        parts.sessions = sessions
        let console = ConsoleServer(
            live.value.configuration.console, parts: parts, logger: logger
        ) { await readiness.consoleListens(on: $0) }
        // Stopped from the last to the first: no new configuration, no new associations, then no operators, then what
        // is under way, and the audit trail when nothing happens any more.
        services =
            [vitals] + (audit.map { [$0] } ?? []) + [
                intake, assembler, pipeline, outbox, commitments, retention, watch, images, console, control, disk,
                certificates, reception, reloader,
            ]
        self.logger = logger
    }

    /// Serves until SIGTERM or SIGINT.
    func run() async throws {
        await warmUp()
        let group = ServiceGroup(
            configuration: .init(
                services: services.map { .init(service: $0) }, gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger))
        do { try await group.run() } catch {
            await stopChildren()
            throw error
        }
        await stopChildren()
        logger.notice("node stopped")
    }

    /// The first study should not wait for the model to compile.
    private func warmUp() async {
        do { try await engine.prepare() } catch {
            logger.error("inference does not start; tried again with the first study", metadata: ["error": "\(error)"])
        }
    }

    private func stopChildren() async {
        await engine.stop()
        await decoder.stop()
    }
}
