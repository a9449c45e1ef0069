import Foundation
import Logging
import Metrics
import ServiceLifecycle
import WorkerProtocol

/// Asks a worker what there is to say of the node's key material: at the start, and then often enough that nobody is
/// surprised by a certificate that has expired. The daemon itself never opens the files.
struct CertificateWatch: Service {
    private static let interval: Duration = .seconds(6 * 3600)

    private let materials: [NodeConfiguration.KeyMaterial]
    private let logger: Logger
    private let expires = Gauge(label: "ichnode_tls_certificate_expires_timestamp_seconds")

    /// - Parameter materials: where empty there is nothing to watch.
    /// - Throws: where nobody could send to the TLS port. What only deliveries need keeps no image out.
    init(_ materials: [NodeConfiguration.KeyMaterial], logger: Logger) async throws {
        self.materials = materials
        self.logger = logger
        for material in materials where material.side == .accepting {
            if let obstacle = try await Self.examine([material]).obstacle {
                throw CommandFailure(.configuration, obstacle)
            }
        }
        announce(try await Self.examine(materials))
    }

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            while true {
                do { try await Task.sleep(for: Self.interval) } catch is CancellationError { return }
                do { announce(try await Self.examine(materials)) } catch {
                    logger.error("certificates cannot be checked", metadata: ["error": "\(error)"])
                }
            }
        }
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
        var all = CertificateReport(findings: [])
        for material in materials {
            let report = try await examine(material)
            all.findings += report.findings.filter { !all.findings.contains($0) }
            all.expires = [all.expires, report.expires].compactMap { $0 }.min()
        }
        return all
    }

    private static func examine(_ material: NodeConfiguration.KeyMaterial) async throws -> CertificateReport {
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
