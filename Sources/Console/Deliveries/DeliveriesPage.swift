internal import Foundation
internal import Hummingbird
internal import Ledger
internal import WorkerProtocol

/// Who is owed what: destinations, and the outbox.
struct DeliveriesPage {
    /// Deliveries that one click has tried again.
    static let mostRetried = 200

    let parts: ConsoleServer.Parts
    let outcomes: ActionOutcomes

    var routes: [ConsoleRoute] {
        [
            .get("/deliveries", .overview, show),
            .get("/deliveries/list", .overview) { request, context in
                try await list(Self.filter(request), context.visitor).response()
            },
            .post("/deliveries/{id}/retry", .acting) { request, context in
                try await perform(NodeAction.retry, request, context)
            },
            .post("/deliveries/{id}/discard", .acting) { request, context in
                try await perform(NodeAction.discard, request, context)
            },
            .post("/deliveries/retry-given-up", .acting, retryGivenUp),
        ]
    }

    // MARK: Showing

    @Sendable private func show(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        let filter = Self.filter(request)
        return Page(
            title: ConsoleArea.deliveries.title, area: .deliveries, visitor: context.visitor, styles: ["exchange.css"],
            scripts: ["live.js"],
            content: """
                \(Page.liveHead("Deliveries", parts.clock.now()))
                \(await outcomes.notice(request))
                <div id="deliveries" data-live="\(filter.path(under: "/deliveries/list"))" data-topics="deliveries">
                \(try await list(filter, context.visitor))
                </div>
                """
        ).response()
    }

    private static func filter(_ request: Request) -> DeliveryFilter {
        DeliveryFilter { request.uri.queryParameters[Substring($0)].map(String.init) }
    }

    /// What follows the node.
    private func list(_ filter: DeliveryFilter, _ visitor: Visitor) async throws -> HTML {
        let now = parts.clock.now()
        let known = parts.peers.destinations
        let figures = try await parts.ledger.destinationFigures(of: known.map(\.name), since: now - 86400)
        let found = try await parts.ledger.deliveries(filter.query)
        let reach = await parts.peers.reach()
        let cards = Self.inOrder(figures, known).map { each in
            DestinationCard(
                figures: each, configured: known.first { $0.name == each.destination },
                reach: reach[each.destination] ?? DestinationReach(), now: now, visitor: visitor)
        }
        let table = DeliveryTable(
            deliveries: found.entries, patients: try await patients(found.entries, visitor), filter: filter,
            reach: reach, now: now, visitor: visitor)
        return """
            <section aria-label="Destinations" class="cards destinations">
            \(cards.map(\.html))
            </section>
            <section class="card" aria-labelledby="outbox-title">
            <h2 id="outbox-title">Outbox</h2>
            \(filterForm(filter, figures.map(\.destination)))
            \(table.html)
            \(Paging(number: filter.page, total: found.total).navigation { filter.path(page: $0) })
            </section>
            """
    }

    /// Name and accession number by study, for whoever may see them.
    private func patients(_ deliveries: [DeliveryEntry], _ visitor: Visitor) async throws -> [UID: String] {
        var patients: [UID: String] = [:]
        guard visitor.maySeePatients else { return patients }
        for uid in Set(deliveries.compactMap(\.studyInstanceUID)) {
            let record = try await parts.ledger.firstInstance(ofStudy: uid)?.record
            let words = [record?.patient.name.map(PatientWords.name), record?.study.accessionNumber]
            patients[uid] = words.compactMap { $0 }.filter { !$0.isEmpty }.joined(separator: " · ")
        }
        return patients
    }

    /// As configured; at the end those that are not any more.
    private static func inOrder(
        _ figures: [DestinationFigures], _ known: [ConfiguredDestination]
    ) -> [DestinationFigures] {
        let names = known.map(\.name)
        return names.compactMap { name in figures.first { $0.destination == name } }
            + figures.filter { !names.contains($0.destination) }
    }

    private func filterForm(_ filter: DeliveryFilter, _ destinations: [String]) -> HTML {
        func option(_ value: String, _ title: String, _ isChosen: Bool) -> HTML {
            "<option value=\"\(value)\"\((isChosen ? " selected" : "") as HTML)>\(title)</option>"
        }
        // One that is asked for and has no delivery left stays visible as what is asked for.
        let names = destinations + [filter.destination].compactMap { $0 }.filter { !destinations.contains($0) }
        return """
            <form method="get" action="/deliveries" class="row filter">
            <label>Destination<select name="destination">\(option("", "all", filter.destination == nil))\
            \(names.map { option($0, $0, $0 == filter.destination) })</select></label>
            <label>State<select name="state">\
            \(DeliveryFilter.Standing.allCases.map { option($0.rawValue, $0.title, $0 == filter.standing) })\
            </select></label>
            <button>Show</button>
            </form>
            """
    }

    // MARK: Acting

    private func perform(
        _ action: (Int64) -> NodeAction, _ request: Request, _ context: ConsoleContext
    ) async throws -> Response {
        guard let id = context.parameters.get("id", as: Int64.self) else { throw HTTPError(.notFound) }
        let told: String
        do {
            let done = try await parts.actions.perform(action(id), by: context.visitor.user ?? "")
            told = await outcomes.keep(done, isDone: true)
        } catch { told = await outcomes.keep(error.reason, isDone: false) }
        return .seeOther(DeliveryFilter { context.form[$0] }.path(told: told))
    }

    /// Each is an action of its own, as if an operator had clicked each.
    @Sendable private func retryGivenUp(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        guard let destination = context.form["destination"], !destination.isEmpty else {
            throw HTTPError(.badRequest, message: "no destination is named")
        }
        let filter = DeliveryFilter(destination: destination)
        let given = DeliveryQuery(destination: destination, states: [.dead], limit: Self.mostRetried)
        do {
            let found = try await parts.ledger.deliveries(given)
            var (retried, refusals) = (0, [String]())
            for delivery in found.entries {
                do throws(ActionRefusal) {
                    _ = try await parts.actions.perform(.retry(delivery.id), by: context.visitor.user ?? "")
                    retried += 1
                } catch { refusals.append(error.reason) }
            }
            let left = found.total - found.entries.count
            var text = "\(Words.count(retried, "delivery", "deliveries")) to \(destination) tried again now"
            if left > 0 { text += "; \(left) more were given up: ask once more" }
            if let first = refusals.first { text += "; \(refusals.count) were not: \(first)" }
            return .seeOther(filter.path(told: await outcomes.keep(text, isDone: refusals.isEmpty)))
        } catch {
            return .seeOther(filter.path(told: await outcomes.keep("the ledger cannot be used", isDone: false)))
        }
    }
}
