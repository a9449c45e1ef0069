import Foundation
import Testing
import WorkerProtocol

#if canImport(Glibc)
import Glibc
#endif

/// The daemon's part, as far as a receiving worker needs it: accepts, hands the socket over, answers collisions.
final class ReceivingNode: Sendable {
    let folder: TemporaryFolder
    let incoming: String
    let studies: String
    private let listener: Listener
    private let tls: TLSFiles?
    var port: UInt16 { listener.port }

    init(tls: TLSFiles? = nil) throws {
        self.tls = tls
        folder = try TemporaryFolder()
        incoming = try folder.make("incoming")
        studies = try folder.make("studies")
        listener = try Listener()
    }

    /// As the daemon does, from a template, which is of no use to it afterwards.
    func startWorker() async throws -> WorkerProcess {
        let template = try await WorkerTemplate(
            WorkerProgram(
                path: Surroundings.worker,
                arguments: ["receive", "--incoming", incoming, "--studies", studies] + (tls?.arguments ?? [])))
        let worker = try await template.makeWorker()
        await template.stop()
        let hello = try await worker.start()
        #expect(hello.verb == "receive")
        return worker
    }

    static func job(_ id: String = "a1") -> AssociationJob {
        AssociationJob(
            associationID: id, peerAddress: "127.0.0.1", calledAETitles: [AETitle("ICHNODE")!], idleTimeoutSeconds: 10,
            deadlineSeconds: 60)
    }

    /// Accepts one connection and gives it to a worker.
    func handOver(_ job: AssociationJob = ReceivingNode.job()) async throws -> WorkerProcess {
        let worker = try await startWorker()
        let connection = try await listener.accept()
        try await worker.send(ReceiveRequest.serve(job), descriptor: connection)
        close(connection)
        return worker
    }

    /// Serves one association while `peer` talks; gives its events and what the peer found.
    func serve<R: Sendable>(
        _ job: AssociationJob = ReceivingNode.job(),
        verdict: @escaping @Sendable (Collision) -> CollisionVerdict = { _ in .identical },
        peer: @escaping @Sendable (UInt16) async throws -> R
    ) async throws -> (events: [ReceiveEvent], result: R) {
        async let result = peer(port)
        let worker = try await handOver(job)
        var events: [ReceiveEvent] = []
        for try await frame in worker.frames {
            guard case .message(let payload) = frame else { continue }
            let event = try JSONDecoder().decode(ReceiveEvent.self, from: payload)
            events.append(event)
            if case .collision(let collision) = event {
                try await worker.send(ReceiveRequest.verdict(verdict(collision)))
            }
        }
        let ending = await worker.ended()
        #expect(ending == .exited(code: 0))
        return (events, try await result)
    }

    /// The same, with a peer that writes PDUs itself.
    func serveRaw<R: Sendable>(
        _ job: AssociationJob = ReceivingNode.job(),
        verdict: @escaping @Sendable (Collision) -> CollisionVerdict = { _ in .identical },
        _ body: @escaping @Sendable (RawPeer) throws -> R
    ) async throws -> (events: [ReceiveEvent], result: R) {
        try await serve(job, verdict: verdict) { port in
            try await onThread { try body(try RawPeer(port: port)) }
        }
    }

    var stored: [String] { folder.files("studies") }
    var partial: [String] { folder.files("incoming") }
}

extension [ReceiveEvent] {
    /// The kinds in order, for comparison.
    var kinds: [String] {
        compactMap { event in
            switch event {
            case .common: nil
            case .accepted: "accepted"
            case .stored: "stored"
            case .collision: "collision"
            case .refused: "refused"
            case .echoed: "echoed"
            case .commitment: "commitment"
            case .reportRefused: "report refused"
            case .ended: "ended"
            }
        }
    }

    var records: [InstanceRecord] {
        var common: CommonAttributes?
        return compactMap { event in
            if case .common(let told) = event { common = told }
            guard case .stored(let own, _) = event, let common else { return nil }
            return InstanceRecord(common, own)
        }
    }

    var refusals: [InstanceRefused] {
        compactMap { if case .refused(let refused) = $0 { refused } else { nil } }
    }

    var ended: AssociationEnded? {
        if case .ended(let ended)? = last { ended } else { nil }
    }
}
