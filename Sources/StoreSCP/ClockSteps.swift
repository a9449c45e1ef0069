internal import Foundation
internal import Ledger

/// Notices that the wall clock was set: it went on by other than the clock that nobody sets.
struct ClockSteps {
    private let clock: WallClock
    /// Seconds.
    private let least: TimeInterval
    private var latest: (wall: Date, elapsed: Duration)?

    init(_ clock: WallClock, least: TimeInterval) {
        self.clock = clock
        self.least = least
        latest = clock.elapsed.map { (wall: clock.now(), elapsed: $0()) }
    }

    /// - Returns: what it says, and by how many seconds it was set ahead since the last call, below 0: back; 0 where by
    ///   less than `least`.
    mutating func take() -> (now: Date, step: TimeInterval) {
        guard let before = latest, let elapsed = clock.elapsed?() else { return (clock.now(), 0) }
        let now = clock.now()
        latest = (wall: now, elapsed: elapsed)
        let step = now.timeIntervalSince(before.wall) - (elapsed - before.elapsed).inSeconds
        return (now, abs(step) < least ? 0 : step)
    }
}

/// Whether the clock may be wrong that says what is old: a time service sets one right within minutes that is wrong at
/// boot, or was set wrong.
struct ClockDoubt {
    static let pause: TimeInterval = 600
    /// Seconds. More than a clock drifts that is looked after; less than the hour of a wrong time zone.
    private static let leastStep: TimeInterval = 900

    private var steps: ClockSteps
    private var end: Date

    /// - Parameter latestArrival: at the start of the node.
    init(_ clock: WallClock, latestArrival: Date?) {
        steps = ClockSteps(clock, least: Self.leastStep)
        let now = clock.now()
        let isFarAhead = latestArrival.map { now.timeIntervalSince($0) >= Self.leastStep } ?? false
        end = isFarAhead ? now + Self.pause : .distantPast
    }

    /// - Returns: whether it was set ahead since the last call.
    mutating func look() -> Bool {
        let (now, step) = steps.take()
        // One that is set back is set right.
        if step != 0 { end = step > 0 ? now + Self.pause : .distantPast }
        return step > 0
    }

    func holds(at now: Date) -> Bool { now < end }
}
