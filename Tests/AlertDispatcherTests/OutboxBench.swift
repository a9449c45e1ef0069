import Foundation
import GRDB
import Logging
import Synchronization
import Testing
import WorkerProtocol

@testable import AlertDispatcher
@testable import Ledger

/// Deliveries of one study, and an outbox that serves them.
enum OutboxBench {
    static let study = UID("1.2.3")!

    static func object(_ number: Int) -> ComposedObject {
        ComposedObject(
            path: "/r/\(number)", sopClassUID: ReportClass.enhanced.sopClassUID, sopInstanceUID: UID("2.25.\(number)")!)
    }

    static func owing(_ deliveries: [NewDelivery]) async throws -> SQLiteLedger {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let ledger = try SQLiteLedger(path: folder.appendingPathComponent("l.sqlite").path)
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.1")!, studyInstanceUID: study,
            seriesInstanceUID: UID("1.8")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        try await ledger.recordInstances([StoredInstance(record: record, path: "/x", receivedAt: .now)])
        let objects = deliveries.flatMap(\.objects).map(\.object).reduce(into: [ComposedObject]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        try await ledger.conclude(analysis, objects: objects, deliveries: deliveries)
        return ledger
    }

    /// From now on the ledger can be read, and no delivery in it be changed.
    static func refuseToRecord(_ ledger: SQLiteLedger) async throws {
        try await ledger.database.write { database in
            try database.execute(
                sql: """
                    CREATE TRIGGER disk_full BEFORE UPDATE ON delivery BEGIN SELECT RAISE(ABORT, 'disk full'); END
                    """)
        }
    }

    static func recordAgain(_ ledger: SQLiteLedger) async throws {
        try await ledger.database.write { try $0.execute(sql: "DROP TRIGGER IF EXISTS disk_full") }
    }

    static let analysis = AnalysisEntry(
        studyInstanceUID: study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c", route: "d",
        startedAt: .now, completedAt: .now, outcome: .positive, reason: "", completion: "", studyProbability: 1,
        threshold: 0.5, flaggedSlices: 1)

    /// - Parameters:
    ///   - commitments: beside the outbox.
    ///   - commits: with a desk of its own.
    static func running(
        _ ledger: SQLiteLedger, _ destinations: [any Destination],
        policy: Outbox.RetryPolicy = .init(first: .milliseconds(10), most: .milliseconds(40)),
        clock: WallClock = .system, commitments: CommitmentDesk? = nil, commits: Bool = false,
        until done: () async throws -> Bool
    ) async throws {
        let outbox = Outbox(
            ledger: ledger, destinations: destinations, policy: policy, clock: clock, logger: Logger(label: "test"))
        let commitments = commits ? desk(ledger, destinations) : commitments
        let task = Task { try await outbox.run() }
        let other = Task { try await commitments?.run() }
        for _ in 0..<1000 where try await !done() { try await Task.sleep(for: .milliseconds(10)) }
        #expect(try await done())
        task.cancel()
        other.cancel()
        try await task.value
        try await other.value
    }

    static func desk(_ ledger: SQLiteLedger, _ destinations: [any Destination]) -> CommitmentDesk {
        CommitmentDesk(
            ledger: ledger, destinations: destinations,
            policy: .init(first: .milliseconds(10), most: .milliseconds(40)), clock: .system,
            logger: Logger(label: "test"))
    }
}

/// Stands still but for what a test sets, so that what is due does not depend on how busy the machine is.
final class SteppedTime: Sendable {
    private let begun = Date()
    private let now: Mutex<Date>

    init() { now = Mutex(begun) }

    /// Since the beginning.
    func set(hours: Int) { now.withLock { $0 = begun + Double(hours) * 3600 } }

    var clock: WallClock { WallClock(now: { self.now.withLock { $0 } }, sleep: { try await Task.sleep(for: $0) }) }
}

extension Outbox.RetryPolicy {
    /// All pauses are between 48 and 72 minutes.
    static let hourly = Self(first: .seconds(3600), most: .seconds(3600))
}

/// How a destination takes one attempt.
enum Script: Sendable {
    case down, silent
    case statuses([UInt16])
}

/// Answers as its script says, then is down.
actor ScriptedDestination: Destination {
    nonisolated let name: String
    nonisolated let commitment: (any Commitment)?
    nonisolated let fallback: DestinationFallback?
    private var script: [Script]
    private(set) var asked: [[ComposedObject]] = []

    init(
        name: String, _ script: [Script], commitment: (any Commitment)? = nil, fallback: DestinationFallback? = nil
    ) {
        self.name = name
        self.commitment = commitment
        self.fallback = fallback
        self.script = script
    }

    /// - Parameter statuses: nil: not reachable.
    init(name: String, _ statuses: [[UInt16]?], commitment: (any Commitment)? = nil) {
        self.init(name: name, statuses.map { $0.map(Script.statuses) ?? .down }, commitment: commitment)
    }

    func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate] {
        asked.append(objects)
        guard !script.isEmpty else { throw Unreachable("cannot connect") }
        switch script.removeFirst() {
        case .down: throw Unreachable("cannot connect")
        case .silent: throw WorkerError(.failed, "no response in time")
        case .statuses(let statuses):
            return Dictionary(
                uniqueKeysWithValues: zip(objects, statuses).map {
                    ($0.sopInstanceUID, StoreStatusTable.fate($1, comment: ""))
                })
        }
    }
}

/// Takes messages as its script says; nil: not reachable.
actor ScriptedReceiver: Destination {
    nonisolated let name = "ris"
    private var script: [MessageFate?]
    /// Ids of the messages.
    private(set) var asked: [String] = []

    init(_ script: [MessageFate?]) { self.script = script }

    func deliver(_ message: OutboundMessage) async throws -> MessageFate {
        asked.append(message.id)
        guard !script.isEmpty, let fate = script.removeFirst() else { throw Unreachable("cannot connect") }
        return fate
    }
}

struct StuckDestination: Destination {
    let name = "stuck"
    func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate] {
        try await Task.sleep(for: .seconds(3600))
        return [:]
    }
}

/// Answers requests for commitment one after the other.
actor ScriptedCommitment: Commitment {
    enum Answer {
        case unreachable, silence, hang
        /// At once; with Failure Reasons by index of the object.
        case report([Int: UInt16])
        /// On another association, before the response.
        case reportBefore([Int: UInt16], Duration = .zero)
    }

    nonisolated let timeout: Duration
    private var script: [Answer]
    private var told: (@Sendable (CommitmentReport) async -> CommitmentAnswer)?
    private(set) var asked: [[ComposedObject]] = []
    private(set) var transactions: [UID] = []
    private(set) var answers: [CommitmentAnswer] = []

    init(_ script: [Answer], timeout: Duration = .seconds(3600)) {
        self.script = script
        self.timeout = timeout
    }

    func tell(_ taker: @escaping @Sendable (CommitmentReport) async -> CommitmentAnswer) { told = taker }

    func request(_ objects: [ComposedObject], under transaction: UID) async throws -> CommitmentReport? {
        transactions.append(transaction)
        let uids = objects.map(\.sopInstanceUID)
        defer { asked.append(objects) }
        guard !script.isEmpty else { throw WorkerError(.failed, "cannot connect") }
        switch script.removeFirst() {
        case .unreachable: throw WorkerError(.failed, "cannot connect")
        case .silence: return nil
        case .hang:
            try await Task.sleep(for: .seconds(3600))
            return nil
        case .report(let failures): return Self.report(transaction, uids, failures)
        case .reportBefore(let failures, let pause):
            if let answer = await told?(Self.report(transaction, uids, failures)) { answers.append(answer) }
            try await Task.sleep(for: pause)
            return nil
        }
    }

    private static func report(_ transaction: UID, _ uids: [UID], _ failures: [Int: UInt16]) -> CommitmentReport {
        CommitmentReport(
            transactionUID: transaction, committed: uids.indices.filter { failures[$0] == nil }.map { uids[$0] },
            failed: failures.map { .init(sopInstanceUID: uids[$0.key], reason: $0.value) })
    }
}
