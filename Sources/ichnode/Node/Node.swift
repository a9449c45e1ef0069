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
    /// The bound DICOM port.
    let port: Int

    /// Opens spool and ledger, mends them, loads the model, binds the ports.
    /// - Throws: what an administrator has to change, in words.
    init(_ configuration: NodeConfiguration, registry: MetricsRegistry, clock: WallClock = .system, logger: Logger)
        async throws
    {
        let folders = try NodeFolders(configuration)
        let package = try ModelPackage(directory: configuration.node.model)
        for route in configuration.routes { _ = try package.operatingPoint(route.threshold) }
        let lock = try folders.spool.open()
        let ledger = try SQLiteLedger(path: folders.ledger.path, clock: clock)
        let programs = WorkerPrograms(spool: folders.spool.root, results: folders.results, lock: lock)
        decoder = DecodeClient(program: programs.decode, logger: logger)
        engine = InferenceChild(
            package: package, executable: WorkerProgram.beside("ichnode"), threads: configuration.node.inferenceThreads,
            logger: logger)
        try await SpoolMender(spool: folders.spool, ledger: ledger, decoder: decoder, clock: clock, logger: logger)
            .mend()

        let assembler = StudyAssembler(
            policy: configuration.completionPolicy, ledger: ledger, clock: clock, logger: logger,
            missingPositions: MissingPositions.find)
        for uid in try await ledger.unconcludedStudies() {
            let wasAssembled = try await ledger.study(uid)?.study.state == .analysing
            await assembler.resume(
                uid, instances: try await ledger.instances(ofStudy: uid), wasAssembled: wasAssembled)
        }
        let intake = StudyIntake(ledger: ledger, assembler: assembler, clock: clock, logger: logger)
        let composer = ReportComposer(
            program: programs.compose, results: folders.results, installation: try folders.installation(),
            stationName: configuration.node.aeTitle.string, softwareVersion: NodeVersion.string,
            algorithm: .init(name: package.name, version: package.version, digest: package.modelDigest))
        let pipeline = StudyPipeline(
            tools: .init(package: package, engine: engine, decoder: decoder, clock: clock, logger: logger),
            assembler: assembler, ledger: ledger, composer: composer, routes: RouteTable(configuration.routes))
        let destinations = configuration.peers.map {
            DICOMDestination(
                name: $0.name, peer: $0.remote, callingAETitle: configuration.node.aeTitle, program: programs.send)
        }
        let outbox = Outbox(
            ledger: ledger, destinations: destinations, policy: configuration.retryPolicy, clock: clock, logger: logger)
        let control = try ControlServer(
            path: ControlServer.path(runDirectory: configuration.node.runDirectory), logger: logger,
            handler: OperatorCommands(ledger: ledger, assembler: assembler).answer)
        let reception = try Reception(
            settings: configuration.reception, spool: folders.spool, program: programs.receive, intake: intake,
            logger: logger)
        port = reception.port
        let readiness = Readiness(dicomPort: reception.port, logger: logger)
        let console = ConsoleServer(
            host: configuration.console.host, port: configuration.console.port, registry: registry,
            probes: .init(notReady: { await readiness.missing }), logger: logger
        ) { await readiness.consoleListens(on: $0) }
        // Stopped from the last to the first: no new associations, then no operators, then what is under way.
        services = [intake, assembler, pipeline, outbox, console, control, reception]
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

/// Where things lie below the data directory.
struct NodeFolders {
    let data: URL
    var spool: Spool { Spool(root: data.appendingPathComponent("spool")) }
    var results: URL { data.appendingPathComponent("results") }
    var ledger: URL { data.appendingPathComponent("ledger.sqlite") }

    /// Makes what is missing.
    init(_ configuration: NodeConfiguration) throws {
        data = URL(fileURLWithPath: configuration.node.dataDirectory).standardizedFileURL
        for folder in [data, results, URL(fileURLWithPath: configuration.node.runDirectory)] {
            do {
                try FileManager.default.createDirectory(
                    at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
            } catch {
                throw CommandFailure(
                    .configuration, "cannot make \(folder.path): create it and make it writable for the node's user")
            }
        }
    }

    /// Names this installation in derived UIDs: drawn once, kept for ever.
    func installation() throws -> String {
        let file = data.appendingPathComponent("installation-id")
        if let known = try? String(contentsOf: file, encoding: .utf8) {
            let name = known.trimmingCharacters(in: .whitespacesAndNewlines)
            if !name.isEmpty { return name }
        }
        let name = UUID().uuidString.lowercased()
        try Data((name + "\n").utf8).write(to: file, options: .atomic)
        return name
    }
}

/// Command lines of the workers.
struct WorkerPrograms {
    let receive: WorkerProgram
    let decode: WorkerProgram
    let compose: WorkerProgram
    let send: WorkerProgram
    let echo: WorkerProgram

    /// - Parameters:
    ///   - spool: folder that `decode` and `compose` may read.
    ///   - lock: the spool's lock, kept by receive workers; nil where nothing is received.
    init(spool: URL, results: URL, lock: Int32? = nil) {
        let path = WorkerProgram.beside("ichnode-dicom")
        let layout = Spool(root: spool)
        receive = WorkerProgram(
            path: path, arguments: ["receive", "--incoming", layout.incoming.path, "--studies", layout.studies.path],
            heldDescriptors: lock.map { [$0] } ?? [])
        decode = WorkerProgram(path: path, arguments: ["decode", "--spool", spool.path])
        compose = WorkerProgram(path: path, arguments: ["compose", "--spool", spool.path, "--output", results.path])
        send = WorkerProgram(path: path, arguments: ["send", "--results", results.path])
        echo = WorkerProgram(path: path, arguments: ["echo"])
    }
}

/// What the geometry of the series that would be analysed lacks.
enum MissingPositions {
    @Sendable static func find(_ records: [InstanceRecord]) -> [String] {
        let selection = SeriesSelection(records)
        guard case .chosen(let uid) = selection.conclusion, let series = selection.assessment(of: uid) else {
            return []
        }
        let byUID = Dictionary(records.map { ($0.sopInstanceUID, $0) }) { $1.version > $0.version ? $1 : $0 }
        let positions = series.instances.compactMap { instance in
            byUID[instance].flatMap { try? SliceGeometry($0.image) }?.positionMillimetres
        }
        return SliceContiguity(positions: positions).missingPositions.map {
            "no slice at \(String(format: "%.1f", $0)) mm along the normal"
        }
    }
}

/// Operators' commands.
struct OperatorCommands: Sendable {
    let ledger: any Ledger
    let assembler: StudyAssembler

    @Sendable func answer(_ request: ControlRequest) async -> ControlResponse {
        do {
            switch request {
            case .listStudies(let limit): return .studies(try await ledger.studies(limit: max(1, min(limit, 10_000))))
            case .showStudy(let uid):
                if let study = try await ledger.study(uid) { return .study(study) }
                return .failed("no study \(uid) is known")
            case .completeStudy(let uid):
                guard await assembler.force(uid) else { return .failed("study \(uid) is not waiting for anything") }
                try await ledger.recordEvent("operator", "completed by hand", ofStudy: uid)
                return .done("study \(uid) is analysed as it stands")
            }
        } catch { return .failed("the ledger cannot be read: \(error)") }
    }
}

/// READY is said when both ports listen.
actor Readiness {
    private let dicomPort: Int
    private let logger: Logger
    private var consolePort: Int?

    init(dicomPort: Int, logger: Logger) {
        self.dicomPort = dicomPort
        self.logger = logger
    }

    var missing: String? { consolePort == nil ? "the console does not listen yet" : nil }

    func consoleListens(on port: Int) {
        consolePort = port
        logger.notice("node ready", metadata: ["dicom.port": "\(dicomPort)", "console.port": "\(port)"])
        SystemdNotifier.send("READY=1")
    }
}
