import AlertDispatcher
import Foundation
import Logging
import Metrics
import ServiceLifecycle
import Synchronization
import WorkerProtocol

/// Asks a worker what there is to say of the node's key material: at the start, and then often enough that nobody is
/// surprised by a certificate that has expired. The daemon itself opens only those for receivers of alerts.
final class CertificateWatch: Service {
    private static let interval: Duration = .seconds(6 * 3600)

    private let materials: @Sendable () -> [NodeConfiguration.KeyMaterial]
    private let logger: Logger
    private let expires = Gauge(label: "ichnode_tls_certificate_expires_timestamp_seconds")
    private let known = Mutex<[OperatorFacts.Certificate]>([])
    private let turn = AsyncLock()

    /// - Parameter materials: asked for at each look. Where empty there is nothing to watch.
    /// - Throws: where nobody could send to the TLS port. What only deliveries need keeps no image out.
    init(
        _ materials: @escaping @autoclosure @Sendable () -> [NodeConfiguration.KeyMaterial], logger: Logger
    ) async throws {
        self.materials = materials
        self.logger = logger
        for material in materials() where material.side == .accepting {
            if let obstacle = try await Self.examine([material]).obstacle {
                throw CommandFailure(.configuration, obstacle)
            }
        }
        try await look()
    }

    /// As of the last look, each file once.
    var certificates: [OperatorFacts.Certificate] { known.withLock { $0 } }

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            while true {
                do { try await Task.sleep(for: Self.interval) } catch is CancellationError { return }
                await self.lookAgain()
            }
        }
    }

    /// The certificates, or which they are, have changed.
    func lookAgain() async {
        do { try await look() } catch {
            logger.error("certificates cannot be checked", metadata: ["error": "\(error)"])
        }
    }

    /// One after the other: the latest to end is the latest that asked which there are.
    private func look() async throws { try await turn.inTurn { try await lookInTurn() } }

    private func lookInTurn() async throws {
        var (reports, found): ([CertificateReport], [OperatorFacts.Certificate]) = ([], [])
        for material in materials() {
            let report = try await Self.examine(material)
            reports.append(report)
            let file = material.files.certificate
            guard !found.contains(where: { $0.file == file }) else { continue }
            // A key that does not fit makes of no use what has not expired.
            let expires = report.obstacle == nil ? report.expires : nil
            found.append(.init(file: file, expires: expires.map { Date(timeIntervalSince1970: TimeInterval($0)) }))
        }
        known.withLock { $0 = found }
        if reports.isEmpty { expires.destroy() }
        announce(Self.united(reports))
    }

    private func announce(_ report: CertificateReport) {
        if let seconds = report.expires { expires.record(seconds) }
        for finding in report.findings {
            let metadata: Logger.Metadata = ["finding": "\(finding.text)"]
            switch finding.level {
            case .good: logger.info("certificate checked", metadata: metadata)
            case .warning: logger.warning("certificate needs attention", metadata: metadata)
            case .bad, .unusable: logger.error("certificate is of no use", metadata: metadata)
            }
        }
    }

    /// What there is to say of all, each thing once, and the first end of a validity.
    /// - Throws: `WorkerError` where a worker does not answer.
    static func examine(_ materials: [NodeConfiguration.KeyMaterial]) async throws -> CertificateReport {
        var reports: [CertificateReport] = []
        for material in materials { reports.append(try await examine(material)) }
        return united(reports)
    }

    private static func united(_ reports: [CertificateReport]) -> CertificateReport {
        var all = CertificateReport(findings: [])
        for report in reports {
            all.findings += report.findings.filter { !all.findings.contains($0) }
            all.expires = [all.expires, report.expires].compactMap { $0 }.min()
        }
        return all
    }

    private static func examine(_ material: NodeConfiguration.KeyMaterial) async throws -> CertificateReport {
        let absent = material.files.paths.compactMap { Credential.problem($0) }
        if !absent.isEmpty {
            return CertificateReport(
                findings: absent.map { .init(.unusable, "\(material.files.section): \($0)") })
        }
        let program = WorkerProgram(
            path: WorkerProgram.beside("ichnode-dicom"),
            arguments: ["certificates"] + (material.side == .requesting ? ["--for-requests"] : [])
                + material.files.arguments)
        let worker = try WorkerProcess(program, limits: .messagesOnly)
        defer { Task { await worker.stop(patience: .milliseconds(500)) } }
        try await worker.start()
        return try await withDeadline(.seconds(10), "no report on the certificates") {
            for try await frame in worker.frames { return try frame.message(CertificateReport.self) }
            throw WorkerError(.closed, "the worker ended before its report")
        } onDeadline: {
            worker.kill()
        }
    }
}
