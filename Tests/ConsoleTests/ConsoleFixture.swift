import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Ledger
import Logging
import Testing
import WorkerProtocol

@testable import Console

/// Lets a fixed visitor through everywhere: for what pages show, not for who may see them.
struct FixedGate: Gate {
    var visitor: Visitor

    func admit(_ request: Request, to route: ConsoleRoute, _ context: inout ConsoleContext) async throws -> Response? {
        context.visitor = visitor
        return nil
    }
}

/// Remembers what was asked for.
actor RecordedActions: NodeActions {
    private(set) var performed: [(action: NodeAction, user: String)] = []
    var refusal: ActionRefusal?

    func refuse(_ reason: String) { refusal = ActionRefusal(reason: reason) }

    func perform(_ action: NodeAction, by user: String) async throws(ActionRefusal) -> String {
        performed.append((action, user))
        if let refusal { throw refusal }
        return "done"
    }

    func explanation(ofStudy uid: UID) async throws(ActionRefusal) -> StudyExplanation {
        if let refusal { throw refusal }
        return StudyExplanation(studyInstanceUID: uid, standing: "waits for nothing", series: [])
    }
}

/// A console over a ledger in a file of its own.
struct ConsoleFixture {
    let ledger: SQLiteLedger
    let actions = RecordedActions()
    let registry = MetricsRegistry()
    let peers = FixedPeers()
    /// The ledger's.
    let file: URL
    let server: ConsoleServer

    init(
        _ visitor: Visitor = Visitor(user: "operator", role: .operator, csrfToken: "token"),
        facts: (any NodeFacts)? = nil, audit: ConsoleAudit = ConsoleAudit { _ in }
    ) throws {
        file = FileManager.default.temporaryDirectory.appendingPathComponent("console-\(UUID()).sqlite")
        ledger = try SQLiteLedger(path: file.path)
        server = ConsoleServer(
            ConsoleSettings(),
            parts: .init(
                ledger: ledger, actions: actions, registry: registry, clock: .system, peers: peers,
                audit: audit, notReady: { nil }, facts: facts),
            gate: FixedGate(visitor: visitor), logger: Logger(label: "console")
        ) { _ in }
    }

    /// - Returns: status and body.
    func get(_ path: String) async throws -> (status: HTTPResponse.Status, body: String) {
        try await Application(router: server.router).test(.router) { client in
            let response = try await client.executeRequest(uri: path, method: .get, headers: [:], body: nil)
            return (response.status, String(buffer: response.body))
        }
    }

    func post(_ path: String, _ form: String = "") async throws -> (status: HTTPResponse.Status, body: String) {
        try await Application(router: server.router).test(.router) { client in
            let response = try await client.executeRequest(
                uri: path, method: .post, headers: [.contentType: "application/x-www-form-urlencoded"],
                body: ByteBuffer(string: form))
            return (response.status, String(buffer: response.body))
        }
    }
}
