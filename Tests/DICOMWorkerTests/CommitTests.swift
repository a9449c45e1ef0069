import Foundation
import Testing
import WorkerProtocol

/// Storage commitment (PS3.4 Annex J) against peers that have it, and that have not.
@Suite(.serialized, .enabled(if: Surroundings.hasTools, "needs DCMTK's tools"))
struct CommitTests {
    private func commit(_ peer: RemotePeer, _ objects: [ComposedObject]) async throws -> [SendEvent] {
        try await SendTests.events(
            ["commit"],
            .commit(
                CommitJob(
                    peer: peer, callingAETitle: SendTests.calling, transactionUID: .random(), objects: objects,
                    timeoutSeconds: 5, reportSeconds: 0.5)))
    }

    private func failure(_ events: [SendEvent]) -> SendFailure? {
        if events.count == 1, case .failed(let failure) = events[0] { return failure }
        Issue.record("\(events)")
        return nil
    }

    @Test(.enabled(if: Archive.Kind.installed.contains(.orthanc), "needs Orthanc"))
    func aPeerThatReportsElsewhereTakesTheRequest() async throws {
        let archive = try await Archive(.orthanc, node: try Listener.freePort())
        let folder = try TemporaryFolder()
        let events = try await commit(archive.peer, try SendTests.results(folder, 3))
        guard events.count == 1, case .commitmentAsked = events[0] else {
            Issue.record("\(events)")
            return
        }
    }

    @Test func aPeerWithoutCommitmentIsSaid() async throws {
        let server = try await StorageServer()
        let folder = try TemporaryFolder()
        let failure = failure(try await commit(server.peer, try SendTests.results(folder, 1)))
        #expect(failure?.reason.contains("no presentation context for storage commitment") == true)
    }

    @Test func aPeerThatIsSilentIsGivenUp() async throws {
        let listener = try Listener()
        let folder = try TemporaryFolder()
        let peer = RemotePeer(aeTitle: AETitle("PACS1")!, host: "127.0.0.1", port: Int(listener.port))
        #expect(failure(try await commit(peer, try SendTests.results(folder, 1)))?.kind == .timeout)
    }

    /// Our own receiving worker: it takes reports, and promises nothing.
    @Test func theNodeItselfRefuses() async throws {
        let folder = try TemporaryFolder()
        let objects = try SendTests.results(folder, 1)
        let (_, events) = try await ReceivingNode().serve { port in
            try await commit(RemotePeer(aeTitle: AETitle("ICHNODE")!, host: "127.0.0.1", port: Int(port)), objects)
        }
        #expect(failure(events)?.reason.contains("0x211") == true)
    }
}
