import Console
import Foundation
import Logging
import StoreSCP
import Testing

@testable import ichnode

@Suite struct NodePortraitTests {
    private func source(_ text: String, options: [String: String] = [:]) throws -> ConfigurationSource {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).yaml")
        try text.write(to: file, atomically: true, encoding: .utf8)
        let problems = ConfigurationProblems()
        _ = try ConfigurationReader.parse(text, file: file.path, problems: problems)
        return ConfigurationSource(file: file.path, text: text, problems, options: options)
    }

    private static let routes = """
        peers: [{name: pacs, ae_title: PACS, host: 10.0.0.1, port: 104}]
        routes: [{name: default, destinations: [pacs]}]
        """

    private func setting(_ source: ConfigurationSource, _ section: String, _ key: String)
        -> ConfigurationFacts.Setting?
    {
        source.sections.first { $0.path == section }?.settings.first { $0.key == key }
    }

    @Test func theClockIsKnownOfWhatSetsIt() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())")
        #expect(NodePortrait.synchronisation(in: folder.path) == nil)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        #expect(NodePortrait.synchronisation(in: folder.path) == false)
        try Data().write(to: folder.appendingPathComponent("synchronized"))
        #expect(NodePortrait.synchronisation(in: folder.path) == true)
    }

    @Test func settingsSayWhereTheyComeFrom() throws {
        let text = """
            node:
              log_level: debug
            dicom:
              port: 104
              warm_workers: 2
            completion: {grace_seconds: 2.0}
            retention: {keep_days: none}
            \(Self.routes)
            """
        let source = try source(text, options: ["model": "/m"])
        let level = try #require(setting(source, "node", "log_level"))
        #expect(level.value == "debug" && level.line == 2 && level.defaultValue == "info" && !level.isDefault)
        #expect(level.help?.hasPrefix("trace, debug, info") == true)
        #expect(setting(source, "dicom", "port")?.value == "104")
        #expect(setting(source, "retention", "keep_days")?.value == "none")
        #expect(setting(source, "retention", "keep_days")?.isDefault == false)
        #expect(setting(source, "delivery", "most_age_hours")?.value == "none")
        let workers = try #require(setting(source, "dicom", "warm_workers"))
        #expect(workers.isDefault && workers.line == 5)
        // 2.0 is 2.
        #expect(setting(source, "completion", "grace_seconds")?.isDefault == true)
        let depth = try #require(setting(source, "dicom", "sequence_depth"))
        #expect(depth.value == "32" && depth.line == nil && depth.isDefault)
        #expect(setting(source, "node", "model")?.option == "--model")
        #expect(setting(source, "node", "model")?.value == "/m")
        #expect(setting(source, "peers[0]", "host")?.value == "10.0.0.1")
        #expect(setting(source, "routes[0]", "destinations")?.value == "[pacs]")
        #expect(setting(source, "dicom", "allowed_networks")?.value == "[127.0.0.0/8, ::1/128]")
        #expect(source.sections.first { $0.path == "tls" }?.settings.isEmpty == true)
    }

    /// Every key of a bare file has the example's words, and those that belong to it.
    @Test func everySettingHasHelp() throws {
        let source = try source(Self.routes)
        let bare = source.sections.flatMap { section in
            section.settings.filter { $0.help == nil }.map { "\(section.path).\($0.key)" }
        }
        // What the key alone says.
        let plain = ["name", "ae_title", "host", "port"].map { "peers[0].\($0)" } + ["routes[0].name"]
        #expect(Set(bare).subtracting(plain) == [])
        #expect(setting(source, "dicom", "most_associations_per_peer")?.help?.hasPrefix("Associations at once") == true)
        #expect(setting(source, "peers[0]", "commitment")?.help?.hasPrefix("required: results are delivered") == true)
    }

    /// A secret in each kind of key that hides one, and in a URL.
    @Test(arguments: [
        "password", "mail_password", "password_hash", "PasswordFile", "client_secret", "secret", "api_token",
        "token_file", "hash", "sha256", "passphrase", "credential",
    ])
    func hidesWhatIsSecret(key: String) {
        #expect(ConfigurationSecrets.shown("s3cr3t", of: key) == ConfigurationFacts.Setting.hidden)
    }

    @Test func showsWhatIsNone() {
        #expect(ConfigurationSecrets.shown("/etc/a.secret", of: "secret_file") == "/etc/a.secret")
        #expect(ConfigurationSecrets.shown("/etc/key.pem", of: "key") == "/etc/key.pem")
        #expect(ConfigurationSecrets.shown(nil, of: "password") == nil)
        let hook = "https://user:s3cr3t@hooks.example:8443/services/s3cr3t?key=s3cr3t"
        #expect(ConfigurationSecrets.shown(hook, of: "url") == "https://hooks.example:8443/…")
        #expect(ConfigurationSecrets.shown("http://127.0.0.1:8080/", of: "url") == "http://127.0.0.1:8080")
        #expect(ConfigurationSecrets.shown("https://ex ample/s3cr3t", of: "url")?.contains("s3cr3t") == false)
    }

    @Test func noSecretOfAFileIsKept() throws {
        let text = """
            webhooks:
              - {name: paging, url: "https://hooks.example/s3cr3t", secret_file: /etc/paging.secret}
            operator_alerts: {webhooks: [paging]}
            \(Self.routes)
            """
        let source = try source(text)
        #expect(!"\(source.facts())".contains("s3cr3t"))
        #expect(setting(source, "webhooks[0]", "secret_file")?.value == "/etc/paging.secret")
    }

    @Test func saysWhenTheFileIsAnother() throws {
        let source = try source(Self.routes)
        #expect(source.facts().standing == .unchanged)
        try (Self.routes + "\n# more").write(toFile: source.file, atomically: true, encoding: .utf8)
        #expect(source.facts().standing == .changed)
        try FileManager.default.removeItem(atPath: source.file)
        guard case .unreadable = source.facts().standing else {
            Issue.record("the file is gone")
            return
        }
    }

    @Test func theLogRingKeepsTheLatestWarnings() throws {
        let ring = LogRing()
        var logger = Logger(label: "test") { _ in LogRing.Handler(ring: ring) }
        logger[metadataKey: "peer.ae"] = "PACS"
        logger.notice("not kept")
        for number in 1...LogRing.mostLines + 1 { logger.warning("warned", metadata: ["number": "\(number)"]) }
        #expect(ring.lines.count == LogRing.mostLines)
        #expect(ring.lines.first?.text == "warned number=2 peer.ae=PACS")
        logger.error("\(String(repeating: "x", count: LogRing.mostCharacters + 1))")
        #expect(ring.lines.last?.level == "error")
        #expect(ring.lines.last?.text.count == LogRing.mostCharacters)
    }

    @Test func refusalsAreCountedByReason() {
        let refusals = RefusalCounts()
        for number in 0...RefusalCounts.mostReasons {
            refusals.note(.refused(peerAddress: "10.0.0.1", reason: "reason \(number)"))
        }
        refusals.note(.refused(peerAddress: "10.0.0.1", reason: "reason 0"))
        #expect(refusals.counts["reason 0"] == 2)
        #expect(refusals.counts[RefusalCounts.others] == 1)
        #expect(refusals.counts.count == RefusalCounts.mostReasons + 1)
    }

    @Test func theDaemonIsInItsProcessTable() throws {
        let daemon = try #require(ProcessTable.processes().first)
        #expect(daemon.verb == "daemon" && daemon.id == ProcessInfo.processInfo.processIdentifier)
        #expect(try #require(daemon.residentBytes) > 1 << 20)
        #expect(try #require(daemon.descriptors) > 2)
    }

    /// The package says no other limits than the model card.
    @Test func theLimitsAreThoseOfTheModelCard() throws {
        func words(_ text: String) -> String {
            text.replacing("`", with: "").split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
        let card = words(try String(contentsOfFile: Repository.file("docs/MODEL_CARD.md"), encoding: .utf8))
        let folder = Repository.file("Models")
        let package = try #require(try FileManager.default.contentsOfDirectory(atPath: folder).first)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(package)/\(ModelFacts.limitsFile)"))
        let limits = try JSONDecoder().decode(ModelFacts.Limits.self, from: bytes)
        for text in [limits.intendedUse] + limits.neverTriedOn + limits.weakSpots { #expect(card.contains(text)) }
    }
}
