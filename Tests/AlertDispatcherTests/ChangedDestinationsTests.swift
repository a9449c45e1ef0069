import Foundation
import Ledger
import Logging
import Synchronization
import Testing
import WorkerProtocol

@testable import AlertDispatcher

/// Destinations that come, change and go while something is owed.
@Suite struct ChangedDestinationsTests {
    private final class Held: Sendable {
        private let held: Mutex<[any Destination]>
        init(_ destinations: [any Destination]) { held = Mutex(destinations) }
        var value: [any Destination] {
            get { held.withLock { $0 } }
            set { held.withLock { $0 = newValue } }
        }
    }

    private func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
        for _ in 0..<400 {
            if try await condition() { return true }
            try await Task.sleep(for: .milliseconds(10))
        }
        return false
    }

    @Test func whatIsOwedToOneThatIsGoneWaitsAndGoesOnWhenItIsBack() async throws {
        let ledger = try await OutboxBench.owing([
            .init(destination: "pacs", priority: 0, objects: [OutboxBench.object(1)])
        ])
        let destinations = Held([])
        let outbox = Outbox(
            ledger: ledger, destinations: destinations.value,
            policy: .init(first: .seconds(3600), most: .seconds(3600)), clock: .system, logger: Logger(label: "test"))
        let task = Task { try await outbox.run() }
        #expect(try await eventually { await outbox.blocked["pacs"] != nil })
        #expect(await outbox.blocked["pacs"]?.reason.contains("no destination is named pacs") == true)
        #expect(try await ledger.pendingDeliveryCount() == 1)
        let pacs = ScriptedDestination(name: "pacs", [.statuses([0])])
        destinations.value = [pacs]
        await outbox.reopen()
        // Long before the pause ends.
        #expect(try await eventually { try await ledger.pendingDeliveryCount() == 0 })
        #expect(await pacs.asked.count == 1)
        // Nothing is owed, so that nothing is to be said of it any more.
        destinations.value = []
        #expect(try await eventually { await outbox.reach.isEmpty })
        task.cancel()
        try await task.value
    }

    @Test func anAttemptGoesOnWithTheDestinationThatItBeganWith() async throws {
        let ledger = try await OutboxBench.owing([
            .init(destination: "pacs", priority: 0, objects: [OutboxBench.object(1)])
        ])
        let (began, begin) = AsyncStream<Void>.makeStream()
        let (go, finish) = AsyncStream<Void>.makeStream()
        let slow = SlowDestination(began: begin, go: go)
        let told = Mutex<[String]>([])
        let destinations = Held([slow])
        let audited = Mutex("old")
        let outbox = Outbox(
            ledger: ledger, destinations: destinations.value, policy: .init(), clock: .system,
            audit: {
                let which = audited.withLock { $0 }
                return { _ in told.withLock { $0.append(which) } }
            }, logger: Logger(label: "test"))
        let task = Task { try await outbox.run() }
        for await _ in began { break }
        destinations.value = [ScriptedDestination(name: "pacs", [Script]())]
        audited.withLock { $0 = "new" }
        await outbox.reopen()
        finish.finish()
        #expect(try await eventually { try await ledger.pendingDeliveryCount() == 0 })
        #expect(told.withLock { $0 } == ["old"])
        task.cancel()
        try await task.value
    }

    @Test func anAttemptWithADestinationAsItWasPausesNothing() async throws {
        let ledger = try await OutboxBench.owing([
            .init(destination: "pacs", priority: 0, objects: [OutboxBench.object(1)])
        ])
        let (began, begin) = AsyncStream<Void>.makeStream()
        let (go, finish) = AsyncStream<Void>.makeStream()
        let destinations = Held([SlowDestination(began: begin, go: go, isReached: false)])
        let outbox = Outbox(
            ledger: ledger, destinations: destinations.value,
            policy: .init(first: .seconds(3600), most: .seconds(3600)), clock: .system, logger: Logger(label: "test"))
        let task = Task { try await outbox.run() }
        for await _ in began { break }
        let pacs = ScriptedDestination(name: "pacs", [.statuses([0])])
        destinations.value = [pacs]
        await outbox.reopen()
        finish.finish()
        // Long before a pause would end.
        #expect(try await eventually { try await ledger.pendingDeliveryCount() == 0 })
        #expect(await pacs.asked.count == 1)
        task.cancel()
        try await task.value
    }

    /// Takes everything, or is not there, once it may.
    private struct SlowDestination: Destination {
        let name = "pacs"
        let began: AsyncStream<Void>.Continuation
        let go: AsyncStream<Void>
        var isReached = true

        func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate] {
            began.yield()
            for await _ in go {}
            guard isReached else { throw Unreachable("cannot connect") }
            return Dictionary(uniqueKeysWithValues: objects.map { ($0.sopInstanceUID, .delivered(status: 0)) })
        }
    }
}
