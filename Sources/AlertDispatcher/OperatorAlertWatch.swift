public import Foundation
public import Ledger
public import Logging
internal import Metrics
public import ServiceLifecycle
public import WorkerProtocol

/// Looks at the node every few seconds: raises alerts, once each, and clears them when they are over. They and the
/// messages about them are in the ledger, so that a restart neither forgets nor repeats any.
public actor OperatorAlertWatch: Service {
    /// Where facts come from that the ledger does not have.
    public struct Sources: Sendable {
        public var disk: @Sendable () -> (freeBytes: UInt64?, rejects: Bool)
        public var unreachable: @Sendable () async -> [String: Date]
        /// Since the start of the node, by verb.
        public var crashes: @Sendable () -> [String: Int]
        public var certificates: @Sendable () -> [OperatorFacts.Certificate]
        /// Whether a study can be a head CT, by its headers.
        public var mayBeHead: @Sendable (UID) async throws -> Bool
        /// Begins the reason of studies that are held.
        public var heldReason: String

        public init(
            disk: @escaping @Sendable () -> (freeBytes: UInt64?, rejects: Bool),
            unreachable: @escaping @Sendable () async -> [String: Date],
            crashes: @escaping @Sendable () -> [String: Int],
            certificates: @escaping @Sendable () -> [OperatorFacts.Certificate],
            mayBeHead: @escaping @Sendable (UID) async throws -> Bool, heldReason: String
        ) {
            self.disk = disk
            self.unreachable = unreachable
            self.crashes = crashes
            self.certificates = certificates
            self.mayBeHead = mayBeHead
            self.heldReason = heldReason
        }
    }

    /// After findings and reports.
    private static let priority = 2
    /// Between two beats.
    private static let mostSleep: Duration = .seconds(1)

    private let currentPolicy: @Sendable () -> OperatorAlertPolicy
    /// As of now: it may change.
    private var policy: OperatorAlertPolicy { currentPolicy() }
    private let interval: @Sendable () -> Duration
    private let ledger: any Ledger
    private let sources: Sources
    private let channels: @Sendable () -> [any OperatorAlertChannel]
    private let clock: WallClock
    private let logger: Logger
    /// Counts of crashes, as far back as the window goes, and one from before it.
    private var counts: [(at: Date, crashes: [String: Int])] = []
    /// What headers said of an overdue study, up to which image, and after how many calls of `reconsider`.
    private var judged: [UID: (upTo: Date, after: Int, mayBeHead: Bool)] = [:]
    /// Could not be read back at the last look.
    private var unread: Set<UID> = []
    /// Calls of `reconsider`.
    private var reconsiderations = 0
    public nonisolated let pulse = Pulse()

    /// Policy, interval and channels are asked for at each look: they may change.
    public init(
        policy: @escaping @autoclosure @Sendable () -> OperatorAlertPolicy,
        interval: @escaping @autoclosure @Sendable () -> Duration, ledger: any Ledger, sources: Sources,
        channels: @escaping @autoclosure @Sendable () -> [any OperatorAlertChannel], clock: WallClock, logger: Logger
    ) {
        currentPolicy = policy
        self.interval = interval
        self.ledger = ledger
        self.sources = sources
        self.channels = channels
        self.clock = clock
        self.logger = logger
    }

    public func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            while !Task.isCancelled {
                do { try await look() } catch is CancellationError { return } catch {
                    logger.error("operator alerts cannot be looked at, tried again", metadata: ["error": "\(error)"])
                }
                pulse.beat()
                do { try await pause() } catch { return }
            }
        }
    }

    /// Until the next look: by the interval as it is now, which may have become shorter.
    private func pause() async throws {
        var slept = Duration.zero
        while slept < interval() {
            let sleep = min(interval() - slept, Self.mostSleep)
            try await clock.sleep(sleep)
            slept += sleep
            pulse.beat()
        }
    }

    /// The rules by which a study can be a head CT have changed: each overdue one is looked at again.
    public func reconsider() { reconsiderations += 1 }

    /// Once.
    func look() async throws {
        let now = clock.now()
        let active = Set(try await ledger.operatorAlerts(all: false, limit: .max).map(\.kind))
        let conditions = policy.conditions(try await facts(now), active: active, at: now)
        let channels = channels()
        let changes = try await ledger.updateOperatorAlerts(to: conditions) { changes in
            try channels.flatMap { channel in
                try channel.messages(of: changes, at: now).map {
                    NewDelivery(destination: channel.name, priority: Self.priority, message: $0)
                }
            }
        }
        for change in changes { report(change) }
        let counts = Dictionary(grouping: conditions, by: \.kind).mapValues(\.count)
        for kind in OperatorAlertKind.allCases {
            Gauge(label: "ichnode_operator_alerts_active", dimensions: [("kind", kind.rawValue)])
                .record(counts[kind] ?? 0)
        }
    }

    private func report(_ change: OperatorAlertEntry) {
        let metadata: Logger.Metadata = [
            "kind": "\(change.kind.rawValue)", "subject": "\(change.subject)", "text": "\(change.text)",
        ]
        if change.clearedAt == nil {
            logger.error("operator alert raised", metadata: metadata)
        } else {
            logger.notice("operator alert cleared", metadata: metadata)
        }
    }

    // MARK: Facts

    private func facts(_ now: Date) async throws -> OperatorFacts {
        var work = try await ledger.openWork(heldFor: sources.heldReason)
        work.studies = try await heads(work.studies, now)
        let disk = sources.disk()
        return OperatorFacts(
            work: work, unreachable: await sources.unreachable(), freeBytes: disk.freeBytes,
            rejectsForRoom: disk.rejects, crashes: recentCrashes(now), certificates: sources.certificates())
    }

    /// The overdue ones that may be head CTs.
    private func heads(_ studies: [OpenWork.Study], _ now: Date) async throws -> [OpenWork.Study] {
        let overdue = studies.filter { policy.isOverdue($0, at: now) }
        let before = judged
        let unreadBefore = unread
        (judged, unread) = ([:], [])
        var heads: [OpenWork.Study] = []
        for study in overdue {
            let uid = study.studyInstanceUID
            // A report was made of it.
            var mayBeHead = !study.owedTo.isEmpty || !study.refusedBy.isEmpty
            if !mayBeHead {
                // Before the headers are asked: the rules may change meanwhile.
                let count = reconsiderations
                let known = before[uid].flatMap {
                    $0.upTo == study.lastReceivedAt && $0.after == count ? $0.mayBeHead : nil
                }
                do {
                    mayBeHead = if let known { known } else { try await sources.mayBeHead(uid) }
                    judged[uid] = (study.lastReceivedAt, count, mayBeHead)
                } catch is CancellationError { throw CancellationError() } catch {
                    // It hides no other alert; it is asked about again at the next look.
                    unread.insert(uid)
                    if !unreadBefore.contains(uid) {
                        logger.error(
                            "a study cannot be read back, and counts as a head CT",
                            metadata: ["study.uid": "\(uid)", "error": "\(error)"])
                    }
                    mayBeHead = true
                }
            }
            if mayBeHead { heads.append(study) }
        }
        return heads
    }

    private func recentCrashes(_ now: Date) -> [String: Int] {
        let crashes = sources.crashes()
        if counts.isEmpty { counts.append((now, [:])) }
        counts.append((now, crashes))
        let start = now - policy.crashWindow.inSeconds
        while counts.count > 1, counts[1].at <= start { counts.removeFirst() }
        let before = counts[0].crashes
        return crashes.reduce(into: [:]) { $0[$1.key] = $1.value - (before[$1.key] ?? 0) }
    }
}
