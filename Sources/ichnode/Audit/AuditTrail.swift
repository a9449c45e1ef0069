import Console
import Foundation
import Ledger
import Logging
import Metrics
import ServiceLifecycle
import StoreSCP
import Synchronization
import WorkerProtocol

/// Writes an audit message (PS3.15 §A.5) for what happens. Recording never waits and never fails: what finds no room
/// in the queue is counted, and the trail says so once it can.
final class AuditTrail: Service {
    typealias FindSubject = @Sendable (UID) async throws -> AuditSubject?

    private struct Recorded {
        var event: AuditEvent
        var at: Date
    }

    private struct Queue {
        var events: [Recorded] = []
        var lost = 0
        var refusals = RefusalLimit()
        var refusedSignIns = RefusalLimit()
    }

    private static let mostInBatch = 256
    /// What comes meanwhile shares the next fsync.
    private static let pause: Duration = .milliseconds(200)
    private static let mostLatestBytes = 4 << 20

    private let source: AuditSource
    private let messages: Mutex<AuditMessages>
    private let file: AuditFile
    private let findSubject: FindSubject
    private let clock: WallClock
    private let logger: Logger
    private let mostQueued: Int
    private let queue = Mutex(Queue())
    private let arrivals: AsyncStream<Void>
    private let arrived: AsyncStream<Void>.Continuation
    private let written = Counter(label: "ichnode_audit_messages_total")
    private let lost = Counter(label: "ichnode_audit_messages_lost_total")
    private let failures = Counter(label: "ichnode_audit_write_failures_total")

    /// - Parameters:
    ///   - subject: patient of a study that is known; nil of others.
    ///   - mostQueued: events that wait to be written.
    init(
        _ settings: NodeConfiguration.Audit, folder: URL, aeTitles: [AETitle], subject: @escaping FindSubject,
        mostQueued: Int = 8192, clock: WallClock, logger: Logger
    ) {
        source = AuditSource(id: aeTitles.first?.string ?? "ichnode", enterpriseSite: settings.enterpriseSite)
        file = AuditFile(folder: folder, mostBytes: settings.fileMebibytes << 20, mostFiles: settings.keepFiles)
        messages = Mutex(AuditMessages(aeTitles: aeTitles, auditLog: file.path))
        findSubject = subject
        self.mostQueued = mostQueued
        self.clock = clock
        self.logger = logger
        (arrivals, arrived) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// - Returns: nil where none is to be kept.
    static func make(
        _ configuration: NodeConfiguration, _ folders: NodeFolders, ledger: any Ledger, clock: WallClock, logger: Logger
    ) -> AuditTrail? {
        guard configuration.audit.isEnabled else { return nil }
        return AuditTrail(
            configuration.audit, folder: folders.audit,
            aeTitles: configuration.node.allAETitles,
            subject: { uid in
                try await ledger.firstInstance(ofStudy: uid).map {
                    AuditSubject(patient: $0.record.patient, accessionNumber: $0.record.study.accessionNumber)
                }
            }, clock: clock, logger: logger)
    }

    /// The node goes by these titles from now on.
    func change(to aeTitles: [AETitle]) { messages.withLock { $0.aeTitles = aeTitles } }

    func record(_ event: AuditEvent) {
        let now = clock.now()
        queue.withLock { queue in
            if case .reception(.refused) = event {
                let verdict = queue.refusals.admit(at: now)
                if verdict.earlier > 0 { add(.furtherRefusals(verdict.earlier), now, &queue) }
                guard verdict.isAdmitted else { return }
            }
            if case .access(.signInRefused) = event {
                let verdict = queue.refusedSignIns.admit(at: now)
                if verdict.earlier > 0 { add(.furtherSignIns(verdict.earlier), now, &queue) }
                guard verdict.isAdmitted else { return }
            }
            add(event, now, &queue)
        }
        arrived.yield()
    }

    private func add(_ event: AuditEvent, _ now: Date, _ queue: inout Queue) {
        guard queue.events.count < mostQueued else {
            queue.lost += 1
            return lost.increment()
        }
        queue.events.append(Recorded(event: event, at: now))
    }

    /// The latest messages, oldest first.
    func latest(_ count: Int) async throws -> [String] {
        try await Self.offThePool { [file] in try file.latest(count, mostBytes: Self.mostLatestBytes) }
    }

    /// Until the node stops; what is recorded by then is written before this returns, if it can be.
    func run() async throws {
        record(.started)
        await withTaskCancellationOrGracefulShutdownHandler {
            for await _ in arrivals {
                await writeAll()
                try? await clock.sleep(Self.pause)
            }
        } onCancelOrGracefulShutdown: { [arrived] in
            arrived.finish()
        }
        record(.stopped)
        await writeAll()
    }

    private func writeAll() async {
        while case let (batch, lost) = takeBatch(), !batch.isEmpty {
            var lines: [String] = []
            for each in batch { lines += await self.lines(each.event, at: each.at) }
            // Later than what it is about, and before what comes next.
            if lost > 0 { lines += await self.lines(.lost(lost), at: clock.now()) }
            await write(lines)
        }
    }

    private func takeBatch() -> (events: [Recorded], lost: Int) {
        queue.withLock { queue in
            let batch = Array(queue.events.prefix(Self.mostInBatch))
            queue.events.removeFirst(batch.count)
            // What was lost came after all that is still in the queue.
            let lost = queue.events.isEmpty ? queue.lost : 0
            queue.lost -= lost
            return (batch, lost)
        }
    }

    private func lines(_ event: AuditEvent, at time: Date) async -> [String] {
        let subject = await subject(of: event)
        return messages.withLock { $0 }.messages(of: event, subject).map { message in
            announce(message)
            return source.xml(message, at: time)
        }
    }

    private func subject(of event: AuditEvent) async -> AuditSubject {
        guard let uid = event.studyInstanceUID else { return AuditSubject() }
        do { return try await findSubject(uid) ?? AuditSubject() } catch {
            logger.error("audit message without its patient", metadata: ["study.uid": "\(uid)", "error": "\(error)"])
            return AuditSubject()
        }
    }

    /// In the log, without the patient.
    private func announce(_ message: AuditMessage) {
        var metadata: Logger.Metadata = [
            "audit.event": "\(message.type?.meaning ?? message.event.meaning)",
            "audit.outcome": "\(message.outcome.rawValue)",
            "audit.participants": "\(message.participants.map(\.userID).joined(separator: ", "))",
        ]
        if let study = message.objects.first(where: { $0.idType == .studyInstanceUID }) {
            metadata["study.uid"] = "\(study.id)"
        }
        logger.info("audit event", metadata: metadata)
    }

    /// Tries until the file takes them; a node that stops waits for no disk.
    private func write(_ lines: [String]) async {
        var pause: Duration = .seconds(1)
        while true {
            do {
                try await Self.offThePool { [file] in try file.append(lines) }
                return written.increment(by: lines.count)
            } catch {
                failures.increment()
                logger.error("audit log cannot be written", metadata: ["error": "\(error)"])
            }
            let waited: Void? = try? await cancelWhenGracefulShutdown { [clock, pause] in try await clock.sleep(pause) }
            guard waited != nil else {
                lost.increment(by: lines.count)
                return logger.error("audit messages are lost", metadata: ["count": "\(lines.count)"])
            }
            pause = min(pause * 2, .seconds(30))
        }
    }

    /// Files block: not on the cooperative pool.
    private static func offThePool<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global(qos: .utility).async { continuation.resume(with: Result { try body() }) }
        }
    }
}

/// A flood of refusals must not drive all else out of the trail: so many a minute are recorded singly, the rest as one
/// number with the next.
struct RefusalLimit {
    static let perMinute = 60
    private var minute = Int.min
    private var used = 0
    private var left = 0

    /// - Returns: whether it is recorded, and how many earlier ones were not.
    mutating func admit(at now: Date) -> (isAdmitted: Bool, earlier: Int) {
        let current = Int((now.timeIntervalSince1970 / 60).rounded(.down))
        var earlier = 0
        if current != minute { (minute, used, earlier, left) = (current, 0, left, 0) }
        used += 1
        if used > Self.perMinute { left += 1 }
        return (used <= Self.perMinute, earlier)
    }
}
