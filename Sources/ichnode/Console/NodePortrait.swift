import AlertDispatcher
import CLinux
import Console
import Foundation
import ICHModel
import Logging
import StoreSCP
import WorkerProtocol

/// What the console's pages about the node itself show.
struct NodePortrait: NodeFacts {
    private let live: LiveConfiguration
    private let folders: NodeFolders
    private let package: ModelPackage
    private let logger: Logger
    private let startedAt: Date
    private let reception: Reception
    private let engine: InferenceChild
    private let watch: CertificateWatch
    private let refusals: RefusalCounts
    private let log: LogRing

    init(
        live: LiveConfiguration, folders: NodeFolders, package: ModelPackage,
        startedAt: Date, reception: Reception, engine: InferenceChild, certificates: CertificateWatch,
        refusals: RefusalCounts, log: LogRing, logger: Logger
    ) {
        self.live = live
        self.folders = folders
        self.package = package
        self.logger = logger
        self.startedAt = startedAt
        self.reception = reception
        self.engine = engine
        watch = certificates
        self.refusals = refusals
        self.log = log
    }

    func model() async -> ModelFacts {
        ModelFacts(package, routes: live.configuration.routes, logger: logger)
    }
    func configuration() async -> ConfigurationFacts { live.facts() }

    func system() async -> SystemFacts {
        let configuration = live.configuration
        return SystemFacts(
            version: NodeVersion.string, aeTitle: configuration.node.aeTitle.string,
            hostName: ProcessInfo.processInfo.hostName, startedAt: startedAt, dataDirectory: folders.data.path,
            disk: disk, keepDays: configuration.retention.keepDays,
            leastKeepHours: configuration.retention.leastKeepHours, openAssociations: reception.openAssociations,
            mostAssociations: configuration.dicom.mostAssociations, refusals: refusals.counts,
            processes: ProcessTable.processes(), inferenceRestarts: await engine.restartCount,
            certificates: watch.certificates.map { .init(file: $0.file, expires: $0.expires) },
            certificateDays: configuration.operatorAlerts.certificateDays,
            auditFile: configuration.audit.isEnabled ? folders.audit.appendingPathComponent("audit.log").path : nil,
            ledgerBytes: ledgerBytes, landlockVersion: Int(max(0, clinux_landlock_version())),
            hasSeccomp: Self.hasSeccomp, isClockSynchronised: Self.isClockSynchronised,
            log: log.lines)
    }

    private var disk: SystemFacts.Disk {
        var (free, total): (UInt64?, UInt64?)
        do { (free, total) = try DiskSpace.bytes(at: folders.spool.root.path) } catch {
            // Shown as not known.
            (free, total) = (nil, nil)
        }
        let marks = live.configuration.watermarks
        return .init(freeBytes: free, totalBytes: total, rejectBelow: marks.association, refuseBelow: marks.object)
    }

    private var ledgerBytes: UInt64? {
        let sizes = ["", "-wal"].map { suffix -> UInt64? in
            do {
                let attributes = try FileManager.default.attributesOfItem(atPath: folders.ledger.path + suffix)
                return (attributes[.size] as? NSNumber)?.uint64Value
            } catch { return nil }
        }
        return sizes[0].map { $0 + (sizes[1] ?? 0) }
    }

    static var isClockSynchronised: Bool? {
        switch clinux_clock_is_synchronised() {
        case 1: true
        case 0: false
        default: synchronisation(in: "/run/systemd/timesync")
        }
    }

    /// For where the kernel is not to be asked: `ProtectClock=` of a unit refuses even the question.
    /// - Parameter folder: of systemd-timesyncd(8) while it runs; it makes the file when it has set the clock.
    /// - Returns: nil where something else keeps the time, if anything does.
    static func synchronisation(in folder: String) -> Bool? {
        guard FileManager.default.fileExists(atPath: folder) else { return nil }
        return FileManager.default.fileExists(atPath: folder + "/synchronized")
    }

    /// The line is there where the kernel has it.
    static var hasSeccomp: Bool {
        String(decoding: FileManager.default.contents(atPath: "/proc/self/status") ?? Data(), as: UTF8.self)
            .contains("\nSeccomp:")
    }
}
