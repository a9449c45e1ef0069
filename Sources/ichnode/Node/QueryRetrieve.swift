import AlertDispatcher
import Foundation
import StoreSCP
import WorkerProtocol

/// What the peers of a study's route are asked for: how many images they hold, and images that are missing.
struct QueryRetrieve: Sendable {
    private let routes: RouteTable
    private let peers: [String: NodeConfiguration.Peer]
    private let programs: WorkerPrograms
    private let audit: @Sendable (StudyQuery) -> Void

    static let answerSeconds = 15.0
    /// For all images of a series. The study's own deadline goes on meanwhile.
    static let mostSeconds = 300.0
    static let responseSeconds = 60.0
    static let findDeadline: Duration = .seconds(2 * answerSeconds)
    static let moveDeadline: Duration = .seconds(mostSeconds + 3 * responseSeconds)

    /// - Parameter audit: is told of each query that was made.
    init(
        _ configuration: NodeConfiguration, programs: WorkerPrograms,
        audit: @escaping @Sendable (StudyQuery) -> Void = { _ in }
    ) {
        routes = configuration.routeTable
        peers = Dictionary(configuration.peers.map { ($0.name, $0) }) { first, _ in first }
        self.programs = programs
        self.audit = audit
    }

    private func peer(_ setting: KeyPath<Route, String?>, _ origin: StudyOrigin) -> NodeConfiguration.Peer? {
        routes.route(for: origin)?[keyPath: setting].flatMap { peers[$0] }
    }

    /// - Returns: images by Series Instance UID; nil where the route names nobody to ask.
    /// - Throws: `WorkerError` with what the peer, or the way to it, lacks.
    func counts(_ study: UID, from origin: StudyOrigin) async throws -> [UID: Int]? {
        guard let peer = peer(\.countsFrom, origin) else { return nil }
        var query = StudyQuery(studyInstanceUID: study, peer: peer)
        do {
            let counts = try await counts(study, at: peer)
            audit(query)
            return counts
        } catch {
            query.failure = (error as? WorkerError)?.reason ?? "\(error)"
            audit(query)
            throw error
        }
    }

    private func counts(_ study: UID, at peer: NodeConfiguration.Peer) async throws -> [UID: Int] {
        let job = FindJob(
            peer: peer.remote, callingAETitle: peer.callingAETitle, studyInstanceUID: study,
            timeoutSeconds: Self.answerSeconds)
        let client = SendClient(program: programs.find, deadline: Self.findDeadline)
        var counts: [UID: Int] = [:]
        for event in try await client.run(.find(job)) {
            switch event {
            case .found(let series, let images): counts[series] = images
            case .failed(let failure): throw WorkerError(.failed, "\(peer.name): \(failure.reason)")
            default: break
            }
        }
        return counts
    }

    /// By whom images are sent again; nil where the route names nobody to ask.
    func retrieval(for origin: StudyOrigin) -> StudyAssembler.RetrieveSeries? {
        guard let peer = peer(\.retrieveFrom, origin) else { return nil }
        return { series, study in try await retrieve(series, ofStudy: study, from: peer) }
    }

    /// Has the peer send a series to the node; returns when it says that it has.
    /// - Returns: what was asked and what came of it, in words.
    /// - Throws: `WorkerError` with what the peer, or the way to it, lacks.
    private func retrieve(
        _ series: UID, ofStudy study: UID, from peer: NodeConfiguration.Peer
    ) async throws -> String {
        let job = MoveJob(
            peer: peer.remote, callingAETitle: peer.callingAETitle, studyInstanceUID: study,
            seriesInstanceUID: series, timeoutSeconds: Self.responseSeconds, mostSeconds: Self.mostSeconds)
        // The worker gives up before.
        let client = SendClient(program: programs.move, deadline: Self.moveDeadline)
        var said: [String] = []
        var hasFailed = false
        for event in try await client.run(.move(job)) {
            switch event {
            case .moved(let counts): said.append(Self.words(counts))
            case .failed(let failure):
                said.append(failure.reason)
                hasFailed = true
            default: break
            }
        }
        let text = "asked \(peer.name) for series \(series): \(said.joined(separator: "; "))"
        if hasFailed { throw WorkerError(.failed, text) }
        return text
    }

    private static func words(_ counts: MoveCounts) -> String {
        let sent = counts.completed.map { "\(Int($0) + Int(counts.warning ?? 0)) images sent" }
        return (sent ?? "number of images not told") + (counts.failed.map { $0 > 0 ? ", \($0) not" : "" } ?? "")
    }
}
