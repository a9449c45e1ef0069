import AlertDispatcher
import Foundation
import WorkerProtocol

/// Asks receivers of alerts whether they can be reached. No message is sent, and nothing that could be an event.
struct EndpointExamination: Sendable {
    /// Names of the checks of one kind of receiver.
    private struct Checks {
        var name: Check
        var tcp: Check
        var tls: Check
    }

    private static let deadline: Duration = .seconds(20)
    /// Of Debian's ca-certificates: what a webhook's receiver is judged by without a `ca`.
    private static let systemAuthorities = "/etc/ssl/certs/ca-certificates.crt"

    /// We show no certificate.
    static func systemFiles(section: String) -> TLSFiles {
        TLSFiles(section: section, certificate: "", key: "", authorities: systemAuthorities)
    }

    let configuration: NodeConfiguration
    /// `ichnode-dicom reach`.
    let program: WorkerProgram

    func examine(_ receiver: HL7ReceiverSettings) async -> [SetupFinding] {
        let checks = Checks(name: .hl7Name, tcp: .hl7TCP, tls: .hl7TLS)
        let job = ReachJob(host: receiver.host, port: receiver.port, tls: receiver.tls)
        return await reach(job, receiver.name, "HL7 receiver \(receiver.name)", checks).findings
    }

    /// - Parameter index: of its entry in the file.
    func examine(_ webhook: Webhook, index: Int) async -> [SetupFinding] {
        guard let url = URLComponents(string: webhook.url), let host = url.host else { return [] }
        let isSecure = url.scheme == "https"
        var files = Self.systemFiles(section: "webhooks[\(index)]")
        if let own = webhook.authorities { files.authorities = own }
        let job = ReachJob(
            host: host.trimmingCharacters(in: ["[", "]"]), port: url.port ?? (isSecure ? 443 : 80),
            tls: isSecure ? PeerTLS(files: files, verifiesHost: true) : nil)
        let checks = Checks(name: .webhookName, tcp: .webhookTCP, tls: .webhookTLS)
        let (findings, isReached) = await reach(job, webhook.name, "webhook \(webhook.name)", checks)
        guard isReached else { return findings }
        return findings + ClockChecks.compare(webhook.name, await WebhookDestination.clockDifference(to: webhook))
    }

    private func reach(
        _ job: ReachJob, _ subject: String, _ title: String, _ checks: Checks
    ) async -> (findings: [SetupFinding], isReached: Bool) {
        let name = "\(title) (\(job.host) port \(job.port))"
        do {
            for event in try await SendClient(program: program, deadline: Self.deadline).run(.reach(job)) {
                switch event {
                case .reached(let address, let session):
                    let days = configuration.operatorAlerts.certificateDays
                    let connected = SetupFinding.good(checks.tcp, subject, "\(name) takes connections at \(address)")
                    let secured = session.map { $0.finding(checks.tls, subject, title, warningDays: days) }
                    return ([connected] + (secured.map { [$0] } ?? []), true)
                case .failed(let failure): return ([finding(failure, subject, name, checks)], false)
                default: break
                }
            }
            return ([.bad(checks.tcp, subject, "\(name): no answer of the examination")], false)
        } catch { return ([.bad(checks.tcp, subject, "\(name) does not answer in time (\(error))")], false) }
    }

    private func finding(_ failure: SendFailure, _ subject: String, _ name: String, _ checks: Checks) -> SetupFinding {
        let text = "\(name): \(failure.reason)"
        return switch failure.kind {
        case .name: .bad(checks.name, subject, text, "correct the host in the file, or this machine's DNS")
        case .handshake: .bad(checks.tls, subject, text)
        default:
            .bad(
                checks.tcp, subject, text, "is it running? Check host and port in the file, and the firewall between")
        }
    }
}

extension TLSSession {
    /// - Parameter warningDays: a certificate that is valid for less is to be renewed.
    func finding(_ check: Check, _ subject: String, _ name: String, warningDays: Double) -> SetupFinding {
        let days = (Double(validTo) - Date().timeIntervalSince1970) / 86400
        let end = Date(timeIntervalSince1970: TimeInterval(validTo)).formatted(.iso8601.year().month().day())
        let text =
            "\(name) shows the certificate \"\(self.subject)\" issued by \"\(issuer)\", valid to \(end), by \(version)"
        return days < warningDays
            ? .warning(check, subject, "\(text): it expires in \(Int(days)) days", "have it renewed there")
            : .good(check, subject, text)
    }
}
