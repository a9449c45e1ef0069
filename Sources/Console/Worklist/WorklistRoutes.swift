internal import Foundation
internal import Hummingbird
internal import Ledger

/// The list of studies, what is urgent first; it follows what happens.
struct WorklistRoutes {
    let parts: ConsoleServer.Parts
    let fragments: LiveFragments

    private static let mostAlerts = 3

    var routes: [ConsoleRoute] {
        [
            .get("/", .overview) { request, context in
                let filter = WorklistFilter(request, mayName: context.visitor.maySeePatients)
                let list = try await list(filter, context.visitor)
                return WorklistPage(filter: filter, visitor: context.visitor).page(list).response()
            },
            .get("/worklist/list", .overview) { request, context in
                let visitor = context.visitor
                let filter = WorklistFilter(request, mayName: visitor.maySeePatients)
                let key = LiveFragments.Key(
                    content: "/worklist/list" + filter.address, showsPatients: visitor.maySeePatients)
                return try await fragments.response(key, to: request) { try await list(filter, visitor) }
            },
        ]
    }

    private func list(_ filter: WorklistFilter, _ visitor: Visitor) async throws -> HTML {
        let now = parts.clock.now()
        let listing = try await parts.ledger.studies(matching: filter.query(at: now))
        let hidden = listing.rows.isEmpty ? try await hidden(filter, now) : []
        // One more than is shown: that there are more.
        let alerts = try await parts.ledger.operatorAlerts(all: false, limit: Self.mostAlerts + 1)
        return WorklistPage(filter: filter, visitor: visitor).list(
            listing, hidden: hidden, notReady: await parts.notReady(), alerts: alerts, mostAlerts: Self.mostAlerts,
            now: now)
    }

    /// Which part of the filter hides how many.
    private func hidden(_ filter: WorklistFilter, _ now: Date) async throws -> [HiddenStudies] {
        let wider: [(String, WorklistFilter)] = [
            filter.page == 1 ? nil : ("that there is no such page", filter.with { $0.page = 1 }),
            filter.text.isEmpty ? nil : ("the text", filter.with { $0.text = "" }),
            filter.standing == .all ? nil : ("the standing", filter.with { $0.standing = .all }),
            filter.period == .all ? nil : ("the period", filter.with { $0.period = .all }),
            (
                "the filter",
                filter.with {
                    $0 = WorklistFilter(); $0.period = .all
                }
            ),
        ].compactMap(\.self)
        let counts = try await parts.ledger.studyCounts(matching: wider.map { $0.1.query(at: now) })
        let hidden = zip(wider, counts).filter { $1 > 0 }.map {
            HiddenStudies(by: $0.0, count: $1, without: $0.1)
        }
        // All of it together says nothing new where one part says it.
        return hidden.count > 1 ? hidden.filter { $0.by != "the filter" } : hidden
    }
}

/// What would be seen without a part of the filter.
struct HiddenStudies: Sendable {
    var by: String
    var count: Int
    var without: WorklistFilter
}
