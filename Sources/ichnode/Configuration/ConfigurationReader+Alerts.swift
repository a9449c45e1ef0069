import AlertDispatcher
import Foundation
import WorkerProtocol

/// Webhooks and operators' alerts.
extension ConfigurationReader {
    static func readWebhooks(_ sections: [YAMLSection]) -> [Webhook] {
        sections.map { section in
            defer { section.finish() }
            let webhook = Webhook(
                name: section.required("name", "paging"), url: section.required("url", "https://host/path"),
                secretFile: section.file(
                    "secret_file", section.required("secret_file", "/etc/ichnode/webhooks/paging.secret")),
                authorities: none(section.file("ca", section.string("ca", default: "none"))),
                includesPatient: section.bool("include_patient", default: false),
                timeout: .seconds(section.seconds("timeout_seconds", default: 10, 0.1...300)))
            if let problem = Webhook.problem(withURL: webhook.url), !webhook.url.isEmpty {
                section.problem("url", problem)
            }
            for (key, path) in [("secret_file", webhook.secretFile), ("ca", webhook.authorities ?? "")]
            where !path.isEmpty && !path.hasPrefix("/") {
                section.problem(key, "has to begin with /")
            }
            return webhook
        }
    }

    static func readOperatorAlerts(_ section: YAMLSection) -> NodeConfiguration.OperatorAlerts {
        defer { section.finish() }
        return NodeConfiguration.OperatorAlerts(
            checkSeconds: section.seconds("check_seconds", default: 10, 0.1...600),
            noResultMinutes: section.number("no_result_minutes", default: 20, 0.01...1440, "minutes"),
            destinationMinutes: section.number("destination_minutes", default: 15, 0.01...1440, "minutes"),
            diskBelowMebibytes: section.int("disk_below_mebibytes", default: 10240, 0...1 << 30),
            crashes: section.int("crashes", default: 5, 0...100_000),
            crashWindowMinutes: section.number("crash_window_minutes", default: 60, 0.01...1440, "minutes"),
            certificateDays: section.number("certificate_days", default: 30, 0...3650, "days"),
            webhooks: section.list("webhooks", default: [], "the name of a webhook", { $0.isEmpty ? nil : $0 }),
            mail: readMail(section.optionalSection("mail")))
    }

    private static func readMail(_ section: YAMLSection?) -> Mail? {
        guard let section else { return nil }
        defer { section.finish() }
        func address(_ text: String) -> String? { Mail.isAddress(text) ? text : nil }
        let mail = Mail(
            to: section.list("to", default: [], "a mail address", address),
            from: section.required("from", "ichnode@hospital.example"),
            sendmail: section.string("sendmail", default: "/usr/sbin/sendmail"),
            timeout: .seconds(section.seconds("timeout_seconds", default: 60, 0.1...600)))
        if mail.to.isEmpty { section.problem("to", "is missing: add for example \"to: [pacs@hospital.example]\"") }
        if !mail.from.isEmpty && !Mail.isAddress(mail.from) { section.problem("from", "has to be a mail address") }
        if !mail.sendmail.hasPrefix("/") { section.problem("sendmail", "has to begin with /") }
        return mail
    }

    /// Every destination has a name of its own, and whoever is named is there.
    static func checkAlerts(_ configuration: NodeConfiguration, _ root: YAMLSection) {
        let peers = configuration.peers.map(\.name)
        let webhooks = configuration.webhooks.map(\.name)
        for name in Set(webhooks)
        where webhooks.count(where: { $0 == name }) > 1 || peers.contains(name) || name == MailDestination.name {
            root.problem("webhooks", "names \"\(name)\", which another destination has too: give each its own name")
        }
        if peers.contains(MailDestination.name), configuration.operatorAlerts.mail != nil {
            root.problem("peers", "names \"\(MailDestination.name)\", which operator_alerts.mail has: rename it")
        }
        for name in configuration.operatorAlerts.webhooks where !webhooks.contains(name) {
            root.problem("operator_alerts", "sends to \"\(name)\", which is no webhook: known are \(webhooks)")
        }
        let receivers = configuration.hl7.map(\.name)
        for name in Set(receivers)
        where (receivers + peers + webhooks + [MailDestination.name]).count(where: { $0 == name }) > 1 {
            root.problem("hl7", "names \"\(name)\", which another destination has too: give each its own name")
        }
        for route in configuration.routes {
            for name in route.alerts where !(webhooks + receivers).contains(name) {
                root.problem(
                    "routes",
                    "\"\(route.name)\" alerts \"\(name)\", which is no receiver: known are \(webhooks + receivers)")
            }
        }
    }
}
