import AlertDispatcher
import Console
import Foundation
import ICHModel
import StoreSCP
import Testing
import WorkerProtocol

@testable import ichnode

@Suite struct ConfigurationTests {
    private static let routes = """
        peers: [{name: pacs, ae_title: PACS, host: 10.0.0.1, port: 104}]
        routes: [{name: default, destinations: [pacs]}]
        """

    private func problems(_ text: String) -> [String] {
        do {
            _ = try ConfigurationReader.parse(text + "\n" + Self.routes, file: "test.yaml")
            return []
        } catch let error as ConfigurationError {
            return error.description.split(separator: "\n").map(String.init)
        } catch { return ["\(error)"] }
    }

    @Test func theExampleStatesTheDefaults() throws {
        let example = try ConfigurationReader.read(path: Repository.file("etc/ichnode.yaml"))
        let bare = try ConfigurationReader.parse(Self.routes, file: "test.yaml")
        #expect(example.node == bare.node)
        #expect(example.dicom == bare.dicom)
        #expect(example.tls == nil)
        #expect(example.disk == bare.disk)
        #expect(example.completion == bare.completion)
        #expect(example.selection == bare.selection)
        #expect(example.retention == bare.retention)
        #expect(example.delivery == bare.delivery)
        #expect(example.audit == bare.audit)
        #expect(example.alerts == bare.alerts)
        #expect(example.hl7.isEmpty)
        #expect(example.routes[0].alerts == bare.routes[0].alerts)
        #expect(example.console == bare.console)
        #expect(example.webhooks.isEmpty)
        #expect(example.operatorAlerts == bare.operatorAlerts)
        #expect(example.routes[0].alerts == bare.routes[0].alerts)
        #expect(example.peers[0].commitment == bare.peers[0].commitment)
        #expect(example.peers[0].commitmentTimeoutSeconds == bare.peers[0].commitmentTimeoutSeconds)
    }

    @Test func commitmentIsSetForEachPeer() throws {
        let text = """
            peers:
              - {name: a, ae_title: A, host: a, commitment: required, commitment_timeout_seconds: 60}
              - {name: b, ae_title: B, host: b}
            routes: [{name: default, destinations: [a, b]}]
            """
        let peers = try ConfigurationReader.parse(text, file: "test.yaml").peers
        #expect(peers.map(\.commitment) == [.required, .none])
        #expect(peers.map(\.commitmentTimeoutSeconds) == [60, 21600])
        #expect(throws: ConfigurationError.self) {
            try ConfigurationReader.parse(text.replacing("required", with: "perhaps"), file: "test.yaml")
        }
        for (seconds, isRight) in [("0.5", false), ("1", true), ("2592000", true), ("2592001", false)] {
            let changed = text.replacing("seconds: 60", with: "seconds: \(seconds)")
            #expect(((try? ConfigurationReader.parse(changed, file: "test.yaml")) != nil) == isRight, "\(seconds)")
        }
    }

    @Test func theExampleStatesTheDefaultsOfWhatIsOff() throws {
        let paths = """
            tls:
              certificate: /etc/ichnode/tls/certificate.pem
              key: /etc/ichnode/tls/key.pem
              ca: /etc/ichnode/tls/ca.pem
            """
        let bare = try ConfigurationReader.parse(paths + "\n" + Self.routes, file: "test.yaml")
        let lines = try String(contentsOfFile: Repository.file("etc/ichnode.yaml"), encoding: .utf8)
            .components(separatedBy: "\n")
        let start = try #require(lines.firstIndex(of: "# tls:"))
        let section = lines[start...].prefix { $0.hasPrefix("# ") }.map { String($0.dropFirst(2)) }
        let text = (lines[..<start] + section + lines[(start + section.count)...]).joined(separator: "\n")
        let example = try ConfigurationReader.parse(text, file: "ichnode.yaml")
        #expect(example.tls == bare.tls)
        #expect(example.tls?.clients == .required)
        #expect(example.tls?.port == 2762)
    }

    /// - Parameter indentation: of the section's first line.
    private func example(uncommenting section: String, indentation: String = "") throws -> NodeConfiguration {
        let mark = indentation + "# "
        let lines = try String(contentsOfFile: Repository.file("etc/ichnode.yaml"), encoding: .utf8)
            .components(separatedBy: "\n")
        let start = try #require(lines.firstIndex(of: "\(mark)\(section):"))
        let commented = lines[start...].prefix { $0.hasPrefix(mark) }
        let text = lines[..<start] + commented.map { indentation + $0.dropFirst(mark.count) }
        return try ConfigurationReader.parse(
            (text + lines[(start + commented.count)...]).joined(separator: "\n"), file: "ichnode.yaml")
    }

    @Test func theExampleStatesTheDefaultsOfWebhooksAndMail() throws {
        let text = """
            webhooks: [{name: paging, url: "https://paging.hospital.example/ichnode",
              secret_file: /etc/ichnode/webhooks/paging.secret}]
            operator_alerts: {mail: {to: [pacs@hospital.example], from: ichnode@hospital.example}}
            """
        let bare = try ConfigurationReader.parse(text + "\n" + Self.routes, file: "test.yaml")
        #expect(try example(uncommenting: "webhooks").webhooks == bare.webhooks)
        let mail = try example(uncommenting: "mail", indentation: "  ").operatorAlerts
        #expect(mail == bare.operatorAlerts && mail.mail != nil)
    }

    private static let webhook = "name: w, url: \"https://h/\", secret_file: /s"

    @Test(arguments: [
        ("webhooks: [{name: w}]", "webhooks[0].url is missing"),
        ("webhooks: [{name: w, url: \"http://h/\", secret_file: /s}]", "webhooks[0].url has to begin with https"),
        ("webhooks: [{name: w, url: \"https://h/\", secret_file: s}]", "webhooks[0].secret_file has to begin with /"),
        ("webhooks: [{\(webhook), ca: c}]", "webhooks[0].ca has to begin with /"),
        ("webhooks: [{\(webhook), timeout_seconds: 301}]", "webhooks[0].timeout_seconds has to be"),
        ("webhooks: [{\(webhook)}, {\(webhook)}]", "webhooks names \"w\", which another destination has"),
        ("webhooks: [{\(webhook.replacing("w,", with: "pacs,"))}]", "webhooks names \"pacs\""),
        ("webhooks: [{\(webhook.replacing("w,", with: "mail,"))}]", "webhooks names \"mail\""),
        ("operator_alerts: {webhooks: [x]}", "operator_alerts sends to \"x\", which is no webhook"),
        ("operator_alerts: {no_result_minutes: 0}", "operator_alerts.no_result_minutes has to be"),
        ("operator_alerts: {mail: {from: a@b}}", "operator_alerts.mail.to is missing"),
        ("operator_alerts: {mail: {to: [a@b], from: \"a@b, c@d\"}}", "operator_alerts.mail.from has to be"),
        ("operator_alerts: {mail: {to: [a], from: a@b}}", "operator_alerts.mail.to: \"a\" is not a mail address"),
        ("operator_alerts: {mail: {to: [a@b], from: a@b, sendmail: s}}", "operator_alerts.mail.sendmail has to begin"),
    ])
    func saysWhatIsWrongWithAlerts(text: String, expected: String) {
        let found = problems(text)
        #expect(found.contains { $0.contains(expected) }, "\(found)")
    }

    @Test func aRouteAlertsOnlyWhoIsThere() throws {
        let text = "webhooks: [{\(Self.webhook)}]\n" + Self.routes.replacing("[pacs]}", with: "[pacs], alerts: [w]}")
        #expect(try ConfigurationReader.parse(text, file: "test.yaml").routes[0].alerts == ["w"])
        let error = try #require(throws: ConfigurationError.self) {
            _ = try ConfigurationReader.parse(text.replacing("alerts: [w]", with: "alerts: [x]"), file: "test.yaml")
        }
        #expect(error.description.contains("alerts \"x\", which is no receiver"))
    }

    @Test func theExampleStatesTheDefaultsOfAPeer() throws {
        var text = try String(contentsOfFile: Repository.file("etc/ichnode.yaml"), encoding: .utf8)
        let plain = try #require(ConfigurationReader.parse(text, file: "ichnode.yaml").peers.first)
        #expect(plain.remote.tls == nil)
        #expect(plain.callingAETitle == AETitle("ICHNODE"))
        text = text.replacing("    tls: false", with: "    tls: true")
        for key in ["certificate", "key", "ca", "calling_ae_title"] {
            text = text.replacing("    # \(key): ", with: "    \(key): ")
        }
        let example = try #require(ConfigurationReader.parse(text, file: "ichnode.yaml").peers.first)
        let folder = "/etc/ichnode/tls"
        let files = TLSFiles(
            section: "peers[0]", certificate: "\(folder)/pacs-certificate.pem", key: "\(folder)/pacs-key.pem",
            authorities: "\(folder)/pacs-ca.pem")
        #expect(example.remote.tls == PeerTLS(files: files, verifiesHost: true))
        #expect(example.callingAETitle == AETitle("TRIAGE"))
    }

    @Test func theExampleStatesTheDefaultsOfAReceiver() throws {
        var lines = try String(contentsOfFile: Repository.file("etc/ichnode.yaml"), encoding: .utf8)
            .components(separatedBy: "\n")
        let start = try #require(lines.firstIndex(of: "# hl7:"))
        let count = lines[start...].prefix { $0.hasPrefix("# ") }.count
        for index in start..<(start + count) { lines[index] = String(lines[index].dropFirst(2)) }
        var text = lines.joined(separator: "\n").replacing("    alerts: []", with: "    alerts: [ris]")
        let example = try ConfigurationReader.parse(text, file: "ichnode.yaml")
        let receiver = "hl7: [{name: ris, host: 10.1.2.3}]\n"
        let bare = try ConfigurationReader.parse(receiver + Self.routes, file: "test.yaml")
        #expect(example.hl7 == bare.hl7)
        #expect(example.routes[0].alerts == ["ris"])
        #expect(example.hl7[0].tls == nil && example.hl7[0].port == 2575)
        // What has no default, or an empty one, is named as well.
        text = text.replacing("    tls: false\n    verify_host: true\n    # cert", with: "    tls: true\n    # cert")
        for key in ["certificate", "key", "ca", "sending_facility", "receiving_application", "receiving_facility"] {
            text = text.replacing("    # \(key): ", with: "    \(key): ")
        }
        let whole = try #require(ConfigurationReader.parse(text, file: "ichnode.yaml").hl7.first)
        #expect(whole.tls?.files.key == "/etc/ichnode/tls/ris-key.pem" && whole.tls?.verifiesHost == true)
        #expect(
            whole.convention
                == HL7Convention(
                    sendingApplication: "ICHNODE", sendingFacility: "RADIOLOGY", receivingApplication: "RIS",
                    receivingFacility: "HOSPITAL"))
    }

    @Test(arguments: [
        ("hl7: [{name: ris}]", "hl7[0].host is missing: add for example \"host: 10.1.2.3\""),
        (
            "hl7: [{name: pacs, host: h}]",
            "hl7 names \"pacs\", which another destination has too: give each its own name"
        ),
        ("hl7: [{name: a, host: h}, {name: a, host: i}]", "hl7 names \"a\", which another destination has too"),
        ("hl7: [{name: a, host: h, port: 0}]", "hl7[0].port has to be a whole number from 1 to 65535"),
        ("hl7: [{name: a, host: h, acknowledgement: both}]", "has to be one of original, enhanced"),
        ("hl7: [{name: a, host: h, study_uid_type: CWE}]", "has to be one of ST, HD"),
        ("hl7: [{name: a, host: h, tls: true}]", "hl7[0].tls needs certificate, key and ca"),
        ("hl7: [{name: a, host: h, connect_timeout_seconds: 301}]", "has to be seconds from 0.1 to 300.0"),
        ("hl7: [{name: a, host: h, acknowledgement_timeout_seconds: 0}]", "has to be seconds from 0.1 to 600.0"),
        ("alerts: {most_study_age_hours: 0}", "alerts.most_study_age_hours has to be hours from 0.01 to 87600.0"),
    ])
    func receiversThatCannotWorkAreProblems(text: String, problem: String) {
        #expect(problems(text).contains { $0.contains(problem) }, "\(problems(text))")
    }

    @Test func aRouteAlertsNobodyWhoIsNotThere() {
        let text =
            "peers: [{name: pacs, ae_title: PACS, host: h}]\nroutes: [{name: r, destinations: [pacs], alerts: [ris]}]"
        #expect(throws: ConfigurationError.self) { try ConfigurationReader.parse(text, file: "test.yaml") }
        #expect(throws: Never.self) {
            try ConfigurationReader.parse(text + "\nhl7: [{name: ris, host: h}]", file: "test.yaml")
        }
    }

    private func peers(_ tls: String, _ keys: String...) throws -> [NodeConfiguration.Peer] {
        let peers = keys.enumerated().map { "  - {name: p\($0), ae_title: PACS, host: 10.0.0.1, port: 104, \($1)}\n" }
        let text = "\(tls)\npeers:\n\(peers.joined())routes: [{name: default, destinations: [p0]}]"
        return try ConfigurationReader.parse(text, file: "test.yaml").peers
    }

    @Test func peersShareTheNodesKeyMaterialOrHaveTheirOwn() throws {
        let shared = "tls: {certificate: /c, key: /k, ca: /a, client_certificates: none}"
        let peers = try peers(
            shared, "tls: true", "tls: true, certificate: /c1, key: /k1, ca: /a1, verify_host: false", "tls: false")
        #expect(
            peers.map(\.remote.tls) == [
                PeerTLS(files: TLSFiles(certificate: "/c", key: "/k", authorities: "/a"), verifiesHost: true),
                PeerTLS(
                    files: TLSFiles(section: "peers[1]", certificate: "/c1", key: "/k1", authorities: "/a1"),
                    verifiesHost: false), nil,
            ])
    }

    @Test(arguments: [
        ("tls: true", "peers[0].tls needs certificate, key and ca: in the section tls, or for this peer"),
        ("tls: maybe", "peers[0].tls has to be true or false"),
        ("tls: true, certificate: /c, ca: /a", "peers[0].key is missing: add for example"),
        ("tls: true, certificate: c, key: /k, ca: /a", "peers[0].tls has \"c\": paths have to begin with /"),
        ("certificate: /c, key: /k, ca: /a", "peers[0].tls is missing: add \"tls: true\""),
        ("calling_ae_title: SEVENTEEN_LETTERS", "peers[0].calling_ae_title has to be an AE title"),
    ])
    func saysWhatIsWrongWithTheTLSOfAPeer(keys: String, expected: String) throws {
        let error = try #require(throws: ConfigurationError.self) { _ = try peers("", keys) }
        #expect(error.problems.contains { $0.text.hasPrefix(expected) }, "\(error)")
    }

    @Test func imagesCanOnlyBeFetchedUnderATitleThatIsOurs() throws {
        let peer = "peers: [{name: p, ae_title: PACS, host: 10.0.0.1, calling_ae_title: TRIAGE}]"
        let text = peer + "\nroutes: [{name: default, destinations: [p], retrieve_from: p}]"
        let error = try #require(throws: ConfigurationError.self) {
            _ = try ConfigurationReader.parse(text, file: "test.yaml")
        }
        #expect(error.description.contains("add it to node.further_ae_titles"))
        _ = try ConfigurationReader.parse("node: {further_ae_titles: [TRIAGE]}\n" + text, file: "test.yaml")
    }

    @Test func theExampleNamesEveryKey() throws {
        let example = try String(contentsOfFile: Repository.file("etc/ichnode.yaml"), encoding: .utf8)
        let folder = Repository.file("Sources/ichnode/Configuration")
        let source = try FileManager.default.contentsOfDirectory(atPath: folder)
            .filter { $0.hasPrefix("ConfigurationReader") }
            .map { try String(contentsOfFile: "\(folder)/\($0)", encoding: .utf8) }.joined()
        let keys = source.matches(of: /[a-zA-Z]+\(\s*(?:section, )?"([a-z_]+)"/)
        #expect(keys.count > 30)
        for key in keys { #expect(example.contains("\(key.1):"), "\(key.1)") }
    }

    @Test(arguments: [
        ("node: {ae_tilte: X}", "test.yaml:1: node.ae_tilte is not a known key; did you mean ae_title?"),
        ("dicom:\n  port: 70000", "test.yaml:2: dicom.port has to be a whole number from 0 to 65535, or none"),
        ("dicom: {port: none}", "test.yaml:1: dicom closes its port, and there is no tls section"),
        ("tls:", "test.yaml:1: tls.certificate is missing"),
        ("tls: {certificate: /c, ca: /a}", "test.yaml:1: tls.key is missing: add for example \"key: /etc"),
        ("tls: {certificate: /c, key: /k}", "test.yaml:1: tls.ca is missing"),
        (
            "tls: {certificate: c, key: /k, client_certificates: none}",
            "test.yaml:1: tls names \"c\": paths have to begin with /"
        ),
        (
            "tls: {certificate: /c, key: /k, ca: /a, client_certificates: maybe}",
            "test.yaml:1: tls.client_certificates has to be one of required, none"
        ),
        ("tls: {port: 11112, certificate: /c, key: /k, ca: /a}", "test.yaml:1: tls needs another port than dicom.port"),
        (
            "dicom:\n  allowed_networks: [\"10.0.0.0/99\"]",
            "test.yaml:2: dicom.allowed_networks: \"10.0.0.0/99\" is not a network such as 10.1.0.0/16"
        ),
        ("node: {ae_title: SEVENTEEN_LETTERS}", "test.yaml:1: node.ae_title has to be an AE title"),
        ("completion: {grace_seconds: 90}", "test.yaml:1: completion needs grace_seconds"),
        (
            "selection:\n  refused_descriptions: [\"(\"]",
            "test.yaml:2: selection.refused_descriptions: \"(\" is not a regular expression"
        ),
        (
            "selection: {preferred_thickness_millimetres: [5, 1]}",
            "test.yaml:1: selection.preferred_thickness_millimetres has to be [least, most]"
        ),
        (
            "selection: {least_coverage_millimetres: far}",
            "test.yaml:1: selection.least_coverage_millimetres has to be millimetres from 1.0 to 500.0"
        ),
        (
            "selection:\n  institutions:\n    - soft_kernels: [X]",
            "test.yaml:3: selection.institutions[0].name is missing"
        ),
        ("retention: {keep_days: 0}", "test.yaml:1: retention.keep_days has to be days, or none, from 0.01"),
        (
            "dicom: {allowed_networks: [\"0.0.0.0/0\"]}",
            "test.yaml:1: dicom allows every network and every calling AE title"
        ),
        ("node: [1, 2", "test.yaml:"),
        ("node:\n  model: a\n  model: b", "test.yaml:2: model is given twice: keep one"),
        ("node:\n  model: \u{1}", "test.yaml:2: not YAML:"),
        ("surprise: 1", "test.yaml:1: surprise is not a known key; known here:"),
        ("node: {log_level: loud}", "test.yaml:1: node log_level has to be one of"),
    ])
    func saysLineAndWhatToWriteInstead(text: String, expected: String) {
        let found = problems(text)
        #expect(found.contains { $0.hasPrefix(expected) }, "\(found)")
    }

    /// What is reported goes to the console, the journal and the audit trail.
    @Test func whatIsNoYAMLIsNotQuoted() {
        let found = problems("console:\n  users:\n    - role: viewer\n        password_hash: \"\(Self.passwordHash)\"")
        #expect(found.first?.hasPrefix("test.yaml:4: not YAML: ") == true, "\(found)")
        #expect(!found.joined().contains("scrypt"))
    }

    private static let user = "name: otto, password_hash: \"\(passwordHash)\""
    private static let passwordHash =
        "$scrypt$ln=15,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$ikKPemj5QQtFYut78rUxRFQWyVagMIehX9iNR3YyczQ"
    private static let digest = String(repeating: "0a", count: 32)

    @Test(arguments: [
        ("host: 0.0.0.0", "console.host reaches beyond this machine, which needs tls and users"),
        ("host: 0.0.0.0, users: [{\(user)}]", "console.host reaches beyond this machine"),
        ("host: 0.0.0.0, tls: {certificate: /c, key: /k}", "console.host reaches beyond this machine"),
        ("tls: {certificate: c, key: /k}", "console.tls.certificate has to begin with /"),
        ("tls: {key: /k}", "console.tls.certificate is missing"),
        ("behind_proxy: true, tls: {certificate: /c, key: /k}", "console.behind_proxy needs a host of 127.0.0.1"),
        ("behind_proxy: true", "console.behind_proxy needs users: a proxy shows the console to others"),
        ("users: [{name: otto}]", "console.users[0].password_hash is missing"),
        ("users: [{name: otto, password_hash: secret}]", "console.users[0].password_hash is none"),
        ("users: [{\(user), role: chief}]", "console.users[0].role has to be one of viewer, operator"),
        ("users: [{\(user)}, {\(user)}]", "console.users names \"otto\" twice"),
        ("users: [{name: o tto, password_hash: \"\(passwordHash)\"}]", "console.users has \"o tto\""),
        ("tokens: [{name: a, sha256: 12}]", "console.tokens[0].sha256 has to be 64 hexadecimal digits"),
        ("session_minutes: 0.9", "console.session_minutes has to be minutes from 1.0"),
        ("session_minutes: 61, most_session_minutes: 60", "console.session_minutes has to be at most"),
        ("lock_out: {tries: 0}", "console.lock_out.tries has to be a whole number from 1"),
        ("lock_out: {first_seconds: 1000}", "console.lock_out.first_seconds has to be at most most_seconds"),
        ("most_connections: 7", "console.most_connections has to be a whole number from 8"),
        ("most_connections: 8", "console.most_connections_per_address has to be at most most_connections"),
        ("idle_seconds: 0.9", "console.idle_seconds has to be seconds from 1.0"),
    ])
    func theConsoleIsRefusedWithWhatToWrite(keys: String, expected: String) {
        let found = problems("console: {\(keys)}")
        #expect(found.contains { $0.hasPrefix("test.yaml:1: \(expected)") }, "\(found)")
    }

    @Test func theConsoleHasUsersTokensAndTLS() throws {
        let text = """
            console:
              host: 0.0.0.0
              users: [{\(Self.user), role: operator}]
              tokens: [{name: robot, sha256: "\(Self.digest)"}]
              tls: {certificate: /c, key: /k}
            """
        let configuration = try ConfigurationReader.parse(text + "\n" + Self.routes, file: "test.yaml")
        let console = configuration.console
        #expect(console.users.map(\.name) == ["otto"] && console.users[0].role == .operator)
        #expect(console.tokens == [.init(name: "robot", role: .viewer, sha256: Self.digest)])
        #expect(
            configuration.keyMaterials.contains { $0.files.section == "console.tls" && $0.side == .accepting },
            "its certificate is watched")
        let paths = """
            console:
              tls:
                certificate: /etc/ichnode/tls/console-certificate.pem
                key: /etc/ichnode/tls/console-key.pem
            """
        let bare = try ConfigurationReader.parse(paths + "\n" + Self.routes, file: "test.yaml")
        #expect(try example(uncommenting: "tls", indentation: "  ").console == bare.console)
    }

    @Test func everyNetworkIsAllowedWithNamedCallers() {
        #expect(problems("dicom: {allowed_networks: [\"0.0.0.0/0\"], allowed_calling_ae_titles: [CT1]}").isEmpty)
    }

    @Test func everyNetworkIsAllowedWithClientCertificatesAlone() {
        let everyone = "allowed_networks: [\"0.0.0.0/0\"]"
        let files = "certificate: /c, key: /k, ca: /a"
        #expect(problems("dicom: {\(everyone), port: none}\ntls: {\(files)}").isEmpty)
        #expect(!problems("dicom: {\(everyone)}\ntls: {\(files)}").isEmpty)
        #expect(!problems("dicom: {\(everyone), port: none}\ntls: {\(files), client_certificates: none}").isEmpty)
    }

    @Test func anInstitutionsRulesAreTheSitesWhereItSaysNothing() throws {
        let text = """
            selection:
              least_slices: 5
              bone_kernels: [Q1]
              institutions:
                - name: "^north"
                  preferred_thickness_millimetres: [1, 2]
            retention: {keep_days: none}
            """
        let configuration = try ConfigurationReader.parse(text + "\n" + Self.routes, file: "test.yaml")
        let institution = try #require(configuration.selection.institutions.first)
        #expect(institution.name.source == "^north")
        #expect(institution.rules.leastSlices == 5)
        #expect(institution.rules.boneKernels == ["Q1"])
        #expect(institution.rules.preferredThicknessMillimetres == 1...2)
        #expect(configuration.selection.preferredThicknessMillimetres == 2.4...5.1)
        #expect(configuration.retentionPolicy.keep == nil)
    }

    @Test func withoutClientCertificatesNoIssuersAreNeeded() throws {
        let text = "dicom: {port: none}\ntls: {certificate: /c, key: /k, ca: /a, client_certificates: none}"
        let configuration = try ConfigurationReader.parse(text + "\n" + Self.routes, file: "test.yaml")
        #expect(configuration.dicom.port == nil)
        #expect(configuration.tls?.files.authorities == nil)
        #expect(problems("tls: {certificate: /c, key: /k, client_certificates: none}").isEmpty)
    }

    @Test func aRouteToNobodyIsRefused() {
        let text = "peers: []\nroutes: [{name: a, destinations: [nobody]}]"
        #expect(throws: ConfigurationError.self) { try ConfigurationReader.parse(text, file: "f") }
        #expect(throws: ConfigurationError.self) { try ConfigurationReader.parse("", file: "f") }
    }

    @Test(arguments: ["counts_from", "retrieve_from"]) func onlyPeersAreAsked(key: String) throws {
        func route(_ peer: String) -> String {
            Self.routes.replacing("destinations: [pacs]", with: "destinations: [pacs], \(key): \(peer)")
        }
        let asking = try ConfigurationReader.parse(route("pacs"), file: "f").routes[0]
        #expect(key == "counts_from" ? asking.countsFrom == "pacs" : asking.retrieveFrom == "pacs")
        let silent = try ConfigurationReader.parse(Self.routes, file: "f").routes
        #expect(try ConfigurationReader.parse(route("none"), file: "f").routes == silent)
        let error = #expect(throws: ConfigurationError.self) {
            try ConfigurationReader.parse(route("ris"), file: "f")
        }
        #expect(error?.description.contains("has \(key) \"ris\", which is no peer: known are") == true)
    }

    @Test(arguments: ["summary", "key_objects"]) func objectsOfARouteAreSwitched(key: String) throws {
        func route(_ value: String) throws -> Route {
            let text = Self.routes.replacing("destinations: [pacs]", with: "destinations: [pacs], \(key): \(value)")
            return try ConfigurationReader.parse(text, file: "f").routes[0]
        }
        for value in [true, false] {
            let read = try route("\(value)")
            #expect((key == "summary" ? read.summary : read.keyObjects) == value)
            #expect((key == "summary" ? read.keyObjects : read.summary) == (key != "summary"))
        }
        let error = #expect(throws: ConfigurationError.self) { _ = try route("sometimes") }
        #expect(error?.description.contains("\(key) has to be true or false") == true)
    }

    @Test func allProblemsAreReportedAtOnce() {
        #expect(problems("node: {x: 1}\ndicom: {port: -1, bind: 3}").count == 3)
    }
}

/// The checkout that the tests were built from.
enum Repository {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    static func file(_ path: String) -> String { root.appendingPathComponent(path).path }
}
