internal import Foundation
internal import Hummingbird
internal import Ledger

/// What an operator should look at now, and what there was.
struct AlertsPage {
    /// Shown of what is active: more than that is one trouble, not many.
    private static let mostActive = 200

    let parts: ConsoleServer.Parts

    var routes: [ConsoleRoute] {
        [
            .get("/alerts", .overview, show),
            .get("/alerts/list", .overview) { request, _ in
                try await list(Paging.number(request.uri.queryParameters["page"])).response()
            },
        ]
    }

    @Sendable private func show(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        let number = Paging.number(request.uri.queryParameters["page"])
        return Page(
            title: ConsoleArea.alerts.title, area: .alerts, visitor: context.visitor, styles: ["exchange.css"],
            scripts: ["live.js"],
            content: """
                \(Page.liveHead("Alerts", parts.clock.now()))
                <p class="soft">What the node asks an operator to look at. Findings are told to PACS, RIS and webhooks \
                as <a href="/deliveries?state=all">deliveries</a>.</p>
                <div id="alerts" data-live="/alerts/list?page=\(number)" data-topics="alerts">
                \(try await list(number))
                </div>
                """
        ).response()
    }

    /// What follows the node. It has nothing of a patient.
    private func list(_ number: Int) async throws -> HTML {
        let now = parts.clock.now()
        let active = try await parts.ledger.operatorAlerts(.active, limit: Self.mostActive, offset: 0)
        let over = try await parts.ledger.operatorAlerts(.over, limit: Paging.size, offset: Paging.offset(number))
        return """
            <section aria-labelledby="active-title">
            <h2 id="active-title">Active <span class="soft">(\(active.total))</span></h2>
            \(active.entries.isEmpty ? Self.nothing : "\(active.entries.map { Self.card($0, now) })")
            \(Self.more(active))
            </section>
            <section class="card" aria-labelledby="history-title">
            <h2 id="history-title">Over</h2>
            \(Self.history(over.entries))
            \(Paging(number: number, total: over.total).navigation { $0 == 1 ? "/alerts" : "/alerts?page=\($0)" })
            </section>
            """
    }

    private static let nothing: HTML = "<div class=\"notice good\">No alert is active.</div>"

    private static func more(_ active: LedgerPage<OperatorAlertEntry>) -> HTML? {
        let left = active.total - active.entries.count
        return left > 0 ? "<p>\(left) earlier ones are active as well.</p>" : nil
    }

    private static func card(_ alert: OperatorAlertEntry, _ now: Date) -> HTML {
        let span = Words.span(now.timeIntervalSince(alert.raisedAt))
        return """
            <article class="card alert">
            <h3><span class="tag \(tone(alert.kind))">\(title(alert.kind))</span> \(subject(alert))</h3>
            <p>\(withCode(alert.text))</p>
            <p class="soft">Since \(Words.timeElement(alert.raisedAt)) (\(span))\(again(alert))</p>
            </article>

            """
    }

    private static func history(_ alerts: [OperatorAlertEntry]) -> HTML {
        if alerts.isEmpty { return "<p class=\"empty\">No alert has been over yet.</p>" }
        let rows = alerts.map { alert -> HTML in
            let lasted = alert.clearedAt.map { Words.span($0.timeIntervalSince(alert.raisedAt)) } ?? "–"
            return """
                <tr><td data-label="Alert"><span>\(title(alert.kind))\(again(alert))</span></td>
                <td data-label="About" class="uid"><span>\(subject(alert))</span></td>
                <td data-label="Raised">\(Words.timeElement(alert.raisedAt))</td>
                <td data-label="Lasted" class="nowrap">\(lasted)</td>
                <td data-label="What it said"><span class="said">\(withCode(alert.text))</span></td></tr>

                """
        }
        return """
            <div class="scroll"><table class="stacked">
            <thead><tr><th>Alert</th><th>About</th><th>Raised</th><th>Lasted</th><th>What it said</th></tr></thead>
            <tbody>
            \(rows)</tbody></table></div>
            """
    }

    private static func again(_ alert: OperatorAlertEntry) -> HTML? {
        alert.occurrence > 1 ? " <small>(time no. \(alert.occurrence))</small>" : nil
    }

    private static func title(_ kind: OperatorAlertKind) -> String {
        switch kind {
        case .noResult: "No result"
        case .destinationFailing: "Destination failing"
        case .deliveryGivenUp: "Deliveries given up"
        case .diskShort: "Disk short"
        case .processCrashes: "Processes die"
        case .certificateExpiring: "Certificate"
        case .identityConflict: "Identity conflict"
        }
    }

    /// What keeps a patient's result from somebody, or soon will; and what can wait until the morning.
    private static func tone(_ kind: OperatorAlertKind) -> String {
        switch kind {
        case .noResult, .destinationFailing, .deliveryGivenUp, .diskShort, .identityConflict: "positive"
        case .processCrashes, .certificateExpiring: "warning"
        }
    }

    /// With the way to where something can be done about it.
    private static func subject(_ alert: OperatorAlertEntry) -> HTML {
        switch alert.kind {
        case .noResult, .identityConflict:
            return "<a class=\"mono\" href=\"/studies/\(alert.subject)\">\(alert.subject)</a>"
        case .destinationFailing:
            return "<a href=\"\(DeliveryFilter(destination: alert.subject).path())\">\(alert.subject)</a>"
        case .deliveryGivenUp:
            let filter = DeliveryFilter(destination: alert.subject, standing: .givenUp)
            return "<a href=\"\(filter.path())\">\(alert.subject)</a>"
        case .diskShort, .processCrashes, .certificateExpiring:
            return "<a href=\"/system\">\(alert.subject)</a>"
        }
    }

    /// What stands between backticks is a command.
    private static func withCode(_ text: String) -> HTML {
        let parts = text.split(separator: "`", omittingEmptySubsequences: false)
        return "\(parts.enumerated().map { $0 % 2 == 1 ? "<code>\(String($1))</code>" : "\(String($1))" as HTML })"
    }
}
