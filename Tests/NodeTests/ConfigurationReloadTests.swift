import Console
import Foundation
import Logging
import Synchronization
import Testing
import WorkerProtocol

@testable import ichnode

/// What of a configuration counts when it is read again.
@Suite struct ConfigurationReloadTests {
    private static let hash = "$scrypt$ln=14,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$JbN2hANm9NOw4h5BRHZnbjzQ6Jr0QwNWojTOC2WgIbU"
    /// Every section, and two of what others name.
    private static var base: [String: Any] {
        let files = ["certificate": "/c", "key": "/k", "ca": "/a"]
        let remote: [String: Any] = ["tls": true, "verify_host": true].merging(files as [String: Any]) { $1 }
        let peer = remote.merging(["ae_title": "PACS", "host": "10.0.0.1"]) { $1 }
        return [
            "dicom": ["most_associations": 64], "tls": files,
            "selection": ["institutions": [["name": "^general"]]],
            "console": [
                "users": [["name": "vera", "role": "viewer", "password_hash": hash]],
                "tokens": [["name": "m", "role": "viewer", "sha256": String(repeating: "a", count: 64)]],
                "tls": ["certificate": "/c", "key": "/k"],
            ] as [String: Any],
            "peers": [
                peer.merging(["name": "spare"]) { $1 },
                peer.merging(["name": "pacs", "ae_title": "PACS2", "calling_ae_title": "ICHNODE"]) { $1 },
            ],
            "webhooks": [["name": "paging", "url": "https://paging.example/x", "secret_file": "/s"]],
            "operator_alerts": ["mail": ["to": ["a@b.example"], "from": "c@d.example"]],
            "hl7": [remote.merging(["name": "ris", "host": "10.0.0.1"]) { $1 }],
            "routes": [["name": "default", "destinations": ["pacs"]]],
        ]
    }

    /// One of them is another value for every key.
    private static var others: [Any] {
        [
            true, false, "none", "OTHER", "/other", "10.9.9.9", "debug", "operator", "comprehensive", "enhanced",
            "routine", "required", "HD", "pacs", "other@hospital.example", "https://other.example/y",
            String(repeating: "b", count: 64), String(hash.dropLast()) + "A", ["OTHER"], ["10.0.0.0/8"], ["10.9.9.9"],
            ["1.2.3"], ["spare"], ["paging"], ["other@hospital.example"], [1.5, 2.5], 1, 2, 3, 5, 12, 20, 33, 100, 4096,
        ]
    }

    private struct Read {
        var configuration: NodeConfiguration
        var source: ConfigurationSource
    }

    private func read(_ text: String, keeping running: NodeConfiguration? = nil) throws -> Read {
        let problems = ConfigurationProblems()
        let configuration = try ConfigurationReader.parse(text, file: "f", problems: problems, keeping: running)
        return Read(
            configuration: configuration, source: ConfigurationSource(file: "f", text: text, problems))
    }

    private func read(_ content: Any, keeping running: NodeConfiguration? = nil) throws -> Read {
        // JSON is YAML.
        let text = try JSONSerialization.data(withJSONObject: content, options: [.withoutEscapingSlashes])
        return try read(String(decoding: text, as: UTF8.self), keeping: running)
    }

    /// "peers.port": of the first element.
    private func setting(_ path: [String], to value: Any, in content: Any) -> Any {
        if let list = content as? [Any] { return [setting(path, to: value, in: list[0])] + list.dropFirst() }
        var section = content as? [String: Any] ?? [:]
        let rest = Array(path.dropFirst())
        section[path[0]] = rest.isEmpty ? value : setting(rest, to: value, in: section[path[0]] ?? [String: Any]())
        return section
    }

    @Test func everyKeyIsInTheTableAndNoOther() throws {
        let problems = ConfigurationProblems()
        let text = try JSONSerialization.data(withJSONObject: Self.base, options: [.withoutEscapingSlashes])
        _ = try ConfigurationReader.parse(String(decoding: text, as: UTF8.self), file: "f", problems: problems)
        #expect(problems.absent.isEmpty)
        let asked = Set(problems.asked.map { "\($0.section).\($0.key)".replacing(/\[\d+\]/, with: "") })
        let known = Set(ConfigurationKeys.all.keys)
        #expect(asked.subtracting(known) == [])
        #expect(known.filter { key in !asked.contains(key) && !asked.contains { $0.hasPrefix(key + ".") } } == [])
    }

    /// The annotated example says of each key, or of its section, that it needs a restart, and of no other.
    @Test func theExampleSaysWhatNeedsARestart() throws {
        let mark = "Needs a restart."
        let problems = ConfigurationProblems()
        let text = try JSONSerialization.data(withJSONObject: Self.base, options: [.withoutEscapingSlashes])
        _ = try ConfigurationReader.parse(String(decoding: text, as: UTF8.self), file: "f", problems: problems)
        let help = ConfigurationHelp(for: problems.asked)
        let example = try String(contentsOfFile: Repository.file("etc/ichnode.yaml"), encoding: .utf8)
        let sections = ["tls": "# tls:", "audit": "audit:", "console.tls": "  # tls:"]
        for (path, line) in sections {
            let above = try #require(example.components(separatedBy: "\n\(line)\n").first)
            let comment = above.split(separator: "\n").suffix(3).map { $0.drop { " #".contains($0) } }
            #expect(comment.joined(separator: " ").contains("Needs a restart"), "\(path)")
        }
        for asked in problems.asked where sections[asked.section] == nil {
            let isAtStart = ConfigurationKeys.effect(of: "\(asked.section).\(asked.key)") == .atStart
            // Its comment is that of the console's.
            guard asked.section != "console.lock_out" else { continue }
            #expect(
                help[asked.section, asked.key]?.contains(mark) == true || !isAtStart, "\(asked.section).\(asked.key)")
            #expect(help[asked.section, asked.key]?.contains(mark) != true || isAtStart, "\(asked.key)")
        }
    }

    /// What the table says of a key is what happens to it, and it is said of no other.
    @Test(arguments: ConfigurationKeys.all.keys.filter { $0.contains(".") }.sorted())
    func theTableIsWhatHappens(key: String) throws {
        // With HTTPS there is no proxy.
        let content: Any = key == "console.behind_proxy" ? without("console", "tls", in: Self.base) : Self.base
        let held = try read(content)
        let path = key.split(separator: ".").map(String.init)
        let isSection = ConfigurationKeys.all.keys.contains { $0.hasPrefix(key + ".") }
        guard !isSection else { return }
        let value = held.source.said.first { $0.key.replacing(/\[[^\]]*\]/, with: "") == key }?.value.shown
        let changed = try #require(
            Self.others.filter { isLike($0, value ?? "none") }.lazy.compactMap {
                other -> (content: Any, fresh: Read)? in
                let changed = setting(path, to: other, in: content)
                guard let fresh = try? read(changed), fresh.configuration != held.configuration else { return nil }
                return (changed, fresh)
            }.first, "another value is needed for \(key)")
        let kept = try read(changed.content, keeping: held.configuration)
        let isLive = ConfigurationKeys.effect(of: key) == .live
        #expect(kept.configuration == (isLive ? changed.fresh.configuration : held.configuration))
        let changes = ConfigurationChange.between(held.source, kept.source)
        var expected = [key.hasSuffix(".name") ? String(key.dropLast(5)) : key]
        // What an institution does not say is as for all.
        if key.hasPrefix("selection."), path.count == 2 { expected.append("selection.institutions.\(path[1])") }
        #expect(changes.map { $0.key.replacing(/\[[^\]]*\]/, with: "") } == expected.sorted())
        #expect(changes.allSatisfy { $0.isLive == isLive })
        // Said once where it counts, and again each time where it does not yet.
        let next = ConfigurationChange.between(kept.source.keeping(held.source), kept.source)
        #expect(next == (isLive ? [] : changes))
    }

    @Test func whatIsWrongInForceTooIsAWarning() async throws {
        func peer(at section: String, _ certificate: String) -> PeerTLS {
            let paths = [certificate, "key", "ca"].map { "\(Credential.folder)/absent-\($0)" }
            return PeerTLS(
                files: TLSFiles(section: section, certificate: paths[0], key: paths[1], authorities: paths[2]),
                verifiesHost: true)
        }
        var held = try read(Self.base).configuration
        (held.tls, held.console.tls, held.hl7) = (nil, nil, [])
        for index in held.peers.indices { held.peers[index].remote.tls = nil }
        held.peers[0].remote.tls = peer(at: "peers[0]", "old")
        let alone = try await ConfigurationExamination(held)
        #expect(alone.problems.contains { $0.contains("absent-old") })
        #expect(alone.problems.contains { $0.contains("webhook paging") })
        let again = try await ConfigurationExamination(held, inForce: held)
        #expect(again.problems.isEmpty && again.warnings == alone.problems)
        // It has another number once a peer before it is gone.
        var next = held
        next.peers[0].remote.tls = peer(at: "peers[1]", "old")
        let moved = try await ConfigurationExamination(next, inForce: held)
        #expect(moved.problems.isEmpty)
        next.peers[0].remote.tls = peer(at: "peers[0]", "new")
        let changed = try await ConfigurationExamination(next, inForce: held)
        #expect(changed.problems.contains { $0.contains("absent-new") })
        #expect(!changed.problems.contains { $0.contains("webhook paging") })
    }

    @Test func onlyRulesRoutesAndPeersJudgeStudies() throws {
        let held = try read(Self.base).configuration
        let limit = try read(setting(["dicom", "most_associations"], to: 65, in: Self.base)).configuration
        #expect(limit != held && limit.judgesStudies(as: held))
        let peer = try read(setting(["peers", "host"], to: "10.9.9.9", in: Self.base)).configuration
        #expect(!peer.judgesStudies(as: held))
    }

    private func isLike(_ other: Any, _ value: String) -> Bool {
        if value.hasPrefix("[") { return other is [Any] }
        if ["true", "false"].contains(value) { return other is Bool }
        return value == "none" || (Double(value) == nil ? other is String : other is Int)
    }

    private func without(_ section: String, _ key: String, in content: Any) -> Any {
        var content = content as? [String: Any] ?? [:]
        var inner = content[section] as? [String: Any] ?? [:]
        inner[key] = nil
        content[section] = inner
        return content
    }

    private static let routes = """
        peers: [{name: pacs, ae_title: PACS, host: 10.0.0.1}, {name: spare, ae_title: SPARE, host: 10.0.0.2}]
        routes: [{name: default, destinations: [pacs]}]
        """

    private func changes(_ before: String, _ after: String) throws -> [String] {
        let held = try read(before + "\n" + Self.routes)
        let read = try read(after + "\n" + Self.routes, keeping: held.configuration)
        return ConfigurationChange.between(held.source, read.source).map(\.description)
    }

    @Test func changesAreSaidByKey() throws {
        #expect(
            try changes("dicom: {port: 11112}", "dicom: {port: 11113, warm_workers: 3}") == [
                "dicom.port 11112 -> 11113: takes effect at the next start", "dicom.warm_workers 2 -> 3",
            ])
        #expect(try changes("completion: {grace_seconds: 2}", "completion: {grace_seconds: 2.0}") == [])
        // Not that of the peers, which follows from it.
        #expect(
            try changes("", "node: {ae_title: OTHER}")
                == ["node.ae_title ICHNODE -> OTHER: takes effect at the next start"])
        let tls = "tls: {port: 2762, certificate: /c, key: /k, ca: /a}"
        #expect(try changes("", tls) == ["tls none -> configured: takes effect at the next start"])
        #expect(try changes(tls, "") == ["tls configured -> none: takes effect at the next start"])
        let ris = "hl7: [{name: ris, host: 10.1.1.1}]"
        #expect(try changes("", ris) == ["hl7 none -> [ris]"])
        #expect(try changes(ris, ris.replacing("10.1.1.1", with: "10.1.1.2")) == ["hl7[ris].host 10.1.1.1 -> 10.1.1.2"])
        let second = ", {name: pager, host: 10.1.1.3}]"
        let both = ris.replacing("]", with: second)
        #expect(try changes(ris, both) == ["hl7 [ris] -> [ris, pager]"])
        let other = "hl7: [{name: pager, host: 10.1.1.3}, {name: ris, host: 10.1.1.1}]"
        #expect(try changes(both, other) == ["hl7 [ris, pager] -> [pager, ris]"])
    }

    @Test func secretsAreNotSaid() throws {
        let user = "console: {users: [{name: vera, password_hash: \"\(Self.hash)\"}]}"
        let changed = user.replacing(Self.hash, with: Self.hash.dropLast() + "A")
        #expect(try changes(user, changed) == ["console.users[vera].password_hash has changed"])
        let webhook = "webhooks: [{name: w, url: \"https://h.example/secret1\", secret_file: /s}]"
        #expect(
            try changes(webhook, webhook.replacing("secret1", with: "secret2")) == ["webhooks[w].url has changed"])
    }

    /// What a start would take may not go with what is kept until then.
    @Test func whatIsKeptIsCheckedTogetherWithWhatIsNew() throws {
        let user = "users: [{name: vera, password_hash: \"\(Self.hash)\"}]"
        let held = try read(
            "console: {host: 0.0.0.0, tls: {certificate: /c, key: /k}, \(user)}\n" + Self.routes)
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).yaml")
        // Good for a start; but until then everybody would see everything.
        try "console: {host: 127.0.0.1}\n\(Self.routes)".write(to: file, atomically: true, encoding: .utf8)
        let fresh = try ConfigurationFile(file.path, options: [:])
        let refusal = try #require(throws: CommandFailure.self) { _ = try fresh.keeping(held.configuration) }
        #expect(refusal.description.contains("console.host reaches beyond this machine"))
        #expect(refusal.description.contains("restart the node"))
    }

    @Test func optionsOfTheCommandLineStay() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).yaml")
        try Self.routes.write(to: file, atomically: true, encoding: .utf8)
        let held = try ConfigurationFile(file.path, options: ["data_directory": "/d", "model": "/m"])
        #expect(held.configuration.node.dataDirectory == "/d" && held.configuration.node.model == "/m")
        try "node: {data_directory: /e}\n\(Self.routes)".write(to: file, atomically: true, encoding: .utf8)
        let fresh = try ConfigurationFile(file.path, options: held.source.options)
        #expect(fresh.configuration.node.dataDirectory == "/d")
        #expect(ConfigurationChange.between(held.source, fresh.source).isEmpty)
    }

    @Test func thePageShowsWhatIsInForceAndWhatWaits() throws {
        let held = try read("dicom: {port: 104, warm_workers: 2}\n" + Self.routes)
        let text = "dicom: {port: 105, warm_workers: 3}\ntls: {certificate: /c, key: /k, ca: /a}\n" + Self.routes
        let kept = try read(text, keeping: held.configuration).source.keeping(held.source)
        func setting(_ section: String, _ key: String) -> ConfigurationFacts.Setting? {
            kept.sections.first { $0.path == section }?.settings.first { $0.key == key }
        }
        #expect(setting("dicom", "port")?.value == "104" && setting("dicom", "port")?.pending == "105")
        #expect(setting("dicom", "warm_workers")?.value == "3" && setting("dicom", "warm_workers")?.pending == nil)
        #expect(setting("tls", "certificate")?.value == nil && setting("tls", "certificate")?.pending == "/c")
        let waiting = kept.pendingKeys
        #expect(waiting.contains("dicom.port") && waiting.contains("tls.certificate"))
        #expect(!waiting.contains("dicom.warm_workers"))
        let back = try read(Self.routes, keeping: held.configuration).source.keeping(held.source)
        #expect(back.sections.first { $0.path == "dicom" }?.settings.first { $0.key == "port" }?.pending == "11112")
    }

    // MARK: The log

    private final class Lines: Sendable {
        let all = Mutex<[String]>([])

        struct Handler: LogHandler {
            let lines: Lines
            var metadata: Logger.Metadata = [:]
            var logLevel = Logger.Level.trace
            subscript(metadataKey key: String) -> Logger.Metadata.Value? {
                get { metadata[key] }
                set { metadata[key] = newValue }
            }
            func log(event: LogEvent) { lines.all.withLock { $0.append("\(event.message)") } }
        }
    }

    /// Other tests log too: at levels that they do not see.
    @Test func theLogLevelChangesForLoggersThatAreThere() {
        let (lines, ring) = (Lines(), LogRing())
        let level = LogLevel.current.rawValue
        defer { LogLevel.change(to: level) }
        var logger = Logger(label: "test")
        logger.handler = LevelledLogHandler(Lines.Handler(lines: lines), ring: ring)
        let copy = logger
        LogLevel.change(to: "error")
        copy.warning("one")
        copy.info("two")
        copy.error("three")
        LogLevel.change(to: "debug")
        copy.debug("four")
        copy.trace("five")
        #expect(lines.all.withLock { $0 } == ["three", "four"])
        #expect(ring.lines.map(\.text) == ["one", "three"], "whatever the level")
    }
}
