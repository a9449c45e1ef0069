internal import Ledger
internal import WorkerProtocol

/// What is and was owed of one study, object by object.
struct StudyDeliveries {
    let study: ShownStudy

    var html: HTML {
        let deliveries = study.detail.deliveries
        guard !deliveries.isEmpty else {
            return """
                <section class="card"><h2>Deliveries</h2><p class="empty">Nothing is owed to anybody</p></section>
                """
        }
        let left = deliveries.count - StudyPage.mostDeliveries
        return """
            <section class="card">
            <h2>Deliveries</h2>
            \(deliveries.suffix(StudyPage.mostDeliveries).reversed().map(delivery))\
            \(left > 0 ? "<p class=\"soft\">\(left) earlier are not shown</p>" as HTML : nil)
            </section>
            """
    }

    private func delivery(_ delivery: DeliveryEntry) -> HTML {
        """
        <article class="delivery" id="delivery-\(Int(delivery.id))">
        <h3>To \(delivery.destination) \(Self.tag(delivery.state)) <small>\(delivery.owedText), delivery \
        \(Int(delivery.id))</small></h3>
        <p>\(story(delivery))</p>
        \(buttons(delivery))\(objects(delivery))</article>

        """
    }

    private func story(_ delivery: DeliveryEntry) -> String {
        var parts = ["made \(Words.time(delivery.createdAt))"]
        if delivery.attempts > 0 {
            parts.append(Words.count(delivery.attempts, "attempt"))
        }
        if let taker = delivery.takenBy { parts.append("taken by \(taker) in its place") }
        if let error = delivery.lastError { parts.append("last error: \(study.visitor.mayRead(error))") }
        switch delivery.state {
        case .pending: parts.append("next attempt \(Words.time(delivery.nextAttemptAt))")
        case .delivered: parts.append("done \(Words.time(delivery.deliveredAt))")
        case .accepted: parts.append("commitment is awaited")
        case .superseded: parts.append("withdrawn: it has a later revision")
        case .discarded: parts.append("withdrawn by an operator")
        case .dead: parts.append("given up")
        }
        return parts.joined(separator: "; ")
    }

    static func tag(_ state: DeliveryState) -> HTML {
        let tone =
            switch state {
            case .pending, .accepted: "busy"
            case .delivered: "good"
            case .dead: "warning"
            case .superseded, .discarded: ""
            }
        return "<span class=\"tag \(tone)\">\(state == .dead ? "given up" : state.rawValue)</span>"
    }

    private func buttons(_ delivery: DeliveryEntry) -> HTML? {
        guard study.visitor.mayAct, delivery.state.isOpen else { return nil }
        let address = "/studies/\(study.uid)/deliveries/\(delivery.id)"
        let question =
            "Withdraw what \(delivery.destination) has not taken of this? It does not get it, and nobody there is told."
        return """
            <div class="buttons">
            <form method="post" action="\(address)/retry">\(study.visitor.csrfField)<button>Try now</button></form>
            <form method="post" action="\(address)/discard">\(study.visitor.csrfField)\
            <button class="danger" data-confirm="\(question)">Withdraw</button></form>
            </div>

            """
    }

    private func objects(_ delivery: DeliveryEntry) -> HTML? {
        guard !delivery.objects.isEmpty else { return nil }
        return """
            <details><summary>\(delivery.owedText)</summary>
            <div class="scroll"><table class="stacked">
            <thead><tr><th>Object</th><th>State</th><th>Status</th><th>Why</th><th>SOP Instance UID</th></tr></thead>
            <tbody>
            \(delivery.objects.map(row))</tbody></table></div></details>

            """
    }

    private func row(_ owed: DeliveryObject) -> HTML {
        // As the standard writes statuses (PS3.7 Annex C).
        let status = owed.status.map { String($0, radix: 16, uppercase: true) }
        let padded = status.map { String(repeating: "0", count: 4 - $0.count) + $0 + "H" }
        return """
            <tr><td data-label="Object">\(owed.object.kind)</td>\
            <td data-label="State">\(Self.tag(owed.state))</td>\
            <td data-label="Status" class="mono">\(padded ?? "–")</td>\
            <td data-label="Why">\(owed.reason.map(study.visitor.mayRead) ?? "–")</td>\
            <td data-label="SOP Instance UID" class="mono">\(owed.object.sopInstanceUID.string)</td></tr>

            """
    }
}
