internal import Foundation
internal import Synchronization
internal import Ledger
internal import WorkerProtocol

/// Slows guessing down without a password being worked out: pauses for a user from an address, for an address, and a
/// rate for all. A user's earlier address knows only the first, so that nobody locks them out from elsewhere.
final class SignInLimiter: Sendable {
    private struct Failures {
        var count = 0
        var last = Date.distantPast
        var until = Date.distantPast
    }

    private struct Pair: Hashable {
        var user: String
        var address: String
    }

    private struct State {
        var pairs: [Pair: Failures] = [:]
        var addresses: [String: Failures] = [:]
        /// Where a user has signed in, and when last.
        var known: [Pair: Date] = [:]
        /// Tries of the minute that its rate counts, by whom: of addresses that were not known.
        var minute = Int.min
        var inMinute: [Pair: Int] = [:]
    }

    /// Wrong passwords of all users together that are worked out in a minute.
    static let mostInMinute = 60
    /// Of one address, whatever the user.
    static let mostOfAddress = 20
    static let mostRemembered = 10_000
    private static let mostKnown = 1000
    /// After so long without a wrong password, counting begins anew.
    private static let memory: TimeInterval = 3600
    /// Unicode scalars: one Character may have any number of them.
    private static let mostNameScalars = 128

    private let current: @Sendable () -> ConsoleSettings.LockOut
    /// As of now: it may change.
    private var settings: ConsoleSettings.LockOut { current() }
    private let clock: WallClock
    private let state = Mutex(State())

    init(_ settings: @escaping @autoclosure @Sendable () -> ConsoleSettings.LockOut, clock: WallClock) {
        current = settings
        self.clock = clock
    }

    /// Counts the try as a wrong one until `succeeded` or `withdraw` says otherwise, so that many at once get no more.
    /// - Returns: for how many seconds no password is looked at; nil: this one is.
    func begin(_ user: String, _ address: String) -> Double? {
        let pair = Self.pair(user, address)
        let now = clock.now()
        return state.withLock { state in
            let isKnown = state.known[pair] != nil
            var until = state.pairs[pair]?.until ?? .distantPast
            if !isKnown { until = max(until, state.addresses[pair.address]?.until ?? .distantPast) }
            if until > now { return until.timeIntervalSince(now) }
            if !isKnown {
                let minute = Int((now.timeIntervalSince1970 / 60).rounded(.down))
                if minute != state.minute { (state.minute, state.inMinute) = (minute, [:]) }
                guard state.inMinute.values.reduce(0, +) < Self.mostInMinute else {
                    return 60 - now.timeIntervalSince1970.truncatingRemainder(dividingBy: 60)
                }
                state.inMinute[pair, default: 0] += 1
            }
            Self.makeRoom(&state.pairs, now)
            Self.makeRoom(&state.addresses, now)
            count(&state.pairs[pair, default: Failures()], settings.tries, now)
            count(&state.addresses[pair.address, default: Failures()], Self.mostOfAddress, now)
            return nil
        }
    }

    func succeeded(_ user: String, _ address: String) {
        let pair = Self.pair(user, address)
        let now = clock.now()
        state.withLock { state in
            if state.known.count >= Self.mostKnown, let oldest = state.known.min(by: { $0.value < $1.value }) {
                state.known[oldest.key] = nil
            }
            state.known[pair] = now
            state.pairs[pair] = nil
            takeBack(&state, pair)
        }
    }

    /// Nothing was compared.
    func withdraw(_ user: String, _ address: String) {
        let pair = Self.pair(user, address)
        state.withLock { state in
            Self.takeBack(&state.pairs, pair, settings.tries)
            takeBack(&state, pair)
        }
    }

    var remembered: Int { state.withLock { max($0.pairs.count, $0.addresses.count) } }

    private func takeBack(_ state: inout State, _ pair: Pair) {
        Self.takeBack(&state.addresses, pair.address, Self.mostOfAddress)
        if let raised = state.inMinute[pair] { state.inMinute[pair] = raised > 1 ? raised - 1 : nil }
    }

    private static func takeBack<Key>(_ table: inout [Key: Failures], _ key: Key, _ tries: Int) {
        guard var failures = table[key] else { return }
        failures.count -= 1
        if failures.count < tries { failures.until = .distantPast }
        table[key] = failures.count > 0 ? failures : nil
    }

    private func count(_ failures: inout Failures, _ tries: Int, _ now: Date) {
        if now.timeIntervalSince(failures.last) > Self.memory { failures = Failures() }
        failures.count += 1
        failures.last = now
        guard failures.count >= tries else { return }
        let pause = settings.firstSeconds * pow(2, Double(min(failures.count - tries, 30)))
        failures.until = now.addingTimeInterval(min(pause, settings.mostSeconds))
    }

    private static func makeRoom<Key>(_ table: inout [Key: Failures], _ now: Date) {
        guard table.count >= mostRemembered else { return }
        table = table.filter { now.timeIntervalSince($0.value.last) <= memory }
        guard table.count >= mostRemembered else { return }
        // A tenth at once: not a search for each.
        for (key, _) in table.sorted(by: { $0.value.last < $1.value.last }).prefix(mostRemembered / 10) {
            table[key] = nil
        }
    }

    private static func pair(_ user: String, _ address: String) -> Pair {
        Pair(
            user: String(user.unicodeScalars.prefix(mostNameScalars)), address: ClientAddress.network(of: address))
    }
}
