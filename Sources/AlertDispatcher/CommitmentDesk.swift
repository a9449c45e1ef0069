internal import Foundation
public import Ledger
public import Logging
internal import Metrics
public import ServiceLifecycle
public import WorkerProtocol

/// Asks destinations for storage commitment of what they have accepted, and takes their reports. What fails, and what
/// nobody reports on in time, goes back to the outbox.
///
/// One request at a time for each destination: one that is stuck delays no other, and no delivery.
public actor CommitmentDesk: Service {
    private static let tick: Duration = .milliseconds(200)

    private let ledger: any Ledger
    private let currentDestinations: @Sendable () -> [any Destination]
    private let currentPolicy: @Sendable () -> Outbox.RetryPolicy
    private let clock: WallClock
    private let logger: Logger
    private var busy: Set<String> = []
    /// Requests that failed in a row, by destination.
    private var failures: [String: Int] = [:]
    private let delivered = Counter(label: "ichnode_deliveries_total", dimensions: [("outcome", "delivered")])
    private let failed = Counter(label: "ichnode_commitments_failed_total")
    private let depth = Gauge(label: "ichnode_outbox_uncommitted")

    /// - Parameter destinations: asked for at each request, as is the policy: they may change.
    public init(
        ledger: any Ledger, destinations: @escaping @autoclosure @Sendable () -> [any Destination],
        policy: @escaping @autoclosure @Sendable () -> Outbox.RetryPolicy, clock: WallClock, logger: Logger
    ) {
        self.ledger = ledger
        currentDestinations = destinations
        currentPolicy = policy
        self.clock = clock
        self.logger = logger
    }

    private var policy: Outbox.RetryPolicy { currentPolicy() }

    /// At the end of service, a request on its way counts as not made unless its answer came.
    public func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            await withDiscardingTaskGroup { group in
                while !Task.isCancelled {
                    for delivery in await due() { group.addTask { await self.serve(delivery) } }
                    do { try await clock.sleep(Self.tick) } catch { return }
                }
            }
        }
    }

    private func due() async -> [DeliveryEntry] {
        do {
            depth.record(try await ledger.uncommittedDeliveryCount())
            let now = clock.now()
            let due = try await ledger.dueCommitments(at: now, latest: now + policy.longestPause)
            return due.filter { busy.insert($0.destination).inserted }
        } catch is CancellationError { return [] } catch {
            logger.error("ledger cannot be read for commitment", metadata: ["error": "\(error)"])
            return []
        }
    }

    private func serve(_ delivery: DeliveryEntry) async {
        defer { busy.remove(delivery.destination) }
        do {
            if delivery.commitmentAskedAt != nil, let transaction = delivery.transactionUID {
                try await giveUp(transaction)
            } else {
                try await ask(delivery)
            }
        } catch is CancellationError {
        } catch { logger.error("ledger cannot be used for commitment", metadata: ["error": "\(error)"]) }
    }

    // MARK: Asking

    private func ask(_ delivery: DeliveryEntry) async throws {
        let transaction = UID.random()
        guard try await ledger.beginCommitment(ofDelivery: delivery.id, under: transaction) else { return }
        guard let destination = currentDestinations().first(where: { $0.name == delivery.taker }) else {
            let name = delivery.taker
            return try await postpone(transaction, name, "no peer is named \(name): configure it again")
        }
        guard let commitment = destination.commitment else { return try await dispense(transaction) }
        let owed = delivery.objects.filter { $0.state == .accepted }.map(\.object)
        do {
            let report = try await commitment.request(owed, under: transaction)
            failures[destination.name] = nil
            try await asked(transaction, commitment.timeout)
            if let report { _ = try await record(report) }
        } catch let error as WorkerError {
            try Task.checkCancellation()
            try await postpone(transaction, destination.name, error.reason)
        }
    }

    private func asked(_ transaction: UID, _ timeout: Duration) async throws {
        let now = clock.now()
        _ = try await ledger.changeDelivery(under: transaction) {
            $0.commitmentAskedAt = now
            $0.nextAttemptAt = now + timeout.inSeconds
            // That it takes the request mends no more than that it accepted.
            if $0.lastError != DeliveryEntry.unreported { $0.lastError = nil }
        }
    }

    private func postpone(_ transaction: UID, _ destination: String, _ reason: String) async throws {
        failures[destination, default: 0] += 1
        let next =
            clock.now() + policy.pause(afterAttempt: failures[destination] ?? 1, jitter: .random(in: 0...1))
        let changed = try await ledger.changeDelivery(under: transaction) {
            $0.nextAttemptAt = next
            $0.lastError = reason
        }
        guard let changed, changed.isChanged else { return }
        failed.increment()
        logger.warning("commitment cannot be asked for, will be tried again", metadata: Self.metadata(changed.delivery))
    }

    /// The destination is not asked any more.
    private func dispense(_ transaction: UID) async throws {
        let now = clock.now()
        let changed = try await ledger.changeDelivery(under: transaction) {
            $0.transactionUID = nil
            $0.takeAcceptedAsDelivered()
            $0.settle(at: now, nextAttemptAfter: 0)
        }
        report(changed)
    }

    /// No report came: all is sent again.
    private func giveUp(_ transaction: UID) async throws {
        let now = clock.now()
        let changed = try await ledger.changeDelivery(under: transaction) { delivery in
            for index in delivery.objects.indices where delivery.objects[index].state == .accepted {
                delivery.objects[index].state = .pending
            }
            delivery.settle(at: now, nextAttemptAfter: 0, because: DeliveryEntry.unreported)
        }
        report(changed)
    }

    // MARK: Reports

    /// Of a peer, on whatever association. Recorded when this returns.
    public func take(_ report: CommitmentReport) async -> CommitmentAnswer {
        do { return try await record(report) ? .recorded : .unknown } catch {
            logger.error("report of commitment cannot be recorded", metadata: ["error": "\(error)"])
            return .failed
        }
    }

    /// - Returns: false where nothing was asked under its transaction.
    private func record(_ report: CommitmentReport) async throws -> Bool {
        let (now, policy) = (clock.now(), policy)
        let changed = try await ledger.changeDelivery(under: report.transactionUID) { delivery in
            delivery.apply(report)
            // Asked before the response came, or before the node was killed.
            delivery.commitmentAskedAt = delivery.commitmentAskedAt ?? now
            let pause = policy.pause(afterAttempt: delivery.attempts, jitter: .random(in: 0...1))
            delivery.settle(at: now, nextAttemptAfter: pause)
        }
        self.report(changed)
        return changed != nil
    }

    private func report(_ changed: (delivery: DeliveryEntry, isChanged: Bool)?) {
        // Peers repeat what they do not see answered.
        guard let changed, changed.isChanged else { return }
        let metadata = Self.metadata(changed.delivery)
        switch changed.delivery.state {
        case .delivered:
            delivered.increment()
            logger.notice("results delivered", metadata: metadata)
        case .pending:
            failed.increment()
            logger.warning("results not committed, will be sent again", metadata: metadata)
        case .dead:
            failed.increment()
            logger.error("commitment refused for good", metadata: metadata)
        case .accepted, .superseded, .discarded: break
        }
    }

    private static func metadata(_ delivery: DeliveryEntry) -> Logger.Metadata {
        [
            "study.uid": "\(delivery.studyInstanceUID?.string ?? "-")", "destination": "\(delivery.destination)",
            "transaction.uid": "\(delivery.transactionUID?.string ?? "")", "error": "\(delivery.lastError ?? "")",
        ]
    }
}
