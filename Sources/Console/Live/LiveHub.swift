internal import Foundation
internal import Ledger
internal import ServiceLifecycle
internal import Synchronization
internal import WorkerProtocol

/// What a page can follow: `studies`, `study:<Study Instance UID>`, `deliveries`, `alerts`.
enum LiveTopic: Hashable, Sendable {
    case studies
    case study(UID)
    case deliveries, alerts

    init?(_ text: String) {
        switch text {
        case "studies": self = .studies
        case "deliveries": self = .deliveries
        case "alerts": self = .alerts
        default:
            guard text.hasPrefix("study:"), let uid = UID(String(text.dropFirst("study:".count))) else { return nil }
            self = .study(uid)
        }
    }

    var text: String {
        switch self {
        case .studies: "studies"
        case .study(let uid): "study:\(uid.string)"
        case .deliveries: "deliveries"
        case .alerts: "alerts"
        }
    }
}

/// The one watcher of the ledger, for all who look at pages: gathers what changed, and tells each stream at most once a
/// second that something did of what it follows, never what.
///
/// A stream holds the topics that it has yet to be told and nothing else: it cannot grow, however slow its reader is.
final class LiveHub: Sendable {
    struct Limits: Sendable {
        var streams = 512
        var topics = 8
        /// Between two rounds of news. With many streams it is longer: receiving has priority over looking.
        var pause: Duration = .seconds(1)
        var pausePerStream: Duration = .milliseconds(20)
        /// Between two signs of life. A stream that did not take the one before by then is dropped.
        var heartbeat: Duration = .seconds(15)
    }

    /// One reader's.
    struct Stream: Sendable {
        fileprivate let id: Int
        /// Something is to be written; ends when the node stops.
        let signals: AsyncStream<Void>
        /// Ends when the reader is too slow.
        let isKept: AsyncStream<Void>
    }

    private struct Follower {
        var topics: Set<LiveTopic>
        var news: Set<LiveTopic> = []
        /// A sign of life was given that it has not taken yet.
        var isBehind = false
        var signal: AsyncStream<Void>.Continuation
        var kept: AsyncStream<Void>.Continuation
    }

    private struct State {
        var followers: [Int: Follower] = [:]
        var next = 0
        var changes: Set<LedgerChange> = []
        /// Of what was told; nil while nothing watches.
        var version: Int?
        var isClosed = false
    }

    let limits: Limits
    private let ledger: any Ledger
    private let clock: WallClock
    private let state = Mutex(State())
    private let (changed, change) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))

    init(ledger: any Ledger, clock: WallClock, limits: Limits = Limits()) {
        self.ledger = ledger
        self.clock = clock
        self.limits = limits
    }

    /// Watches until it is cancelled or closed.
    func run() async {
        let observation = ledger.observeChanges { [weak self] in self?.take($0) }
        state.withLock { $0.version = 0 }
        await withTaskGroup { group in
            group.addTask { await self.tell() }
            group.addTask { await self.beat() }
            await group.next()
            group.cancelAll()
        }
        withExtendedLifetime(observation) { state.withLock { $0.version = nil } }
    }

    /// Ends all streams at once; none is opened any more.
    func close() {
        let followers = state.withLock { state in
            state.isClosed = true
            return state.followers.values
        }
        for follower in followers { follower.signal.finish() }
        change.finish()
    }

    /// Which news a rendering is of: one of the same version need not be made again. nil: nobody would tell.
    var version: Int? { state.withLock(\.version) }

    private func take(_ changes: Set<LedgerChange>) {
        state.withLock { $0.changes.formUnion(changes) }
        change.yield()
    }

    private func tell() async {
        for await _ in changed {
            let streams = tellOnce()
            do { try await clock.sleep(max(limits.pause, limits.pausePerStream * streams)) } catch { return }
        }
    }

    /// - Returns: how many streams there are.
    private func tellOnce() -> Int {
        let (signals, count) = state.withLock { state in
            let topics = Self.topics(state.changes)
            state.changes = []
            state.version = state.version.map { $0 + 1 }
            var signals: [AsyncStream<Void>.Continuation] = []
            for (id, follower) in state.followers {
                let news = follower.topics.intersection(topics)
                guard !news.isEmpty else { continue }
                state.followers[id]?.news.formUnion(news)
                signals.append(follower.signal)
            }
            return (signals, state.followers.count)
        }
        for signal in signals { signal.yield() }
        return count
    }

    private func beat() async {
        while !Task.isCancelled {
            do { try await clock.sleep(limits.heartbeat) } catch { return }
            let (signals, slow) = state.withLock { state in
                let slow = state.followers.values.filter(\.isBehind).map(\.kept)
                for id in state.followers.keys { state.followers[id]?.isBehind = true }
                return (state.followers.values.map(\.signal), slow)
            }
            for kept in slow { kept.finish() }
            for signal in signals { signal.yield() }
        }
    }

    static func topics(_ changes: Set<LedgerChange>) -> Set<LiveTopic> {
        var topics: Set<LiveTopic> = []
        for change in changes {
            switch change {
            case .study(let uid): topics.formUnion([.studies, .study(uid)])
            case .deliveries: topics.insert(.deliveries)
            case .alerts: topics.insert(.alerts)
            }
        }
        return topics
    }

    // MARK: Streams

    var hasRoom: Bool { state.withLock { !$0.isClosed && $0.followers.count < limits.streams } }

    /// - Returns: nil where there are too many, or the node stops.
    func open(_ topics: Set<LiveTopic>) -> Stream? {
        let (signals, signal) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        let (isKept, kept) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        return state.withLock { state in
            guard !state.isClosed && state.followers.count < limits.streams else { return nil }
            state.next += 1
            state.followers[state.next] = Follower(topics: topics, signal: signal, kept: kept)
            return Stream(id: state.next, signals: signals, isKept: isKept)
        }
    }

    /// What is to be told now; empty: that it still lives.
    func news(for stream: Stream) -> [LiveTopic] {
        state.withLock { state in
            defer { state.followers[stream.id]?.news = [] }
            return state.followers[stream.id]?.news.sorted { $0.text < $1.text } ?? []
        }
    }

    /// The reader has taken what was told last.
    func wasTaken(by stream: Stream) { state.withLock { $0.followers[stream.id]?.isBehind = false } }

    func close(_ stream: Stream) { state.withLock { _ = $0.followers.removeValue(forKey: stream.id) } }

    var streamCount: Int { state.withLock { $0.followers.count } }
}
