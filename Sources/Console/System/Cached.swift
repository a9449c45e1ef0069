internal import Foundation
internal import Ledger

/// What is too dear to be found for every request: found again when it is older than it may be. Who asks meanwhile
/// waits for the same answer.
actor Cached<Value: Sendable> {
    private let age: TimeInterval
    private let clock: WallClock
    private let find: @Sendable () async throws -> Value
    private var held: (at: Date, value: Value)?
    private var underWay: Task<Value, any Error>?

    init(atMost age: TimeInterval, clock: WallClock, find: @escaping @Sendable () async throws -> Value) {
        self.age = age
        self.clock = clock
        self.find = find
    }

    /// - Returns: also when it was found.
    func value() async throws -> (at: Date, value: Value) {
        let now = clock.now()
        if let held, (0..<age).contains(now.timeIntervalSince(held.at)) { return held }
        if let underWay { return (now, try await underWay.value) }
        let task = Task { try await find() }
        underWay = task
        defer { underWay = nil }
        let found = (at: now, value: try await task.value)
        held = found
        return found
    }
}
