public import Foundation

/// What only the node itself knows. Asked for each page; quick.
public protocol NodeFacts: Sendable {
    func system() async -> SystemFacts
    func model() async -> ModelFacts
    func configuration() async -> ConfigurationFacts
}

/// How the node is, and the machine below it.
public struct SystemFacts: Sendable {
    public struct Disk: Sendable {
        /// nil: the file system does not answer.
        public var freeBytes: UInt64?
        public var totalBytes: UInt64?
        /// With less free associations that store are rejected, objects are refused.
        public var rejectBelow: UInt64
        public var refuseBelow: UInt64
        public init(freeBytes: UInt64?, totalBytes: UInt64?, rejectBelow: UInt64, refuseBelow: UInt64) {
            self.freeBytes = freeBytes
            self.totalBytes = totalBytes
            self.rejectBelow = rejectBelow
            self.refuseBelow = refuseBelow
        }
    }

    public struct ChildProcess: Sendable {
        /// "daemon", or the verb of a child.
        public var verb: String
        public var id: Int32
        public var residentBytes: UInt64?
        /// Open ones; nil: not known.
        public var descriptors: Int?
        public init(verb: String, id: Int32, residentBytes: UInt64?, descriptors: Int?) {
            self.verb = verb
            self.id = id
            self.residentBytes = residentBytes
            self.descriptors = descriptors
        }
    }

    public struct Certificate: Sendable {
        public var file: String
        /// nil: it has no end, or cannot be read.
        public var expires: Date?
        public init(file: String, expires: Date?) {
            self.file = file
            self.expires = expires
        }
    }

    public struct LogLine: Sendable {
        public var at: Date
        public var level: String
        public var text: String
        public init(at: Date, level: String, text: String) {
            self.at = at
            self.level = level
            self.text = text
        }
    }

    public var version: String
    public var aeTitle: String
    public var hostName: String
    public var startedAt: Date
    public var dataDirectory: String
    public var disk: Disk
    /// nil: for ever.
    public var keepDays: Double?
    public var leastKeepHours: Double
    public var openAssociations: Int
    public var mostAssociations: Int
    /// Associations and connections refused since the start, by reason.
    public var refusals: [String: Int]
    public var processes: [ChildProcess]
    public var inferenceRestarts: Int
    public var certificates: [Certificate]
    /// An operator is alerted when a certificate ends in less.
    public var certificateDays: Double
    /// nil: none is kept.
    public var auditFile: String?
    /// With its write-ahead log.
    public var ledgerBytes: UInt64?
    /// 0: the kernel has none.
    public var landlockVersion: Int
    public var hasSeccomp: Bool
    /// Of the machine; nil: not known.
    public var isClockSynchronised: Bool?
    /// Warnings and errors since the start, the latest of them, oldest first.
    public var log: [LogLine]

    public init(
        version: String, aeTitle: String, hostName: String, startedAt: Date, dataDirectory: String, disk: Disk,
        keepDays: Double?, leastKeepHours: Double, openAssociations: Int, mostAssociations: Int,
        refusals: [String: Int], processes: [ChildProcess], inferenceRestarts: Int, certificates: [Certificate],
        certificateDays: Double, auditFile: String?, ledgerBytes: UInt64?, landlockVersion: Int, hasSeccomp: Bool,
        isClockSynchronised: Bool?, log: [LogLine]
    ) {
        self.version = version
        self.aeTitle = aeTitle
        self.hostName = hostName
        self.startedAt = startedAt
        self.dataDirectory = dataDirectory
        self.disk = disk
        self.keepDays = keepDays
        self.leastKeepHours = leastKeepHours
        self.openAssociations = openAssociations
        self.mostAssociations = mostAssociations
        self.refusals = refusals
        self.processes = processes
        self.inferenceRestarts = inferenceRestarts
        self.certificates = certificates
        self.certificateDays = certificateDays
        self.auditFile = auditFile
        self.ledgerBytes = ledgerBytes
        self.landlockVersion = landlockVersion
        self.hasSeccomp = hasSeccomp
        self.isClockSynchronised = isClockSynchronised
        self.log = log
    }
}
