import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Ledger
import Synchronization
import WorkerProtocol

@testable import Console

/// Peers that a test sets.
final class FixedPeers: NodePeers {
    struct State: Sendable {
        var reach: [String: DestinationReach] = [:]
        var associations = AssociationOverview()
        var verifications: [String: PeerVerification] = [:]
        var refusal: String?
        var asked: [(peer: String, user: String)] = []
    }
    let state = Mutex(State())

    let peers = [
        ConfiguredPeer(
            name: "pacs",
            remote: RemotePeer(aeTitle: AETitle("ARCHIVE")!, host: "pacs.example", port: 4242),
            callingAETitle: AETitle("TRIAGE")!, commits: true, fallback: "second", fallbackAfterSeconds: 60)
    ]
    let destinations = [
        ConfiguredDestination(
            name: "pacs", kind: .peer, address: "pacs.example:4242", aeTitle: AETitle("ARCHIVE")!),
        ConfiguredDestination(name: "ris", kind: .hl7, address: "ris.example:2575"),
    ]
    let admission = Admission(
        aeTitles: [AETitle("ICHNODE")!], networks: ["10.0.0.0/8"], addresses: ["0.0.0.0"], plainPort: 11112,
        tlsPort: 2762, asksForCertificate: true, mostAssociations: 64, mostAssociationsPerPeer: 32)

    func reach() async -> [String: DestinationReach] { state.withLock { $0.reach } }
    func associations() async -> AssociationOverview { state.withLock { $0.associations } }
    func verifications() async -> [String: PeerVerification] { state.withLock { $0.verifications } }

    func verify(_ peer: String, by user: String) async throws(ActionRefusal) -> PeerVerification {
        let (refusal, finding) = state.withLock { state in
            state.asked.append((peer, user))
            return (state.refusal, "peer \(peer) answers C-ECHO in 3 ms")
        }
        if let refusal { throw ActionRefusal(reason: refusal) }
        return PeerVerification(
            at: .now, user: user, seconds: 0.4, findings: [.init(isGood: true, text: finding)])
    }
}

extension ConsoleFixture {
    /// Status, and where the browser is sent.
    func answer(
        toPost path: String, _ form: String
    ) async throws -> (status: HTTPResponse.Status, location: String?) {
        try await Application(router: server.router).test(.router) { client in
            let response = try await client.executeRequest(
                uri: path, method: .post, headers: [.contentType: "application/x-www-form-urlencoded"],
                body: ByteBuffer(string: form))
            return (response.status, response.headers[.location])
        }
    }

    /// As a disk may.
    func breakLedger() throws {
        for path in [file.path, file.path + "-wal"] {
            try FileHandle(forWritingTo: URL(fileURLWithPath: path)).truncate(atOffset: 0)
        }
    }
}
