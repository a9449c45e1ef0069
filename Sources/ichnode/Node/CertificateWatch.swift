import Foundation
import Logging
import Metrics
import ServiceLifecycle
import WorkerProtocol

/// Asks a worker what there is to say of the node's key material: at the start, and then often enough that nobody is
/// surprised by a certificate that has expired. The daemon itself never opens the files.
struct CertificateWatch: Service {
    private static let interval: Duration = .seconds(6 * 3600)

    private let files: TLSFiles?
    private let logger: Logger
    private let expires = Gauge(label: "ichnode_tls_certificate_expires_timestamp_seconds")

    /// - Parameter files: nil: there is nothing to watch.
    /// - Throws: where no handshake would be possible.
    init(_ files: TLSFiles?, logger: Logger) async throws {
        self.files = files
        self.logger = logger
        guard let files else { return }
        let report = try await Self.examine(files)
        if let obstacle = report.obstacle { throw CommandFailure(.configuration, obstacle) }
        announce(report)
    }

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            while true {
                do { try await Task.sleep(for: Self.interval) } catch is CancellationError { return }
                guard let files else { continue }
                do { announce(try await Self.examine(files)) } catch {
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

    /// - Throws: `WorkerError` where the worker does not answer.
    static func examine(_ files: TLSFiles) async throws -> CertificateReport {
        let program = WorkerProgram(
            path: WorkerProgram.beside("ichnode-dicom"), arguments: ["certificates"] + files.arguments)
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
