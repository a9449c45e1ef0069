internal import Foundation
internal import Ledger
internal import WorkerProtocol

/// One destination: whether it answers, and what it is owed.
struct DestinationCard {
    var figures: DestinationFigures
    /// nil: nobody of this name is configured, and something is owed all the same.
    var configured: ConfiguredDestination?
    var reach: DestinationReach
    var now: Date
    var visitor: Visitor

    var html: HTML {
        """
        <article class="card">
        <h2>\(figures.destination) \(standing)</h2>
        <p class="soft">\(address)</p>
        \(trouble)
        <dl class="facts">
        <dt>Waiting</dt><dd>\(waiting)</dd>
        \(uncommitted)<dt>Given up</dt><dd>\(givenUp)</dd>
        <dt>Last 24 h</dt><dd>\(lately)</dd>
        <dt>Last delivered</dt><dd>\(figures.lastDeliveredAt.map(Words.timeElement) ?? "never")</dd>
        </dl>
        \(retry)
        </article>
        """
    }

    private var standing: HTML {
        if configured == nil { return "<span class=\"tag warning\">not configured</span>" }
        if reach.blockage != nil { return "<span class=\"tag positive\">out of reach</span>" }
        if reach.lastAnswerAt != nil { return "<span class=\"tag good\">answers</span>" }
        return "<span class=\"tag\">not tried since the start</span>"
    }

    private var address: HTML {
        guard let configured else {
            return "Nobody of this name is configured: name it again, and it is served, or discard what it is owed."
        }
        let title: HTML? = configured.aeTitle.map { "<span class=\"mono\">\($0.string)</span> at " }
        return "\(configured.kind.rawValue), \(title)<span class=\"mono\">\(configured.address)</span>"
    }

    private var trouble: HTML? {
        if let blockage = reach.blockage {
            return """
                <div class="trouble"><p>Nothing reaches it since \(Words.timeElement(blockage.since)) \
                (\(Words.span(now.timeIntervalSince(blockage.since)))), \
                \(Words.count(blockage.attempts, "attempt")). \
                Next attempt \(Self.next(blockage.nextAttemptAt, now)).</p>
                <p>\(Self.error(blockage.reason, visitor))</p></div>
                """
        }
        guard let error = figures.lastError else { return nil }
        return "<div class=\"trouble\"><p>Last error of what waits: \(Self.error(error, visitor))</p></div>"
    }

    private var waiting: HTML {
        guard figures.waiting > 0 else { return "nothing" }
        let age = figures.waitingSince.map { "the oldest for \(Words.span(now.timeIntervalSince($0)))" } ?? ""
        return "\(link(.waiting, Words.count(figures.waiting, "delivery", "deliveries"))), \(age)"
    }

    private var uncommitted: HTML? {
        guard figures.uncommitted > 0 else { return nil }
        return "<dt>Not committed yet</dt><dd>\(link(.uncommitted, "\(figures.uncommitted)"))</dd>\n"
    }

    private var givenUp: HTML {
        guard figures.givenUp > 0 else { return "nothing" }
        let count = Words.count(figures.givenUp, "delivery", "deliveries")
        return "<strong class=\"bad\">\(link(.givenUp, count))</strong>"
    }

    private var lately: HTML {
        guard let median = figures.medianSeconds else { return "nothing delivered" }
        return "\(link(.delivered, "\(figures.delivered) delivered")), half within \(Words.span(median)) of the result"
    }

    private func link(_ standing: DeliveryFilter.Standing, _ text: String) -> HTML {
        let path = DeliveryFilter(destination: figures.destination, standing: standing).path()
        return "<a href=\"\(path)\">\(text)</a>"
    }

    private var retry: HTML? {
        guard visitor.mayAct, figures.givenUp > 0 else { return nil }
        let few = min(figures.givenUp, DeliveriesPage.mostRetried)
        let question = "Try \(Words.count(few, "delivery", "deliveries")) to \(figures.destination) again now?"
        return """
            <form method="post" action="/deliveries/retry-given-up">\(visitor.csrfField)\
            <input type="hidden" name="destination" value="\(figures.destination)">\
            <button data-confirm="\(question)">Retry all that were given up</button></form>
            """
    }

    // MARK: Words

    static func next(_ date: Date, _ now: Date) -> HTML {
        date <= now ? "now" : "at \(Words.timeElement(date))"
    }

    /// What a peer said may name a patient. Long ones are cut to be read, and in full for whoever asks.
    static func error(_ text: String, _ visitor: Visitor) -> HTML {
        guard visitor.maySeePatients else { return "<span class=\"soft\">\(Visitor.hiddenReason)</span>" }
        guard text.count > 160 else { return "<span class=\"said\">\(text)</span>" }
        return """
            <details class="said"><summary>\(Words.bounded(text, 140))</summary>\(Words.bounded(text, 2000))</details>
            """
    }
}
