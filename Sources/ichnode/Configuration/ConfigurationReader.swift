import AlertDispatcher
import Console
import Foundation
import ICHModel
import StoreSCP
import WorkerProtocol
import Yams

/// Reads the YAML file. Unknown keys, impossible values and unsafe combinations are errors with their line.
enum ConfigurationReader {
    static func read(path: String) throws -> NodeConfiguration {
        try parse(try text(path: path), file: path)
    }

    static func text(path: String) throws -> String {
        do { return try String(contentsOfFile: path, encoding: .utf8) } catch {
            throw ConfigurationError(
                file: path, problems: [.init(line: 1, text: "cannot be read: name a readable YAML file")])
        }
    }

    /// - Parameters:
    ///   - problems: keeps what was asked for.
    ///   - running: what only a start changes is as there (`ConfigurationKeys`), and all that follows from it.
    static func parse(
        _ text: String, file: String, problems: ConfigurationProblems = ConfigurationProblems(),
        keeping running: NodeConfiguration? = nil
    ) throws -> NodeConfiguration {
        let node: Yams.Node
        do { node = try Yams.compose(yaml: text) ?? YAMLSection.empty } catch let error as YamlError {
            throw ConfigurationError(file: file, problems: [problem(error)])
        }
        let root = YAMLSection(node, path: "", problems: problems)
        let ours = readNode(root.section("node")).keeping(running?.node)
        let read = readTLS(root.optionalSection("tls"))
        let tls = if let running { running.tls } else { read }
        let configuration = NodeConfiguration(
            node: ours, dicom: readDICOM(root.section("dicom")).keeping(running?.dicom), tls: tls,
            disk: readDisk(root.section("disk")),
            completion: readCompletion(root.section("completion")),
            selection: readSelection(root.section("selection")), retention: readRetention(root.section("retention")),
            delivery: readDelivery(root.section("delivery")),
            audit: readAudit(root.section("audit")).keeping(running?.audit),
            alerts: readAlerts(root.section("alerts")),
            console: readConsole(root.section("console"), keeping: running?.console),
            peers: readPeers(root.sections("peers"), ours, tls),
            webhooks: readWebhooks(root.sections("webhooks")),
            operatorAlerts: readOperatorAlerts(root.section("operator_alerts")),
            hl7: readHL7(root.sections("hl7"), tls),
            routes: readRoutes(root.sections("routes")))
        root.finish()
        check(configuration, root)
        guard problems.all.isEmpty else {
            var remainder = configuration
            remainder.peers.removeAll { $0.remote.host.isEmpty || $0.remote.aeTitle == placeholderTitle }
            remainder.hl7.removeAll { $0.host.isEmpty }
            throw ConfigurationError(file: file, problems: problems.all, remainder: remainder)
        }
        return configuration
    }

    private static func problem(_ error: YamlError) -> ConfigurationError.Problem {
        // Never the error's own text, which quotes the line: it may hold a secret.
        switch error {
        case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            let within = context.map { " \($0.text)" } ?? ""
            return .init(line: mark.line, text: "not YAML: \(problem)\(within), column \(mark.column)")
        case .reader(let problem, let offset, _, let yaml):
            return .init(
                line: 1 + yaml.prefix(offset ?? 0).count(where: \.isNewline), text: "not YAML: \(problem)")
        case .duplicatedKeysInMapping(let keys, let context):
            // Its own text holds the whole file.
            return .init(line: context.mark.line, text: "\(keys.joined(separator: ", ")) is given twice: keep one")
        default: return .init(line: 1, text: "not YAML")
        }
    }

    // MARK: Sections

    private static func readNode(_ section: YAMLSection) -> NodeConfiguration.Node {
        defer { section.finish() }
        return NodeConfiguration.Node(
            aeTitle: aeTitle(section, "ae_title", default: "ICHNODE"),
            furtherAETitles: section.list("further_ae_titles", default: [], "an AE title", { AETitle($0) }),
            dataDirectory: section.string("data_directory", default: "/var/lib/ichnode"),
            runDirectory: section.string("run_directory", default: "/run/ichnode"),
            model: section.string("model", default: "/usr/share/ichnode/model"),
            logLevel: section.string("log_level", default: "info"),
            inferenceThreads: section.int("inference_threads", default: InferenceServer.defaultThreads, 1...64))
    }

    private static func readDICOM(_ section: YAMLSection) -> NodeConfiguration.DICOMPort {
        defer { section.finish() }
        return NodeConfiguration.DICOMPort(
            port: section.port("port", default: 11112),
            bind: section.list(
                "bind", default: ["0.0.0.0", "::"], "an IP address",
                { $0.contains("/") || NetworkBlock($0) == nil ? nil : $0 }),
            allowedNetworks: section.list(
                "allowed_networks", default: [NetworkBlock("127.0.0.0/8"), NetworkBlock("::1/128")].compactMap { $0 },
                "a network such as 10.1.0.0/16", { NetworkBlock($0) }),
            allowedCallingAETitles: section.list(
                "allowed_calling_ae_titles", default: [], "an AE title", { AETitle($0) }),
            mostAssociations: section.int("most_associations", default: 64, 1...1024),
            mostAssociationsPerPeer: section.int("most_associations_per_peer", default: 32, 1...1024),
            admissionQueueSeconds: section.seconds("admission_queue_seconds", default: 5, 0...60),
            requestDeadlineSeconds: section.seconds("request_deadline_seconds", default: 10, 0.1...300),
            idleTimeoutSeconds: section.seconds("idle_timeout_seconds", default: 60, 1...3600),
            associationDeadlineSeconds: section.seconds("association_deadline_seconds", default: 3600, 10...86400),
            stopDeadlineSeconds: section.seconds("stop_deadline_seconds", default: 10, 0...300),
            warmWorkers: section.int("warm_workers", default: 2, 0...64),
            maxPDUBytes: section.int("max_pdu_bytes", default: 131_072, 4096...131_072),
            mostObjectMebibytes: section.int(
                "most_object_mebibytes", default: 2048, 1...ObjectLimits.widest.objectBytes >> 20),
            sequenceDepth: section.int("sequence_depth", default: 32, 4...ObjectLimits.widest.sequenceDepth),
            extraSOPClasses: section.list("extra_sop_classes", default: [], "a UID", { UID($0) }))
    }

    private static func readTLS(_ section: YAMLSection?) -> NodeConfiguration.TLS? {
        guard let section else { return nil }
        defer { section.finish() }
        let clients = section.choice("client_certificates", default: NodeConfiguration.TLS.Clients.required)
        return NodeConfiguration.TLS(
            port: section.int("port", default: 2762, 0...65535),
            certificate: section.file(
                "certificate", section.required("certificate", "/etc/ichnode/tls/certificate.pem")),
            key: section.file("key", section.required("key", "/etc/ichnode/tls/key.pem")),
            // Read in both cases, so that it may stay in the file.
            authorities: section.file(
                "ca",
                clients == .required
                    ? section.required("ca", "/etc/ichnode/tls/ca.pem") : section.string("ca", default: "")),
            clients: clients)
    }

    private static func readDisk(_ section: YAMLSection) -> NodeConfiguration.Disk {
        defer { section.finish() }
        return NodeConfiguration.Disk(
            rejectAssociationsBelowMebibytes: section.int(
                "reject_associations_below_mebibytes", default: 5120, 0...1 << 30),
            refuseObjectsBelowMebibytes: section.int("refuse_objects_below_mebibytes", default: 1024, 0...1 << 30))
    }

    private static func readCompletion(_ section: YAMLSection) -> NodeConfiguration.Completion {
        defer { section.finish() }
        return NodeConfiguration.Completion(
            graceSeconds: section.seconds("grace_seconds", default: 2, 0...600),
            quietSeconds: section.seconds("quiet_seconds", default: 60, 1...3600),
            deadlineSeconds: section.seconds("deadline_seconds", default: 600, 1...86400))
    }

    private static func readSelection(_ section: YAMLSection) -> SelectionRules {
        defer { section.finish() }
        var rules = readSelectionRules(section, otherwise: SelectionRules())
        rules.institutions = section.sections("institutions").compactMap { institution in
            defer { institution.finish() }
            let name = institution.required("name", "^general hospital")
            // What an institution does not say is as for all.
            let own = readSelectionRules(institution, otherwise: rules)
            guard let pattern = SelectionRules.TextPattern(name) else {
                institution.problem("name", "has to be a regular expression")
                return nil
            }
            return .init(name: pattern, rules: own)
        }
        return rules
    }

    private static func readSelectionRules(
        _ section: YAMLSection, otherwise rules: SelectionRules
    ) -> SelectionRules {
        let thickness = section.list(
            "preferred_thickness_millimetres",
            default: [rules.preferredThicknessMillimetres.lowerBound, rules.preferredThicknessMillimetres.upperBound],
            "a number of millimetres", { Double($0) })
        if thickness.count != 2 || !(0 < thickness[0] && thickness[0] <= thickness[1]) {
            section.problem("preferred_thickness_millimetres", "has to be [least, most]")
        }
        func patterns(_ key: String, _ fallback: [SelectionRules.TextPattern]) -> [SelectionRules.TextPattern] {
            section.list(key, default: fallback, "a regular expression", { SelectionRules.TextPattern($0) })
        }
        func kernels(_ key: String, _ fallback: [String]) -> [String] {
            section.list(key, default: fallback, "a Convolution Kernel", { $0.isEmpty ? nil : $0 })
        }
        return SelectionRules(
            leastSlices: section.int("least_slices", default: rules.leastSlices, 1...1000),
            leastCoverageMillimetres: section.number(
                "least_coverage_millimetres", default: rules.leastCoverageMillimetres, 1...500, "millimetres"),
            preferredThicknessMillimetres: thickness.count == 2 && 0 < thickness[0] && thickness[0] <= thickness[1]
                ? thickness[0]...thickness[1] : rules.preferredThicknessMillimetres,
            preferredDescriptions: patterns("preferred_descriptions", rules.preferredDescriptions),
            refusedDescriptions: patterns("refused_descriptions", rules.refusedDescriptions),
            softKernels: kernels("soft_kernels", rules.softKernels),
            boneKernels: kernels("bone_kernels", rules.boneKernels))
    }

    private static func readRetention(_ section: YAMLSection) -> NodeConfiguration.Retention {
        defer { section.finish() }
        return NodeConfiguration.Retention(
            keepDays: section.numberOrNone("keep_days", default: 30, 0.01...36500, "days"),
            leastKeepHours: section.number("least_keep_hours", default: 1, 0.01...8760, "hours"))
    }

    private static func readDelivery(_ section: YAMLSection) -> NodeConfiguration.Delivery {
        defer { section.finish() }
        return NodeConfiguration.Delivery(
            firstRetrySeconds: section.seconds("first_retry_seconds", default: 5, 0.1...3600),
            mostRetrySeconds: section.seconds("most_retry_seconds", default: 600, 1...86400),
            mostAgeHours: section.numberOrNone("most_age_hours", default: nil, 0.01...87600, "hours"))
    }

    private static func readAudit(_ section: YAMLSection) -> NodeConfiguration.Audit {
        defer { section.finish() }
        return NodeConfiguration.Audit(
            isEnabled: section.bool("enabled", default: true),
            fileMebibytes: section.int("file_mebibytes", default: 64, 1...4096),
            keepFiles: section.int("keep_files", default: 16, 1...10_000),
            enterpriseSite: none(section.string("enterprise_site", default: "none")))
    }

    private static func readAlerts(_ section: YAMLSection) -> NodeConfiguration.Alerts {
        defer { section.finish() }
        return NodeConfiguration.Alerts(
            mostStudyAgeHours: section.number("most_study_age_hours", default: 24, 0.01...87600, "hours"))
    }

    private static func readPeers(
        _ sections: [YAMLSection], _ node: NodeConfiguration.Node, _ tls: NodeConfiguration.TLS?
    ) -> [NodeConfiguration.Peer] {
        sections.map { section in
            defer { section.finish() }
            return NodeConfiguration.Peer(
                name: section.required("name", "pacs"),
                remote: RemotePeer(
                    aeTitle: aeTitle(section, "ae_title", default: nil), host: section.required("host", "10.1.2.3"),
                    port: section.int("port", default: 104, 1...65535), tls: readPeerTLS(section, tls)),
                callingAETitle: aeTitle(section, "calling_ae_title", default: node.aeTitle.string),
                commitment: section.choice("commitment", default: NodeConfiguration.Peer.Commitment.none),
                commitmentTimeoutSeconds: section.seconds("commitment_timeout_seconds", default: 21600, 1...2_592_000),
                fallback: none(section.string("fallback", default: "none")),
                fallbackAfterSeconds: section.seconds("fallback_after_seconds", default: 60, 0...86400))
        }
    }

    private static func readHL7(
        _ sections: [YAMLSection], _ tls: NodeConfiguration.TLS?
    ) -> [HL7ReceiverSettings] {
        sections.map { section in
            defer { section.finish() }
            return HL7ReceiverSettings(
                name: section.required("name", "ris"), host: section.required("host", "10.1.2.3"),
                port: section.int("port", default: 2575, 1...65535), tls: readPeerTLS(section, tls),
                convention: HL7Convention(
                    sendingApplication: section.string("sending_application", default: "ICHNODE"),
                    sendingFacility: section.string("sending_facility", default: ""),
                    receivingApplication: section.string("receiving_application", default: ""),
                    receivingFacility: section.string("receiving_facility", default: ""),
                    acknowledgement: section.choice(
                        "acknowledgement", default: HL7Convention.Acknowledgement.original),
                    studyUIDType: section.choice("study_uid_type", default: HL7Convention.StudyUIDType.st)),
                connectTimeout: .seconds(section.seconds("connect_timeout_seconds", default: 10, 0.1...300)),
                acknowledgementTimeout: .seconds(
                    section.seconds("acknowledgement_timeout_seconds", default: 30, 0.1...600)))
        }
    }

    /// nil without TLS.
    private static func readPeerTLS(_ section: YAMLSection, _ shared: NodeConfiguration.TLS?) -> PeerTLS? {
        let isOn = section.flag("tls")
        let verifiesHost = section.flag("verify_host") ?? true
        var files = TLSFiles(
            section: section.path, certificate: section.file("certificate", section.string("certificate", default: "")),
            key: section.file("key", section.string("key", default: "")),
            authorities: section.file("ca", section.string("ca", default: "")))
        let isOwn = files.paths.contains { !$0.isEmpty }
        if isOwn && isOn == nil { section.problem("tls", "is missing: add \"tls: true\", or remove the certificates") }
        guard isOn == true else { return nil }
        if isOwn {
            // Where one is missing, this says so.
            _ = section.required("certificate", "/etc/ichnode/tls/pacs-certificate.pem")
            _ = section.required("key", "/etc/ichnode/tls/pacs-key.pem")
            _ = section.required("ca", "/etc/ichnode/tls/pacs-ca.pem")
            for path in files.paths where !path.isEmpty && !path.hasPrefix("/") {
                section.problem("tls", "has \"\(path)\": paths have to begin with /")
            }
        } else if let shared, !shared.authorities.isEmpty {
            files = TLSFiles(certificate: shared.certificate, key: shared.key, authorities: shared.authorities)
        } else {
            section.problem("tls", "needs certificate, key and ca: in the section tls, or for this peer")
        }
        return PeerTLS(files: files, verifiesHost: verifiesHost)
    }

    private static func readRoutes(_ sections: [YAMLSection]) -> [Route] {
        sections.map { section in
            defer { section.finish() }
            return Route(
                name: section.required("name", "default"),
                callingAETitles: wildcard(section, "calling_ae_titles"),
                calledAETitles: wildcard(section, "called_ae_titles"),
                institutions: section.list("institutions", default: [], "a regular expression", institution),
                destinations: section.list(
                    "destinations", default: [], "the name of a peer", { $0.isEmpty ? nil : $0 }),
                reportClass: section.choice("sr_class", default: ReportClass.enhanced),
                summary: section.bool("summary", default: true),
                keyObjects: section.bool("key_objects", default: false),
                threshold: section.string("threshold", default: "balanced"),
                alerts: section.list("alerts", default: [], "the name of a receiver", { $0.isEmpty ? nil : $0 }),
                urgency: section.choice("urgency", default: Urgency.stat),
                countsFrom: none(section.string("counts_from", default: "none")),
                retrieveFrom: none(section.string("retrieve_from", default: "none")))
        }
    }

    private static func institution(_ text: String) -> InstitutionPattern? {
        SelectionRules.TextPattern(text).map { InstitutionPattern(text, matches: $0.matches) }
    }

    static func none(_ text: String) -> String? { text == "none" ? nil : text }

    private static func aeTitle(_ section: YAMLSection, _ key: String, default fallback: String?) -> AETitle {
        let text = fallback.map { section.string(key, default: $0) } ?? section.required(key, "PACS")
        if let title = AETitle(text) { return title }
        section.problem(key, "has to be an AE title: 1 to 16 printable characters without backslash")
        return placeholderTitle
    }

    /// Stands in for a title that was reported as wrong, so that reading can go on.
    private static let placeholderTitle: AETitle = {
        guard let title = AETitle("INVALID") else { preconditionFailure("a constant") }
        return title
    }()

    /// A list of AE titles; empty for ["*"], which takes all.
    private static func wildcard(_ section: YAMLSection, _ key: String) -> [AETitle] {
        let texts = section.list(
            key, default: ["*"], "an AE title or \"*\"", { $0 == "*" || AETitle($0) != nil ? $0 : nil })
        return texts.contains("*") ? [] : texts.compactMap { AETitle($0) }
    }

    // MARK: Combinations

    private static func check(_ configuration: NodeConfiguration, _ root: YAMLSection) {
        let names = configuration.peers.map(\.name)
        for name in Set(names) where names.filter({ $0 == name }).count > 1 {
            root.problem("peers", "names \"\(name)\" twice: give every peer a name of its own")
        }
        for peer in configuration.peers {
            guard let fallback = peer.fallback else { continue }
            if !names.contains(fallback) {
                root.problem(
                    "peers", "\"\(peer.name)\" has the fallback \"\(fallback)\", which is no peer: known are \(names)")
            } else if fallback == peer.name {
                root.problem("peers", "\"\(peer.name)\" is its own fallback: name another peer")
            }
        }
        let routeNames = configuration.routes.map(\.name)
        if Set(routeNames).count < routeNames.count { root.problem("routes", "names one route twice") }
        if configuration.routes.isEmpty {
            root.problem(
                "routes", "is missing: without a route no result reaches anyone; see the example configuration")
        }
        for route in configuration.routes {
            if route.destinations.isEmpty {
                root.problem("routes", "\"\(route.name)\" has no destinations: name at least one peer")
            }
            for (key, name) in [("counts_from", route.countsFrom), ("retrieve_from", route.retrieveFrom)] {
                guard let name, !names.contains(name) else { continue }
                root.problem(
                    "routes", "\"\(route.name)\" has \(key) \"\(name)\", which is no peer: known are \(names)")
            }
            if let peer = configuration.peers.first(where: { $0.name == route.retrieveFrom }),
                !configuration.node.allAETitles.contains(peer.callingAETitle)
            {
                root.problem(
                    "routes",
                    "\"\(route.name)\" has \"\(peer.name)\" send images to \"\(peer.callingAETitle)\", which is not "
                        + "ours: add it to node.further_ae_titles")
            }
            for name in route.destinations where name != Route.sender && !names.contains(name) {
                root.problem("routes", "\"\(route.name)\" sends to \"\(name)\", which is no peer: known are \(names)")
            }
        }
        checkSenders(configuration, root)
        let levels = ["trace", "debug", "info", "notice", "warning", "error", "critical"]
        if !levels.contains(configuration.node.logLevel) {
            root.problem("node", "log_level has to be one of \(levels.joined(separator: ", "))")
        }
        checkTimes(configuration, root)
        checkPorts(configuration, root)
        checkExposure(configuration, root)
        checkAlerts(configuration, root)
    }

    /// Which peer the sender is must never be a guess.
    private static func checkSenders(_ configuration: NodeConfiguration, _ root: YAMLSection) {
        if configuration.peers.contains(where: { $0.name == Route.sender }) {
            root.problem("peers", "names one \"\(Route.sender)\", which routes mean the sender by: choose another name")
        }
        guard configuration.routes.contains(where: { $0.destinations.contains(Route.sender) }) else { return }
        for (title, peers) in Dictionary(grouping: configuration.peers, by: \.remote.aeTitle) where peers.count > 1 {
            root.problem(
                "routes",
                "answer to the sender, and \(peers.map(\.name)) have the AE title \"\(title)\": name the one meant")
        }
    }

    private static func checkTimes(_ configuration: NodeConfiguration, _ root: YAMLSection) {
        let completion = configuration.completion
        if completion.graceSeconds > completion.quietSeconds || completion.quietSeconds > completion.deadlineSeconds {
            root.problem("completion", "needs grace_seconds ≤ quiet_seconds ≤ deadline_seconds")
        }
        if configuration.delivery.firstRetrySeconds > configuration.delivery.mostRetrySeconds {
            root.problem("delivery", "needs first_retry_seconds ≤ most_retry_seconds")
        }
        if configuration.disk.refuseObjectsBelowMebibytes > configuration.disk.rejectAssociationsBelowMebibytes {
            root.problem("disk", "needs refuse_objects_below_mebibytes ≤ reject_associations_below_mebibytes")
        }
        if configuration.dicom.mostAssociationsPerPeer > configuration.dicom.mostAssociations {
            root.problem("dicom", "needs most_associations_per_peer ≤ most_associations")
        }
    }

    private static func checkPorts(_ configuration: NodeConfiguration, _ root: YAMLSection) {
        let (plain, tls) = (configuration.dicom.port, configuration.tls?.port)
        if plain == nil && tls == nil {
            root.problem("dicom", "closes its port, and there is no tls section: nothing could be received")
        }
        if let plain, plain != 0, plain == tls { root.problem("tls", "needs another port than dicom.port") }
        guard let tls = configuration.tls else { return }
        for path in tls.files.paths where !path.isEmpty && !path.hasPrefix("/") {
            root.problem("tls", "names \"\(path)\": paths have to begin with /")
        }
    }

    /// What would open the node to whoever reaches it.
    private static func checkExposure(_ configuration: NodeConfiguration, _ root: YAMLSection) {
        let dicom = configuration.dicom
        // Then a certificate says who may come.
        let isMutual = dicom.port == nil && configuration.tls?.clients == .required
        let everyone = dicom.allowedNetworks.contains { $0.contains("8.8.8.8") || $0.contains("2001:db8::1") }
        if everyone && dicom.allowedCallingAETitles.isEmpty && !isMutual {
            root.problem(
                "dicom",
                "allows every network and every calling AE title: name your networks in allowed_networks, "
                    + "the AE titles in allowed_calling_ae_titles, or receive by TLS with client certificates alone")
        }
        for peer in configuration.peers
        where peer.remote.aeTitle == configuration.node.aeTitle && ConsoleSettings.loopback.contains(peer.remote.host)
            && [dicom.port, configuration.tls?.port].contains(peer.remote.port)
        {
            root.problem("peers", "\"\(peer.name)\" is this node itself: name the PACS that wants the results")
        }
    }
}
