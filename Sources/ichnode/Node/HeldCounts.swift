import AlertDispatcher
import Foundation
import StoreSCP
import WorkerProtocol

/// Asks the peer of a study's route how many images of each series it holds.
struct HeldCounts: Sendable {
    private let routes: RouteTable
    private let peers: [String: RemotePeer]
    private let callingAETitle: AETitle
    private let client: SendClient

    private static let answerSeconds = 15.0

    init(_ configuration: NodeConfiguration, program: WorkerProgram) {
        routes = RouteTable(configuration.routes)
        peers = Dictionary(configuration.peers.map { ($0.name, $0.remote) }) { first, _ in first }
        callingAETitle = configuration.node.aeTitle
        client = SendClient(program: program, deadline: .seconds(2 * Self.answerSeconds))
    }

    /// - Returns: by Series Instance UID; nil where the route names nobody to ask.
    /// - Throws: `WorkerError` with what the peer, or the way to it, lacks.
    func ask(_ study: UID, calling: AETitle?, called: AETitle?) async throws -> [UID: Int]? {
        guard let name = routes.route(calling: calling, called: called)?.countsFrom, let peer = peers[name] else {
            return nil
        }
        let job = FindJob(
            peer: peer, callingAETitle: callingAETitle, studyInstanceUID: study, timeoutSeconds: Self.answerSeconds)
        var counts: [UID: Int] = [:]
        for event in try await client.run(.find(job)) {
            switch event {
            case .found(let series, let images): counts[series] = images
            case .failed(let failure): throw WorkerError(.failed, "\(name): \(failure.reason)")
            default: break
            }
        }
        return counts
    }
}
