internal import Foundation
internal import Hummingbird
internal import Ledger
internal import WorkerProtocol

/// With whom the node exchanges: peers, who may call, and the associations of late.
struct PeersPage {
    let parts: ConsoleServer.Parts
    let outcomes: ActionOutcomes

    var routes: [ConsoleRoute] {
        [
            .get("/peers", .overview, show),
            .get("/peers/list", .overview) { _, context in try await list(context.visitor).response() },
            .post("/peers/verify", .acting, verify),
        ]
    }

    @Sendable private func show(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        Page(
            title: ConsoleArea.peers.title, area: .peers, visitor: context.visitor, styles: ["exchange.css"],
            scripts: ["live.js"],
            content: """
                \(Page.liveHead("Peers and associations", parts.clock.now()))
                \(await outcomes.notice(request))
                <div id="peers" data-live="/peers/list" data-topics="studies,deliveries" data-beat>
                \(try await list(context.visitor))
                </div>
                """
        ).response()
    }

    /// What follows the node.
    private func list(_ visitor: Visitor) async throws -> HTML {
        let peers = parts.peers.peers
        let now = parts.clock.now()
        let figures = try await parts.ledger.destinationFigures(of: peers.map(\.name), since: now)
        let reach = await parts.peers.reach()
        let verifications = await parts.peers.verifications()
        let lines = AssociationTables(overview: await parts.peers.associations(), now: now, visitor: visitor)
        let cards = peers.map { peer in
            PeerCard(
                peer: peer, reach: reach[peer.name] ?? DestinationReach(),
                lastDeliveredAt: figures.first { $0.destination == peer.name }?.lastDeliveredAt,
                verification: verifications[peer.name], now: now, visitor: visitor)
        }
        let none: HTML? = peers.isEmpty ? "<p class=\"empty\">No peer is configured.</p>" : nil
        return """
            <section aria-label="Peers" class="cards destinations">
            \(cards.map(\.html))\(none)
            </section>
            \(admission)
            \(lines.html)
            """
    }

    private var admission: HTML {
        let rules = parts.peers.admission
        let ports = [rules.plainPort.map { "\($0) plain" }, rules.tlsPort.map { "\($0) TLS" }].compactMap { $0 }
        let certificate = rules.asksForCertificate ? ", which asks for a certificate" : ""
        let calling = rules.callingAETitles.isEmpty ? "any" : Self.list(rules.callingAETitles.map(\.string))
        return """
            <section class="card" aria-labelledby="admission-title">
            <h2 id="admission-title">Who may call this node</h2>
            <dl class="facts">
            <dt>Called AE title</dt><dd class="mono">\(Self.list(rules.aeTitles.map(\.string)))</dd>
            <dt>Port</dt><dd>\(Self.list(ports))\(rules.tlsPort == nil ? "" : certificate)</dd>
            <dt>On</dt><dd class="mono">\(Self.list(rules.addresses))</dd>
            <dt>From networks</dt><dd class="mono">\(Self.list(rules.networks))</dd>
            <dt>Calling AE titles</dt><dd class="mono">\(calling)</dd>
            <dt>Associations at once</dt><dd>\(rules.mostAssociations), \(rules.mostAssociationsPerPeer) of one \
            address</dd>
            </dl>
            </section>
            """
    }

    private static func list(_ texts: [String]) -> String { texts.isEmpty ? "none" : texts.joined(separator: ", ") }

    @Sendable private func verify(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        let name = context.form["peer"] ?? ""
        let told: String
        do {
            let result = try await parts.peers.verify(name, by: context.visitor.user ?? "")
            let texts = result.findings.map(\.text).joined(separator: "; ")
            let text = "\(texts) (\(Words.span(result.seconds)) in all)"
            told = await outcomes.keep(text, isDone: result.isGood)
        } catch { told = await outcomes.keep(error.reason, isDone: false) }
        return .seeOther("/peers?told=\(told)")
    }
}
