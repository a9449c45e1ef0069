import AlertDispatcher
import Console
import Foundation
import ICHModel
import Ledger
import Logging
import StoreSCP
import WorkerProtocol

/// Whoever is told of findings, and of what an operator should look at.
struct AlertDestinations {
    private let configuration: NodeConfiguration
    private let clock: WallClock
    private let webhooks: [WebhookDestination]
    private let receivers: [HL7Receiver]
    private let mail: MailDestination?

    /// - Parameter previous: whose connections to receivers are kept that stay as they are.
    init(_ configuration: NodeConfiguration, clock: WallClock, after previous: AlertDestinations? = nil) {
        self.configuration = configuration
        self.clock = clock
        let title = configuration.node.aeTitle
        webhooks = configuration.webhooks.map {
            WebhookDestination($0, nodeAETitle: title, softwareVersion: NodeVersion.string, clock: clock)
        }
        let kept = previous.map { Array(zip($0.configuration.hl7, $0.receivers)) } ?? []
        receivers = configuration.hl7.map { settings in
            kept.first { $0.0 == settings }?.1 ?? HL7Receiver(settings)
        }
        mail = configuration.operatorAlerts.mail.map { MailDestination($0, nodeAETitle: title) }
    }

    struct Problem {
        var check: Check
        var subject: String
        var text: String
    }

    /// What keeps alerts from reaching whoever is to be told, as far as can be seen from here.
    static func problems(_ configuration: NodeConfiguration) -> [Problem] {
        var problems: [Problem] = []
        for webhook in configuration.webhooks {
            do { _ = try SecretFile.read(webhook.secretFile) } catch {
                let reason = Credential.problem(webhook.secretFile) ?? error.reason
                problems.append(Problem(webhook, "secret_file \(reason)"))
            }
            if let path = webhook.authorities, !FileManager.default.isReadableFile(atPath: path) {
                problems.append(Problem(webhook, "ca \(path) cannot be read"))
            }
        }
        if let mail = configuration.operatorAlerts.mail, !FileManager.default.isExecutableFile(atPath: mail.sendmail) {
            let text = "operator_alerts.mail: \(mail.sendmail) is no program that the node's user may run"
            problems.append(Problem(check: .mail, subject: mail.sendmail, text: text))
        }
        return problems
    }

    var desk: AlertDesk {
        AlertDesk(webhooks + receivers, mostStudyAge: .seconds(configuration.alerts.mostStudyAgeHours * 3600))
    }
    var destinations: [any Destination] { webhooks + receivers + (mail.map { [$0] } ?? []) }

    /// Whoever is told of what an operator should look at.
    var operatorChannels: [any OperatorAlertChannel] {
        webhooks.filter { configuration.operatorAlerts.webhooks.contains($0.name) } + (mail.map { [$0] } ?? [])
    }

    static func watch(
        _ live: LiveConfiguration, ledger: any Ledger, outbox: Outbox, disk: DiskWatch, certificates: CertificateWatch,
        registry: MetricsRegistry, clock: WallClock, logger: Logger
    ) -> OperatorAlertWatch {
        OperatorAlertWatch(
            policy: live.configuration.operatorAlerts.policy,
            interval: .seconds(live.configuration.operatorAlerts.checkSeconds), ledger: ledger,
            sources: .init(
                disk: { (disk.freeSpace, disk.state != DiskWatch.State.roomy) },
                unreachable: { await outbox.blocked.mapValues(\.since) },
                crashes: { registry.counts(of: "ichnode_worker_crashes_total", by: "verb") },
                certificates: { certificates.certificates },
                mayBeHead: { uid in
                    let known = StudyAnalyzer.newest(try await ledger.instances(ofStudy: uid))
                    let selection = SeriesSelection(
                        known.values.map(\.record), rules: live.configuration.selection)
                    if case .notHeadCT = selection.conclusion { return false }
                    return true
                },
                heldReason: IdentityConflict.reason),
            channels: live.value.alerts.operatorChannels, clock: clock, logger: logger)
    }
}

extension AlertDestinations.Problem {
    fileprivate init(_ webhook: Webhook, _ text: String) {
        self.init(check: .webhookFiles, subject: webhook.name, text: "webhook \(webhook.name): \(text)")
    }
}
