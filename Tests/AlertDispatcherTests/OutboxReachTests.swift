import Foundation
import Ledger
import Logging
import Testing

@testable import AlertDispatcher

/// What the outbox tells of its destinations.
@Suite struct OutboxReachTests {
    @Test func aDestinationIsOutOfReachUntilItAnswers() async throws {
        let ledger = try await OutboxBench.owing([
            .init(destination: "pacs", priority: 0, objects: [OutboxBench.object(1)]),
            .init(destination: "gone", priority: 0, objects: [OutboxBench.object(2)]),
        ])
        let pacs = ScriptedDestination(name: "pacs", [.down, .down, .statuses([0])])
        let outbox = Outbox(
            ledger: ledger, destinations: [pacs, ScriptedDestination(name: "idle", [Script]())],
            policy: .init(first: .milliseconds(400), most: .milliseconds(400)), clock: .system,
            logger: Logger(label: "test"))
        #expect(await outbox.reach == ["pacs": DestinationReach(), "idle": DestinationReach()])
        let began = Date.now
        let task = Task { try await outbox.run() }
        var blockage: DestinationReach.Blockage?
        for _ in 0..<400 where blockage?.attempts != 2 {
            try await Task.sleep(for: .milliseconds(5))
            blockage = await outbox.reach["pacs"]?.blockage
        }
        let seen = try #require(blockage)
        #expect(seen.attempts == 2 && seen.reason == "cannot connect")
        #expect(seen.since >= began && seen.nextAttemptAt > seen.since + 0.3)
        for _ in 0..<400 where await outbox.reach["pacs"]?.blockage != nil {
            try await Task.sleep(for: .milliseconds(5))
        }
        let reach = await outbox.reach
        #expect(reach["pacs"]?.blockage == nil)
        #expect(try #require(reach["pacs"]?.lastAnswerAt) > seen.since)
        #expect(reach["gone"]?.blockage?.reason.contains("no destination is named gone") == true)
        #expect(reach["idle"] == DestinationReach())
        task.cancel()
        try await task.value
    }
}
