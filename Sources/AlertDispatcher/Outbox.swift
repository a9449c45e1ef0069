public import Foundation
public import Ledger
public import Logging
internal import Metrics
public import ServiceLifecycle
public import WorkerProtocol

/// Delivers what is owed, for ever if need be. Deliveries live in the ledger, so that a restart forgets none.
///
/// Every destination has a lane of its own: one that is stuck delays no other. Within a lane urgency and then age give
/// the order, also after days without an answer.
public actor Outbox: Service {
    /// Is told what became of objects that were handed over. Quick.
    public typealias Audit = @Sendable (DeliveryAttempt) -> Void

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

        /// Seconds.
        var longestPause: TimeInterval { most.inSeconds * 1.2 }
    }

    private static let tick: Duration = .milliseconds(200)
    /// Attempts of one delivery without an answer, after which others go before it.
    private static let mostSilences = 3
    /// How much longer than its lane such a delivery waits, so that others come first; seconds.
    private static let mostOwnPause = 60.0
    /// Longest pause between tries to record what became of a delivery.
    private static let mostRecordingPause: Duration = .seconds(60)

    private let ledger: any Ledger
    private let currentDestinations: @Sendable () -> [any Destination]
    private let currentPolicy: @Sendable () -> RetryPolicy
    private let clock: WallClock
    private let currentAudit: @Sendable () -> Audit
    private let logger: Logger
    private var busy: Set<String> = []
    private var ways: [Way: Blockage] = [:]
    /// Calls of `reopen`.
    private var reopenings = 0
    /// By taker.
    private var answers: [String: Date] = [:]
    private let delivered = Counter(label: "ichnode_deliveries_total", dimensions: [("outcome", "delivered")])
    private let failed = Counter(label: "ichnode_deliveries_total", dimensions: [("outcome", "failed")])
    private let dead = Counter(label: "ichnode_deliveries_total", dimensions: [("outcome", "dead")])
    private let depth = Gauge(label: "ichnode_outbox_pending")
    private var flags = FlagTimes()
    public nonisolated let pulse = Pulse()

    /// - Parameters:
    ///   - destinations: asked for at each attempt, which goes on with what it began with: they may change, as may the
    ///     policy.
    ///   - audit: of these destinations.
    public init(
        ledger: any Ledger, destinations: @escaping @autoclosure @Sendable () -> [any Destination],
        policy: @escaping @autoclosure @Sendable () -> RetryPolicy, clock: WallClock,
        audit: @escaping @Sendable () -> Audit = { { _ in } }, logger: Logger
    ) {
        self.ledger = ledger
        currentDestinations = destinations
        currentPolicy = policy
        self.clock = clock
        currentAudit = audit
        self.logger = logger
    }

    private var destinations: [String: any Destination] {
        Dictionary(uniqueKeysWithValues: currentDestinations().map { ($0.name, $0) })
    }
    private var policy: RetryPolicy { currentPolicy() }

    /// No delivery is put off for longer.
    private func latest(_ now: Date) -> Date { now + policy.longestPause + Self.mostOwnPause }

    /// Destinations have changed: what could not be reached is tried at once, also where an attempt that is under way
    /// fails.
    public func reopen() {
        reopenings += 1
        let now = clock.now()
        for way in ways.keys { ways[way]?.pausedUntil = now }
    }

    /// At the end of service, what is on its way counts as not delivered unless its answer came: it is sent again after
    /// a restart.
    public func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            await withDiscardingTaskGroup { group in
                while !Task.isCancelled {
                    for lane in await dueLanes() { group.addTask { await self.serve(lane) } }
                    pulse.beat()
                    do { try await clock.sleep(Self.tick) } catch { return }
                }
            }
        }
    }

    private func dueLanes() async -> [String] {
        do {
            let (now, known) = (clock.now(), destinations)
            let pending = try await ledger.pendingLanes(at: now, latest: latest(now))
            depth.record(try await ledger.pendingDeliveryCount())
            // Nothing is owed any more to what was taken out of the configuration.
            ways = ways.filter { pending[$0.key.lane] != nil || known[$0.key.lane] != nil }
            let due = pending.filter { name, lane in
                guard lane.due <= now, !busy.contains(name) else { return false }
                // Something new is tried at once: its destination may be back.
                let own = Way(of: name, to: name)
                if lane.untried > ways[own]?.untried ?? 0 { ways[own]?.pausedUntil = now }
                return isOpen(own) || openFallback(of: name) != nil
            }
            busy.formUnion(due.keys)
            return Array(due.keys)
        } catch is CancellationError { return [] } catch {
            logger.error("outbox cannot read the ledger", metadata: ["error": "\(error)"])
            return []
        }
    }

    private func serve(_ lane: String) async {
        defer { busy.remove(lane) }
        do {
            // One after the other, asked for anew each time: a positive that comes meanwhile goes first.
            while isOpen(Way(of: lane, to: lane)) || openFallback(of: lane) != nil,
                let delivery = try await firstDue(to: lane)
            {
                try await attempt(delivery)
            }
            // What waits now is known; what comes later is new.
            let now = clock.now()
            let untried = try await ledger.pendingLanes(at: now, latest: latest(now))[lane]?.untried ?? 0
            // Not in one line: other lanes use the dictionary while this one waits.
            ways[Way(of: lane, to: lane)]?.untried = untried
        } catch is CancellationError {
        } catch { logger.error("outbox cannot use the ledger", metadata: ["error": "\(error)"]) }
    }

    private func firstDue(to lane: String) async throws -> DeliveryEntry? {
        let now = clock.now()
        return try await ledger.dueDeliveries(to: lane, at: now, latest: latest(now), limit: 1).first
    }

    private func attempt(_ delivery: DeliveryEntry) async throws {
        var delivery = delivery
        let wasOwed = delivery.objects.first?.state == .pending
        let isUnreported =
            delivery.lastError == DeliveryEntry.unreported && delivery.attempts > DeliveryEntry.mostUnreported
        delivery.attempts += 1
        // What was asked for before says nothing about what is sent now.
        if delivery.message == nil { (delivery.transactionUID, delivery.commitmentAskedAt) = (nil, nil) }
        let own = Way(of: delivery.destination, to: delivery.destination)
        var isAnswered = false
        if isOpen(own) { isAnswered = try await attempt(&delivery, by: own) }
        if !isAnswered, let fallback = openFallback(of: own.lane) {
            _ = try await attempt(&delivery, by: Way(of: own.lane, to: fallback))
        }
        // That it is accepted again mends nothing.
        if isUnreported && delivery.state == .accepted { delivery.lastError = DeliveryEntry.unreported }
        try await record(delivery)
        report(delivery)
        if wasOwed && delivery.hasTakenFirst { await noteFlag(delivery) }
    }

    /// Tried until the ledger takes it, and nothing else is sent in the lane before: what is not recorded would be sent
    /// again and again.
    private func record(_ delivery: DeliveryEntry) async throws {
        var pause: Duration = .seconds(1)
        while true {
            // In a task of its own: for one that is cancelled the ledger does nothing, and the answer has come.
            do { return try await Task { [ledger] in try await ledger.updateDelivery(delivery) }.value } catch {
                try Task.checkCancellation()
                logger.error(
                    "delivery cannot be recorded; its destination waits",
                    metadata: ["destination": "\(delivery.destination)", "error": "\(error)"])
            }
            try await clock.sleep(pause)
            pause = min(pause * 2, Self.mostRecordingPause)
        }
    }

    private func noteFlag(_ delivery: DeliveryEntry) async {
        do {
            guard let flag = try await FlagTimes.flag(ofReportIn: delivery, ledger) else { return }
            flags.note(flag, at: clock.now())
        } catch { logger.warning("a time to flag is not measured", metadata: ["error": "\(error)"]) }
    }

    /// - Returns: whether there was an answer.
    private func attempt(_ delivery: inout DeliveryEntry, by way: Way) async throws -> Bool {
        let reopeningsBefore = reopenings
        do {
            try await hand(&delivery, to: way.taker)
            ways[way] = nil
            answers[way.taker] = clock.now()
            return true
        } catch {
            // An answer that came is recorded even while the node stops; without one the attempt did not happen.
            try Task.checkCancellation()
            if !(error is Unreachable) { noteHearing(&delivery) }
            // It began with a destination as it was, which says nothing about the destination as it is.
            guard reopenings == reopeningsBefore else {
                postpone(&delivery, 0, because: Self.text(error))
                return false
            }
            pause(way, because: Self.text(error))
            // It stays the first of its lane, unless the others may fare better without it.
            let isItsOwnFault = !(error is Unreachable) && delivery.attempts > Self.mostSilences
            let reopens = ways[way]?.pausedUntil.timeIntervalSince(clock.now()) ?? 0
            let own = reopens + min(pause(of: delivery), Self.mostOwnPause)
            postpone(&delivery, isItsOwnFault ? own : 0, because: Self.text(error))
            return false
        }
    }

    /// - Throws: where no answer came; the delivery is as it was.
    private func hand(_ delivery: inout DeliveryEntry, to taker: String) async throws {
        let audit = currentAudit()
        guard let destination = destinations[taker] else {
            throw Unreachable("no destination is named \(taker): configure it again, and it will be served")
        }
        if let message = delivery.message {
            let fate = try await timed(taker) { try await destination.deliver(message) }
            noteHearing(&delivery)
            take(fate, of: &delivery)
            return
        }
        // All of a study's objects go to one taker.
        let isMoving = taker != delivery.taker
        let outstanding = delivery.objects.filter { $0.state == .pending || isMoving && $0.state != .dead }
        let owed = Self.order(outstanding.map(\.object), of: delivery)
        let fates = try await timed(taker) { try await destination.deliver(owed) }
        // What is about the node itself has no objects.
        if let study = delivery.studyInstanceUID { audit(DeliveryAttempt(study, to: taker, owed, fates)) }
        if fates.isEmpty { throw WorkerError(.failed, "no answer for any object") }
        for index in delivery.objects.indices where isMoving && delivery.objects[index].state != .dead {
            delivery.objects[index].state = .pending
        }
        delivery.takenBy = taker == delivery.destination ? nil : taker
        delivery.apply(fates, taken: .accepted)
        // A destination that is not asked for commitment has delivered what it has accepted.
        if destination.commitment == nil { delivery.takeAcceptedAsDelivered() }
        // After a refusal there is something else to try at once.
        let wasRefused = fates.values.contains { if case .refused = $0 { true } else { false } }
        postpone(&delivery, wasRefused ? 0 : pause(of: delivery))
    }

    /// Once the report is there: an object at which the association always ends would hold back those after it. After a
    /// few attempts each begins with another one.
    private static func order(_ owed: [ComposedObject], of delivery: DeliveryEntry) -> [ComposedObject] {
        let isReportThere = owed.first != delivery.objects.first?.object
        guard owed.count > 1, isReportThere, delivery.attempts > mostSilences else { return owed }
        let first = delivery.attempts % owed.count
        return Array(owed[first...] + owed[..<first])
    }

    /// Its receiver may have the message.
    private func noteHearing(_ delivery: inout DeliveryEntry) {
        guard delivery.message != nil, delivery.isUnheard else { return }
        delivery.commitmentAskedAt = clock.now()
    }

    private func take(_ fate: MessageFate, of delivery: inout DeliveryEntry) {
        switch fate {
        case .delivered:
            (delivery.state, delivery.deliveredAt, delivery.lastError) = (.delivered, clock.now(), nil)
        case .retry(let reason): postpone(&delivery, pause(of: delivery), because: reason)
        case .refused(let reason): (delivery.state, delivery.lastError) = (.dead, reason)
        }
    }

    private func timed<R: Sendable>(_ destination: String, _ body: () async throws -> R) async throws -> R {
        let time = Metrics.Timer(label: "ichnode_delivery_seconds", dimensions: [("destination", destination)])
        let begun = ContinuousClock.now
        defer { time.record(duration: begun.duration(to: .now)) }
        return try await body()
    }

    // MARK: Ways

    /// How one lane's deliveries get to a taker: the destination itself, or its fallback.
    private struct Way: Hashable {
        var lane: String
        var taker: String
        init(of lane: String, to taker: String) {
            self.lane = lane
            self.taker = taker
        }
    }

    /// A way on which nothing gets through.
    private struct Blockage {
        var since: Date
        var attempts = 0
        var pausedUntil: Date
        var reason: String
        /// Of the deliveries that wait, those that were never tried.
        var untried = Int.max
    }

    /// Destinations that nothing reaches, not counting their fallbacks: since when, and why.
    public var blocked: [String: (since: Date, reason: String)] {
        Dictionary(
            uniqueKeysWithValues: ways.filter { $0.key.lane == $0.key.taker }.map {
                ($0.key.lane, ($0.value.since, $0.value.reason))
            })
    }

    /// Of all destinations, not counting their fallbacks.
    public var reach: [String: DestinationReach] {
        Dictionary(
            uniqueKeysWithValues: Set(destinations.keys).union(blocked.keys).map { name in
                let blockage = ways[Way(of: name, to: name)].map {
                    DestinationReach.Blockage(
                        since: $0.since, attempts: $0.attempts, nextAttemptAt: $0.pausedUntil, reason: $0.reason)
                }
                return (name, DestinationReach(lastAnswerAt: answers[name], blockage: blockage))
            })
    }

    private func isOpen(_ way: Way) -> Bool {
        guard let until = ways[way]?.pausedUntil else { return true }
        let now = clock.now()
        // It was paused by a clock that has been set back since.
        return until <= now || until > now + policy.longestPause
    }

    /// The fallback of a destination that has been out of reach for long enough.
    private func openFallback(of lane: String) -> String? {
        guard let fallback = destinations[lane]?.fallback, let blockage = ways[Way(of: lane, to: lane)],
            clock.now().timeIntervalSince(blockage.since) >= fallback.after.inSeconds,
            isOpen(Way(of: lane, to: fallback.name))
        else { return nil }
        return fallback.name
    }

    private func pause(_ way: Way, because reason: String) {
        let now = clock.now()
        var blockage = ways[way] ?? Blockage(since: now, pausedUntil: now, reason: reason)
        blockage.attempts += 1
        blockage.reason = reason
        // Where the clock has been set back.
        blockage.since = min(blockage.since, now)
        blockage.pausedUntil =
            now + policy.pause(afterAttempt: blockage.attempts, jitter: .random(in: 0...1))
        ways[way] = blockage
    }

    // MARK: Outcome

    private func pause(of delivery: DeliveryEntry) -> TimeInterval {
        policy.pause(afterAttempt: delivery.attempts, jitter: .random(in: 0...1))
    }

    /// Until after a pause; given up where it is too old, done where nothing is left.
    /// - Parameter reason: nil where each object has its own.
    private func postpone(_ delivery: inout DeliveryEntry, _ pause: TimeInterval, because reason: String? = nil) {
        let now = clock.now()
        if delivery.message == nil {
            delivery.settle(at: now, nextAttemptAfter: pause, because: reason)
        } else {
            (delivery.nextAttemptAt, delivery.lastError) = (now + pause, reason)
        }
        if delivery.state == .pending && isTooOld(delivery) {
            delivery.state = .dead
            delivery.lastError = "too old to be tried again: \(delivery.lastError ?? "")"
        }
    }

    private func isTooOld(_ delivery: DeliveryEntry) -> Bool {
        guard let mostAge = policy.mostAge else { return false }
        return clock.now().timeIntervalSince(delivery.createdAt) > mostAge.inSeconds
    }

    private func report(_ delivery: DeliveryEntry) {
        let metadata: Logger.Metadata = [
            "study.uid": "\(delivery.studyInstanceUID?.string ?? "-")", "destination": "\(delivery.destination)",
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
