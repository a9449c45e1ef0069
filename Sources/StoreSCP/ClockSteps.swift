internal import Foundation
internal import Ledger

/// Notices that the wall clock was set: it went on by other than the clock that nobody sets.
struct ClockSteps {
    /// Seconds. More than a clock drifts that is looked after; less than the hour of a wrong time zone.
    static let least: TimeInterval = 900

    private let clock: WallClock
    private var latest: (wall: Date, elapsed: Duration)?

    init(_ clock: WallClock) {
        self.clock = clock
        latest = clock.elapsed.map { (clock.now(), $0()) }
    }

    /// By how many seconds it was set ahead since the last call, below 0: back; 0 where by less than `least`.
    mutating func take() -> TimeInterval {
        guard let before = latest, let elapsed = clock.elapsed?() else { return 0 }
        let now = clock.now()
        latest = (now, elapsed)
        let step = now.timeIntervalSince(before.wall) - (elapsed - before.elapsed).inSeconds
        return abs(step) < Self.least ? 0 : step
    }
}
