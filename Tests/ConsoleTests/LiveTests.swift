import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Ledger
import Logging
import ServiceLifecycle
import Synchronization
import Testing
import WorkerProtocol

@testable import Console

@Suite struct LiveTests {
    private let fixture: ConsoleFixture
    private let study = UID("1.2.3")!

    init() throws { fixture = try ConsoleFixture() }

    private func record(_ number: Int) async throws {
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.9.\(number)")!,
            studyInstanceUID: study, seriesInstanceUID: UID("1.2.3.9")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        try await fixture.ledger.recordInstances([
            StoredInstance(record: record, path: "/spool/\(number)", receivedAt: .now)
        ])
    }

    /// A hub that watches while `body` runs.
    private func watching(
        _ limits: LiveHub.Limits = .init(pause: .milliseconds(200)), _ body: (LiveHub) async throws -> Void
    ) async throws {
        let hub = LiveHub(ledger: fixture.ledger, clock: .system, limits: limits)
        let watch = Task { await hub.run() }
        while hub.version == nil { try await Task.sleep(for: .milliseconds(1)) }
        do { try await body(hub) } catch {
            watch.cancel()
            throw error
        }
        hub.close()
        await watch.value
    }

    private func news(_ stream: LiveHub.Stream, _ hub: LiveHub) async -> [String] {
        for await _ in stream.signals { return hub.news(for: stream).map(\.text) }
        return ["ended"]
    }

    @Test func aStreamIsToldOfWhatItFollows() async throws {
        try await watching { hub in
            let studies = try #require(hub.open([.studies, .alerts]))
            let one = try #require(hub.open([.study(study), .deliveries]))
            let other = try #require(hub.open([.study(UID("1.2.4")!)]))
            try await record(1)
            #expect(await news(studies, hub) == ["studies"])
            #expect(await news(one, hub) == ["study:1.2.3"])
            try await fixture.ledger.recordEvent("note", "a test", ofStudy: study)
            #expect(await news(one, hub) == ["study:1.2.3"])
            _ = try await fixture.ledger.updateOperatorAlerts(to: [OperatorCondition(.diskShort, "d", "t")]) { _ in
                [NewDelivery(destination: "mail", priority: 1, message: OutboundMessage(id: "1", body: "b"))]
            }
            #expect(await news(one, hub) == ["deliveries"])
            #expect(await news(studies, hub).contains("alerts"))
            #expect(hub.news(for: other).isEmpty)
        }
    }

    @Test func newsAreGathered() async throws {
        try await watching(.init(pause: .milliseconds(400))) { hub in
            let stream = try #require(hub.open([.studies]))
            let begun = ContinuousClock.now
            let listener = Task {
                var told = 0
                for await _ in stream.signals where hub.news(for: stream) == [.studies] { told += 1 }
                return told
            }
            for number in 1...100 { try await record(number) }
            let rounds = Int((ContinuousClock.now - begun) / .milliseconds(400)) + 1
            try await Task.sleep(for: .milliseconds(500))
            hub.close()
            let told = await listener.value
            // The first at once, the last not left out.
            #expect((2...rounds + 2).contains(told))
        }
    }

    @Test func streamsAreBoundedAndEndTogether() async throws {
        try await watching(.init(streams: 3)) { hub in
            let streams = (1...3).compactMap { _ in hub.open([.studies]) }
            #expect(streams.count == 3 && hub.open([.studies]) == nil && !hub.hasRoom)
            hub.close(streams[0])
            #expect(hub.open([.studies]) != nil)
            hub.close()
            #expect(await news(streams[1], hub) == ["ended"])
            #expect(hub.open([.studies]) == nil)
        }
    }

    @Test func aReaderThatTakesNothingIsDropped() async throws {
        try await watching(.init(heartbeat: .milliseconds(50))) { hub in
            let (slow, quick) = (try #require(hub.open([.studies])), try #require(hub.open([.studies])))
            let reading = Task { for await _ in quick.signals { hub.wasTaken(by: quick) } }
            // Ends, or the test does not.
            for await _ in slow.isKept {}
            try await Task.sleep(for: .milliseconds(300))
            let isDropped = Task {
                for await _ in quick.isKept {}
                return !Task.isCancelled
            }
            try await Task.sleep(for: .milliseconds(50))
            isDropped.cancel()
            #expect(await isDropped.value == false)
            hub.close()
            await reading.value
        }
    }

    /// Numbers what it makes.
    private final class Numbered: Sendable {
        private let fragments: LiveFragments
        private let last = Mutex(0)

        init(_ hub: LiveHub, clock: WallClock = .system) { fragments = LiveFragments(hub: hub, clock: clock) }

        var count: Int { last.withLock { $0 } }

        /// - Returns: the tag of the answer.
        func ask(showsPatients: Bool = true) async throws -> String {
            let request = Request(
                head: .init(method: .get, scheme: nil, authority: nil, path: "/"), body: .init(buffer: ByteBuffer()))
            let key = LiveFragments.Key(content: "/x", showsPatients: showsPatients)
            let response = try await fragments.response(key, to: request) {
                let number = self.last.withLock { last in
                    last += 1
                    return last
                }
                try await Task.sleep(for: .milliseconds(20))
                return "<p>\(number)</p>"
            }
            return response.headers[.eTag] ?? ""
        }
    }

    @Test func aFragmentIsMadeOnceForAllUntilThereAreNews() async throws {
        try await watching { hub in
            let numbered = Numbered(hub)
            let tags = try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 1...50 { group.addTask { try await numbered.ask() } }
                return try await group.reduce(into: Set<String>()) { $0.insert($1) }
            }
            #expect(tags.count == 1 && numbered.count == 1)
            // Not the same for who may see less.
            #expect(try await numbered.ask(showsPatients: false) != tags.first)
            let version = hub.version
            try await record(1)
            while hub.version == version { try await Task.sleep(for: .milliseconds(5)) }
            #expect(try await numbered.ask() != tags.first)
        }
    }

    @Test func aFragmentIsNotOldWhereNothingHappens() async throws {
        let now = Mutex(Date(timeIntervalSince1970: 1000))
        let clock = WallClock(now: { now.withLock { $0 } }, sleep: { try await Task.sleep(for: $0) })
        try await watching { hub in
            let numbered = Numbered(hub, clock: clock)
            let first = try await numbered.ask()
            now.withLock { $0 += 29 }
            #expect(try await numbered.ask() == first)
            now.withLock { $0 += 1 }
            let second = try await numbered.ask()
            #expect(second != first)
            // Set back, the clock says nothing of how old it is.
            now.withLock { $0 -= 3600 }
            #expect(try await numbered.ask() != second)
        }
    }

    @Test func whatIsTheSameIsNotSentAgain() async throws {
        try await record(1)
        try await Application(router: fixture.server.router).test(.router) { client in
            let first = try await client.executeRequest(uri: "/worklist/list", method: .get, headers: [:], body: nil)
            let tag = try #require(first.headers[.eTag])
            let again = try await client.executeRequest(
                uri: "/worklist/list", method: .get, headers: [.ifNoneMatch: tag], body: nil)
            #expect(again.status == .notModified && again.body.readableBytes == 0)
            try await record(2)
            let changed = try await client.executeRequest(
                uri: "/worklist/list", method: .get, headers: [.ifNoneMatch: tag], body: nil)
            #expect(changed.status == .ok)
        }
    }

    @Test(arguments: [
        "/events", "/events?topics=", "/events?topics=all", "/events?topics=study:x",
        "/events?topics=studies,alerts,deliveries,study:1,study:2,study:3,study:4,study:5,study:6",
    ])
    func topicsAreWhatThereIs(path: String) async throws {
        #expect(try await fixture.get(path).status == .badRequest)
    }
}
