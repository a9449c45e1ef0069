/// What `doctor` looks at, by the names that programs know it by: they stay. docs/OPERATIONS.md explains each.
enum Check: String, CaseIterable, Codable, Sendable {
    case configuration, user
    case configurationSecrets = "configuration.secrets"
    case folderData = "folder.data"
    case folderSpool = "folder.spool"
    case folderResults = "folder.results"
    case folderAudit = "folder.audit"
    case folderRun = "folder.run"
    case ledger
    case diskSpace = "disk.space"
    case diskWrite = "disk.write"
    case modelFiles = "model.files"
    case modelThreshold = "model.threshold"
    case modelLoad = "model.load"
    case certificate
    case peerName = "peer.name"
    case peerTCP = "peer.tcp"
    case peerTLS = "peer.tls"
    case peerAssociation = "peer.association"
    case peerEcho = "peer.echo"
    case peerContexts = "peer.contexts"
    case peerQuery = "peer.query"
    case hl7Name = "hl7.name"
    case hl7TCP = "hl7.tcp"
    case hl7TLS = "hl7.tls"
    case webhookFiles = "webhook.files"
    case webhookName = "webhook.name"
    case webhookTCP = "webhook.tcp"
    case webhookTLS = "webhook.tls"
    case mail
    case clockSynchronised = "clock.synchronised"
    case clockOrder = "clock.order"
    case clockReceiver = "clock.receiver"
    case kernelVersion = "kernel.version"
    case kernelLandlock = "kernel.landlock"
    case kernelSeccomp = "kernel.seccomp"
    case descriptors
    case portDICOM = "port.dicom"
    case portTLS = "port.tls"
    case portConsole = "port.console"
    case nodeRunning = "node.running"
    case nodeVersion = "node.version"
    case nodeConfiguration = "node.configuration"
    case alerts
}

/// What one check found.
struct SetupFinding: Sendable, Equatable, Encodable {
    enum Level: String, Codable, Sendable {
        case good
        /// The node works, and something is to be looked at.
        case warning
        /// Something has to be changed.
        case bad
    }

    var check: Check
    /// What it is about: a peer's name, a path, a port.
    var subject: String
    var level: Level
    /// Phrase without patient identity.
    var text: String
    /// What to change, and where; nil where there is nothing, or the text says it.
    var advice: String?

    static func good(_ check: Check, _ subject: String, _ text: String) -> SetupFinding {
        SetupFinding(check: check, subject: subject, level: .good, text: text)
    }
    static func warning(_ check: Check, _ subject: String, _ text: String, _ advice: String? = nil) -> SetupFinding {
        SetupFinding(check: check, subject: subject, level: .warning, text: text, advice: advice)
    }
    static func bad(_ check: Check, _ subject: String, _ text: String, _ advice: String? = nil) -> SetupFinding {
        SetupFinding(check: check, subject: subject, level: .bad, text: text, advice: advice)
    }

    var sentence: String { advice.map { "\(text): \($0)" } ?? text }

    /// As a line.
    var line: String {
        let word =
            switch level {
            case .good: "good"
            case .warning: "warn"
            case .bad: "BAD "
            }
        return "\(word)  \(sentence)"
    }
}

/// What `doctor --json` prints. Fields and names of checks may be added; `format` counts what is not an addition.
struct DoctorReport: Encodable {
    var format = 1
    var version = NodeVersion.string
    /// The file.
    var configuration: String
    /// The worst of all.
    var result: SetupFinding.Level
    var findings: [SetupFinding]

    init(configuration: String, findings: [SetupFinding]) {
        self.configuration = configuration
        self.findings = findings
        let levels = findings.map(\.level)
        result = levels.contains(.bad) ? .bad : levels.contains(.warning) ? .warning : .good
    }
}
