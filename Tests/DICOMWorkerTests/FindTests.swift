import Foundation
import Testing
import WorkerProtocol

@Suite(.serialized, .enabled(if: Surroundings.hasTools, "needs DCMTK's tools"))
struct FindTests {
    private func find(_ peer: RemotePeer, _ study: String) async throws -> [SendEvent] {
        try await SendTests.events(
            ["find"],
            .find(
                FindJob(
                    peer: peer, callingAETitle: SendTests.calling, studyInstanceUID: UID(study)!, timeoutSeconds: 5)))
    }

    @Test(arguments: Archive.Kind.installed)
    private func countsTheImagesOfEachSeries(kind: Archive.Kind) async throws {
        let archive = try await Archive(kind)
        let folder = try TemporaryFolder()
        _ = try await SendTests.store(try SendTests.results(folder, 3), folder, archive.peer)
        let events = try await find(archive.peer, "1.2.3")
        guard case .found(let series, let images)? = events.first, events.count == 1 else {
            Issue.record("\(events)")
            return
        }
        #expect(series == UID("1.2.3.1"))
        #expect(images == 3)
        #expect(try await find(archive.peer, "1.2.4").isEmpty)
    }

    @Test func aPeerWithoutQueriesIsSaid() async throws {
        let server = try await StorageServer()
        let events = try await find(server.peer, "1.2.3")
        guard case .failed(let failure)? = events.first, events.count == 1 else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.reason.contains("the peer refuses queries (Study Root C-FIND)"))
    }

    @Test func nobodyThereIsSaid() async throws {
        let port = try Listener.freePort()
        let events = try await find(RemotePeer(aeTitle: AETitle("GONE")!, host: "127.0.0.1", port: Int(port)), "1.2.3")
        guard case .failed(let failure)? = events.first else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.kind == .connect)
    }
}
