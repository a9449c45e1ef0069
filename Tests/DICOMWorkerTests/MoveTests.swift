import Foundation
import Testing
import WorkerProtocol

@Suite(.serialized, .enabled(if: Surroundings.hasTools, "needs DCMTK's tools"))
struct MoveTests {
    private func move(
        _ peer: RemotePeer, series: String = "1.2.3.1", timeout: Double = 10, most: Double = 20
    ) async throws -> [SendEvent] {
        try await SendTests.events(
            ["move"],
            .move(
                MoveJob(
                    peer: peer, callingAETitle: SendTests.calling, studyInstanceUID: UID("1.2.3")!,
                    seriesInstanceUID: UID(series)!, timeoutSeconds: timeout, mostSeconds: most)))
    }

    /// An archive that holds so many images of the series.
    private func archive(_ kind: Archive.Kind, _ count: Int, node: UInt16?) async throws -> Archive {
        let archive = try await Archive(kind, node: node)
        let folder = try TemporaryFolder()
        _ = try await SendTests.store(try SendTests.results(folder, count), folder, archive.peer)
        return archive
    }

    private func count(_ server: StorageServer) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: server.folder.path).count
    }

    @Test(arguments: Archive.Kind.installed)
    func theSeriesIsSentToTheCallingAE(kind: Archive.Kind) async throws {
        let server = try await StorageServer()
        let archive = try await archive(kind, 3, node: server.port)
        let events = try await move(archive.peer)
        guard events.count == 1, case .moved(let counts) = events[0] else {
            Issue.record("\(events)")
            return
        }
        #expect(counts == MoveCounts(completed: 3, failed: 0, warning: 0))
        #expect(try count(server) == 3)
    }

    @Test(arguments: Archive.Kind.installed)
    func nothingIsSentOfASeriesThatThePeerDoesNotHold(kind: Archive.Kind) async throws {
        let server = try await StorageServer()
        let archive = try await archive(kind, 3, node: server.port)
        _ = try await move(archive.peer, series: "1.2.3.9")
        #expect(try count(server) == 0)
    }

    @Test(arguments: Archive.Kind.installed)
    func anUnknownMoveDestinationSaysWhatToAdd(kind: Archive.Kind) async throws {
        let archive = try await archive(kind, 1, node: nil)
        let events = try await move(archive.peer)
        guard case .failed(let failure)? = events.last else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.reason.contains("add our AE title, host and port to the PACS"), "\(failure.reason)")
    }

    @Test(arguments: Archive.Kind.installed)
    func aDestinationThatDoesNotListenIsSaid(kind: Archive.Kind) async throws {
        let archive = try await archive(kind, 2, node: try Listener.freePort())
        let events = try await move(archive.peer)
        guard case .failed(let failure)? = events.last else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.reason.contains("host and port"), "\(failure.reason)")
    }

    @Test func whatTakesTooLongIsCancelled() async throws {
        let server = try await StorageServer(["--sleep-after", "1"])
        let archive = try await archive(.dcmqrscp, 6, node: server.port)
        let events = try await move(archive.peer, most: 0.5)
        guard events.count == 2, case .moved(let counts) = events[0], case .failed(let failure) = events[1] else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.reason == "it took too long and was cancelled (0xFE00)")
        #expect((1...5).contains(counts.completed ?? 0))
    }

    @Test func aPeerThatFallsSilentIsGivenUp() async throws {
        let server = try await StorageServer(["--sleep-during", "4"])
        let archive = try await archive(.dcmqrscp, 1, node: server.port)
        let events = try await move(archive.peer, timeout: 1)
        guard events.count == 1, case .failed(let failure) = events[0] else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.kind == .timeout)
    }

    @Test func aPeerWithoutRetrievalIsSaid() async throws {
        let server = try await StorageServer()
        let events = try await move(server.peer)
        guard case .failed(let failure)? = events.first, events.count == 1 else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.reason.contains("the peer refuses retrieval (Study Root C-MOVE)"))
    }
}
