internal import Foundation
internal import Ledger
internal import WorkerProtocol

/// Deliveries, one a row, with what can be done about each.
struct DeliveryTable {
    /// Kinds of objects that are told apart in one row.
    private static let mostLines = 12

    var deliveries: [DeliveryEntry]
    /// By study, as far as the visitor may know.
    var patients: [UID: String]
    var filter: DeliveryFilter
    var reach: [String: DestinationReach]
    var now: Date
    var visitor: Visitor

    var html: HTML {
        if deliveries.isEmpty {
            let where_ = filter.destination.map { " to \($0)" } ?? ""
            return "<p class=\"empty\">No delivery\(where_) is in this state: \(filter.standing.title).</p>"
        }
        let actions: HTML? = visitor.mayAct ? "<th><span class=\"hidden\">Actions</span></th>" : nil
        return """
            <div class="scroll"><table class="stacked deliveries">
            <thead><tr><th>Delivery</th><th>Study</th><th>Destination</th><th>State</th><th>What</th>\
            <th>Last error</th>\(actions)</tr></thead>
            <tbody>
            \(deliveries.map(row))</tbody>
            </table></div>
            """
    }

    private func row(_ delivery: DeliveryEntry) -> HTML {
        """
        <tr id="delivery-\(Int(delivery.id))">
        <td data-label="Delivery"><span>\(Int(delivery.id))<br><small>\(Words.timeElement(delivery.createdAt))</small>\
        </span></td>
        <td data-label="Study" class="uid">\(study(delivery))</td>
        <td data-label="Destination"><span>\(delivery.destination)\(instead(delivery))</span></td>
        <td data-label="State"><span>\(Self.tag(delivery))<br><small>\(course(delivery))</small></span></td>
        <td data-label="What">\(owed(delivery))</td>
        <td data-label="Last error">\(delivery.lastError.map { DestinationCard.error($0, visitor) } ?? "–")</td>
        \(actions(delivery))</tr>

        """
    }

    private func study(_ delivery: DeliveryEntry) -> HTML {
        guard let uid = delivery.studyInstanceUID else {
            return "<span>about the node: <a href=\"/alerts\">alerts</a></span>"
        }
        guard let patient = patients[uid], !patient.isEmpty else {
            return "<a class=\"mono\" href=\"/studies/\(uid.string)\">\(uid.string)</a>"
        }
        return "<a href=\"/studies/\(uid.string)\" title=\"\(uid.string)\">\(patient)</a>"
    }

    private func instead(_ delivery: DeliveryEntry) -> HTML? {
        delivery.takenBy.map { "<br><small>taken by \($0) in its place</small>" }
    }

    private static func tag(_ delivery: DeliveryEntry) -> HTML {
        switch delivery.state {
        case .pending where delivery.attempts == 0: "<span class=\"tag busy\">waiting</span>"
        case .pending: "<span class=\"tag warning\">tried again</span>"
        case .accepted: "<span class=\"tag busy\">not committed yet</span>"
        case .delivered where delivery.transactionUID != nil: "<span class=\"tag good\">committed</span>"
        case .delivered: "<span class=\"tag good\">delivered</span>"
        case .dead: "<span class=\"tag positive\">given up</span>"
        case .superseded: "<span class=\"tag\">withdrawn: later revision</span>"
        case .discarded: "<span class=\"tag\">withdrawn by an operator</span>"
        }
    }

    /// Attempts, and when the next is, or when it was over.
    private func course(_ delivery: DeliveryEntry) -> HTML {
        let attempts = Words.count(delivery.attempts, "attempt")
        switch delivery.state {
        case .pending:
            // The destination's own pause holds for all that it is owed.
            let paused = reach[delivery.destination]?.blockage?.nextAttemptAt ?? delivery.nextAttemptAt
            let next = DestinationCard.next(max(paused, delivery.nextAttemptAt), now)
            return "\(attempts), next \(next)"
        case .accepted: return "\(attempts), \(delivery.commitmentAskedAt == nil ? "to be asked for" : "asked for")"
        case .delivered:
            guard let at = delivery.deliveredAt else { return "\(attempts)" }
            let span = Words.span(at.timeIntervalSince(delivery.createdAt))
            return "\(attempts), after \(span), at \(Words.timeElement(at))"
        case .dead, .superseded, .discarded: return "\(attempts)"
        }
    }

    // MARK: What is owed

    private func owed(_ delivery: DeliveryEntry) -> HTML {
        if let message = delivery.message { return "<span>message <span class=\"mono\">\(message.id)</span></span>" }
        // Alike ones together, in their order.
        var lines: [(line: Line, count: Int)] = []
        for object in delivery.objects {
            let line = Line(object)
            if let index = lines.firstIndex(where: { $0.line == line }) {
                lines[index].count += 1
            } else {
                lines.append((line, 1))
            }
        }
        let more = lines.count - Self.mostLines
        let rest: HTML? = more > 0 ? "<li>and \(more) more kinds</li>" : nil
        let items = lines.prefix(Self.mostLines).map { item($0, $1, said: delivery.lastError ?? "") }
        return "<ul class=\"objects\">\(items)\(rest)</ul>"
    }

    private struct Line: Equatable {
        var kind: String
        var state: DeliveryState
        var status: UInt16?
        var reason: String?

        init(_ object: DeliveryObject) {
            kind = Self.kind(object.object.sopClassUID)
            (state, status, reason) = (object.state, object.status, object.reason)
        }

        private static func kind(_ sopClass: UID) -> String {
            if let report = ReportClass.allCases.first(where: { $0.sopClassUID == sopClass }) {
                return report.title.replacing(" Storage", with: "")
            }
            return others[sopClass.string] ?? sopClass.string
        }

        /// PS3.4 Table B.5-1.
        private static let others = [
            "1.2.840.10008.5.1.4.1.1.7": "picture", "1.2.840.10008.5.1.4.1.1.88.59": "key objects",
        ]
    }

    /// - Parameter said: stands beside it.
    private func item(_ line: Line, _ count: Int, said: String) -> HTML {
        let state =
            switch line.state {
            case .pending: line.status == nil ? "waiting" : "to be tried again"
            case .accepted: "accepted"
            case .delivered: "delivered"
            case .dead: "refused"
            case .superseded, .discarded: "withdrawn"
            }
        let status: HTML? = line.status.map { " <small>(\(PeerStatus.words($0)))</small>" }
        let own = line.reason.flatMap { visitor.maySeePatients && !said.contains($0) ? $0 : nil }
        let reason: HTML? = own.map { "<br><small>\(Words.bounded($0, 200))</small>" }
        return "<li>\(count > 1 ? "\(count) × " : "")\(line.kind): \(state)\(status)\(reason)</li>"
    }

    // MARK: Actions

    private func actions(_ delivery: DeliveryEntry) -> HTML? {
        guard visitor.mayAct else { return nil }
        guard delivery.state.isOpen else { return "<td></td>" }
        let id = Int(delivery.id)
        let question = """
            Withdraw delivery \(id)? What \(delivery.destination) has not taken of it, it does not get, and nobody is \
            told of it again.
            """
        return """
            <td data-label="Actions"><div class="buttons">
            <form method="post" action="/deliveries/\(id)/retry">\(visitor.csrfField)\(filter.fields)\
            <button>\(delivery.state == .accepted ? "Send again" : "Retry now")</button></form>
            <form method="post" action="/deliveries/\(id)/discard">\(visitor.csrfField)\(filter.fields)\
            <button class="danger" data-confirm="\(question)">Discard</button></form>
            </div></td>

            """
    }
}
