internal import CLinux
public import Foundation

/// Time of day, and waiting. Tests inject their own.
public struct WallClock: Sendable {
    public var now: @Sendable () -> Date
    public var sleep: @Sendable (Duration) async throws -> Void

    /// What has passed, in whole seconds, by a clock that nobody sets, and that goes on while the machine is suspended;
    /// nil: there is none to compare with.
    public var elapsed: (@Sendable () -> Duration)?

    public init(
        now: @escaping @Sendable () -> Date, sleep: @escaping @Sendable (Duration) async throws -> Void,
        elapsed: (@Sendable () -> Duration)? = nil
    ) {
        self.now = now
        self.sleep = sleep
        self.elapsed = elapsed
    }

    public static let system = WallClock(
        now: { Date() }, sleep: { try await Task.sleep(for: $0) }, elapsed: { .seconds(clinux_uptime()) })
}

extension Duration {
    /// Seconds with fraction.
    package var inSeconds: TimeInterval {
        TimeInterval(components.seconds) + TimeInterval(components.attoseconds) / 1e18
    }
}
