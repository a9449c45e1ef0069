internal import Foundation
public import Ledger
public import Logging
internal import Metrics
public import ServiceLifecycle
internal import WorkerProtocol

/// Delivers what is owed, for ever if need be. Deliveries live in the ledger, so that a restart forgets none.
///
/// Every destination has a lane of its own: one that is stuck delays no other.
public actor Outbox: Service {
    /// How attempts are spaced.
    public struct RetryPolicy: Sendable, Equatable {
        public var first: Duration
        public var most: Duration
        /// Given up after that; nil: never.
        public var mostAge: Duration?
        public init(first: Duration = .seconds(5), most: Duration = .seconds(600), mostAge: Duration? = nil) {
            self.first = first
            self.most = most
            self.mostAge = mostAge
        }

        /// Doubling from `first` to `most`.
        /// - Parameter jitter: 0…1; spreads the pause over 80 to 120 %.
        func pause(afterAttempt attempt: Int, jitter: Double) -> TimeInterval {
            min(first.inSeconds * pow(2, Double(min(attempt, 30) - 1)), most.inSeconds) * (0.8 + 0.4 * jitter)
        }
    }

    private static let tick: Duration = .milliseconds(200)

    private let ledger: any Ledger
    private let destinations: [String: any Destination]
    private let policy: RetryPolicy
    private let clock: WallClock
    private let logger: Logger
    private var busy: Set<String> = []
    private let delivered = Counter(label: "ichnode_deliveries_total", dimensions: [("outcome", "delivered")])
    private let failed = Counter(label: "ichnode_deliveries_total", dimensions: [("outcome", "failed")])
    private let dead = Counter(label: "ichnode_deliveries_total", dimensions: [("outcome", "dead")])
    private let depth = Gauge(label: "ichnode_outbox_pending")

    public init(
        ledger: any Ledger, destinations: [any Destination], policy: RetryPolicy, clock: WallClock, logger: Logger
    ) {
        self.ledger = ledger
        self.destinations = Dictionary(uniqueKeysWithValues: destinations.map { ($0.name, $0) })
        self.policy = policy
        self.clock = clock
        self.logger = logger
    }

    /// At the end of service, what is on its way counts as not delivered unless its answer came: it is sent again after
    /// a restart.
    public func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            await withDiscardingTaskGroup { group in
                while !Task.isCancelled {
                    for lane in await dueLanes() { group.addTask { await self.serve(lane) } }
                    do { try await clock.sleep(Self.tick) } catch { return }
                }
            }
        }
    }

    private func dueLanes() async -> [String] {
        do {
            let pending = try await ledger.pendingDestinations()
            depth.record(try await ledger.pendingDeliveryCount())
            let now = clock.now()
            let due = pending.filter { $0.value <= now && !busy.contains($0.key) }.map(\.key)
            busy.formUnion(due)
            return due
        } catch {
            logger.error("outbox cannot read the ledger", metadata: ["error": "\(error)"])
            return []
        }
    }

    private func serve(_ destination: String) async {
        defer { busy.remove(destination) }
        do {
            // One after the other, asked for anew each time: a positive that comes meanwhile goes first.
            while let delivery = try await ledger.dueDeliveries(to: destination, at: clock.now(), limit: 1).first {
                try await attempt(delivery)
            }
        } catch is CancellationError {
        } catch { logger.error("outbox cannot use the ledger", metadata: ["error": "\(error)"]) }
    }

    private func attempt(_ delivery: DeliveryEntry) async throws {
        var delivery = delivery
        delivery.attempts += 1
        // What was asked for before says nothing about what is sent now.
        (delivery.transactionUID, delivery.commitmentAskedAt) = (nil, nil)
        var fates: [UID: ObjectFate] = [:]
        var failure = "no answer for some objects"
        let owed = delivery.objects.filter { $0.state == .pending }.map(\.object)
        if let destination = destinations[delivery.destination] {
            do { fates = try await destination.deliver(owed) } catch { failure = Self.text(error) }
        } else {
            failure = "no peer is named \(delivery.destination): configure it again, and it will be served"
        }
        // An answer that came is recorded even while the node stops; without one the attempt did not happen.
        if fates.isEmpty { try Task.checkCancellation() }
        let problems = apply(fates, to: &delivery)
        settle(&delivery, problems: problems.isEmpty ? [failure] : problems)
        try await ledger.updateDelivery(delivery)
        report(delivery)
    }

    /// - Returns: what was wrong, in words, each once.
    private func apply(_ fates: [UID: ObjectFate], to delivery: inout DeliveryEntry) -> [String] {
        var problems: [String] = []
        for index in delivery.objects.indices {
            switch fates[delivery.objects[index].object.sopInstanceUID] {
            case nil: break
            case .delivered(let status):
                delivery.objects[index].state = .accepted
                delivery.objects[index].status = status
            case .retry(let status, let reason):
                delivery.objects[index].status = status
                problems.append(reason)
            case .refused(let status, let reason):
                delivery.objects[index].state = .dead
                delivery.objects[index].status = status
                problems.append(reason)
            }
        }
        return problems.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    private func settle(_ delivery: inout DeliveryEntry, problems: [String]) {
        if delivery.objects.contains(where: { $0.state == .pending }), isTooOld(delivery) {
            delivery.state = .dead
            delivery.lastError = "too old to be tried again: " + problems.joined(separator: "; ")
            return
        }
        let pause = policy.pause(afterAttempt: delivery.attempts, jitter: .random(in: 0...1))
        // A destination that is not asked for commitment has delivered what it has accepted.
        if destinations[delivery.destination]?.commitment == nil { delivery.takeAcceptedAsDelivered() }
        delivery.settle(at: clock.now(), nextAttemptAfter: pause, problems: problems)
    }

    private func isTooOld(_ delivery: DeliveryEntry) -> Bool {
        guard let mostAge = policy.mostAge else { return false }
        return clock.now().timeIntervalSince(delivery.createdAt) > mostAge.inSeconds
    }

    private func report(_ delivery: DeliveryEntry) {
        let metadata: Logger.Metadata = [
            "study.uid": "\(delivery.studyInstanceUID)", "destination": "\(delivery.destination)",
            "attempt": "\(delivery.attempts)", "error": "\(delivery.lastError ?? "")",
        ]
        switch delivery.state {
        case .delivered:
            delivered.increment()
            logger.notice("results delivered", metadata: metadata)
        case .accepted: logger.info("results accepted, commitment is asked for", metadata: metadata)
        case .pending:
            failed.increment()
            logger.warning("delivery failed, will be tried again", metadata: metadata)
        case .dead:
            dead.increment()
            logger.error("results refused for good", metadata: metadata)
        case .superseded, .discarded: break
        }
    }

    private static func text(_ error: any Error) -> String { (error as? WorkerError)?.reason ?? "\(error)" }
}
