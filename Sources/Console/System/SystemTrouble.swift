internal import Foundation
internal import Ledger

/// Something that is wrong with the node, and what to do.
struct SystemTrouble: Equatable {
    enum Level: Int { case error, warning }

    var level: Level
    var text: String

    init(_ level: Level, _ text: String) { (self.level, self.text) = (level, text) }

    /// Worst first.
    static func all(_ facts: SystemFacts, _ state: SystemState, at now: Date) -> [SystemTrouble] {
        let found =
            readiness(state) + disk(facts.disk) + state.alerts.map { SystemTrouble(.error, $0.text) }
            + processes(state) + certificates(facts, at: now) + audit(state) + deliveries(state) + machine(facts)
            + log(facts, at: now)
        // An alert of the node says the same as a look at the disk does: twice is no worse.
        return found.sorted { $0.level.rawValue < $1.level.rawValue }
    }

    private static func readiness(_ state: SystemState) -> [SystemTrouble] {
        var found: [SystemTrouble] = []
        if let missing = state.notReady { found.append(.init(.error, "not ready: \(missing)")) }
        if let failure = state.ledgerFailure {
            found.append(
                .init(
                    .error,
                    "the ledger cannot be read (\(failure)): what waits and what is held is not known; "
                        + "look at the disk and at the log of the node"))
        }
        return found
    }

    private static func disk(_ disk: SystemFacts.Disk) -> [SystemTrouble] {
        guard let free = disk.freeBytes else {
            return [.init(.error, "free disk space is not known: look whether the data directory is mounted")]
        }
        if free < disk.refuseBelow {
            return [.init(.error, "disk full: objects are refused with 0xA700; make room, or lower disk.* in the file")]
        }
        if free < disk.rejectBelow {
            let text = "disk nearly full: associations that store are rejected; make room, or lower disk.* in the file"
            return [.init(.error, text)]
        }
        return []
    }

    private static func processes(_ state: SystemState) -> [SystemTrouble] {
        state.crashes.filter { $0.value > 0 }.sorted { $0.key < $1.key }.map { verb, count in
            .init(
                .warning,
                "\(counted(count, "process", "processes")) \"\(verb)\" died since the start: each cost one "
                    + "association or one attempt, which is tried again; the log says at what")
        }
    }

    private static func certificates(_ facts: SystemFacts, at now: Date) -> [SystemTrouble] {
        facts.certificates.compactMap { certificate in
            guard let expires = certificate.expires else { return nil }
            let left = expires.timeIntervalSince(now)
            if left <= 0 { return .init(.error, "certificate \(certificate.file) has expired: renew it") }
            guard left < facts.certificateDays * 86400 else { return nil }
            return .init(
                .warning, "certificate \(certificate.file) expires in \(Words.span(left)): renew it, then restart")
        }
    }

    private static func audit(_ state: SystemState) -> [SystemTrouble] {
        if state.auditLost > 0 {
            let lost = counted(state.auditLost, "audit message")
            return [.init(.error, "\(lost) lost: look at the disk and the audit folder")]
        }
        return state.auditFailures == 0
            ? []
            : [.init(.warning, "audit messages could not be written \(state.auditFailures) times; they were kept")]
    }

    private static func deliveries(_ state: SystemState) -> [SystemTrouble] {
        guard let count = state.standing?.givenUp.count, count > 0 else { return [] }
        let text = "\(counted(count, "delivery", "deliveries")) given up: try again, or withdraw, under Deliveries"
        return [.init(.warning, text)]
    }

    private static func machine(_ facts: SystemFacts) -> [SystemTrouble] {
        var found: [SystemTrouble] = []
        if facts.isClockSynchronised == false {
            let text = "the machine's clock is not synchronised: times in reports may be off; switch NTP on"
            found.append(.init(.warning, text))
        }
        if facts.landlockVersion == 0 {
            let text = "the kernel has no Landlock: receive workers could read other studies; use Linux 5.13 or later"
            found.append(.init(.warning, text))
        }
        if !facts.hasSeccomp {
            found.append(.init(.warning, "the kernel has no seccomp: workers are not kept from the network"))
        }
        return found
    }

    /// "1 error", "2 errors".
    private static func counted(_ count: Int, _ one: String, _ several: String? = nil) -> String {
        count == 1 ? "1 \(one)" : "\(count) \(several ?? one + "s")"
    }

    private static func log(_ facts: SystemFacts, at now: Date) -> [SystemTrouble] {
        let errors = facts.log.count { $0.level != "warning" && now.timeIntervalSince($0.at) < 3600 }
        guard errors > 0 else { return [] }
        return [.init(.warning, "\(counted(errors, "error")) in the log within the last hour: see below")]
    }
}

/// What the page shows beside the node's own facts.
struct SystemState {
    var notReady: String?
    /// nil where the ledger cannot be read.
    var standing: LedgerStanding?
    var ledgerFailure: String?
    var spool: (at: Date, value: SpoolStanding)?
    var alerts: [OperatorAlertEntry] = []
    /// By verb.
    var crashes: [String: Int] = [:]
    var storedInstances = 0
    var refusedInstances = 0
    var associations = 0
    var failedHandshakes = 0
    var auditMessages = 0
    var auditLost = 0
    var auditFailures = 0
}
