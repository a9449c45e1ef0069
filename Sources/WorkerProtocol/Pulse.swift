internal import Synchronization

/// Shows that a loop still turns. Whoever watches looks whether the count moves.
public final class Pulse: Sendable {
    private let turns = Atomic<UInt64>(0)

    public init() {}

    public func beat() { turns.wrappingAdd(1, ordering: .relaxed) }
    public var count: UInt64 { turns.load(ordering: .relaxed) }
}
