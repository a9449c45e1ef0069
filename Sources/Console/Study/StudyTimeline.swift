internal import Foundation
internal import Ledger

/// What happened to a study, and why, in the order of time.
struct StudyTimeline {
    enum Tone: String { case plain = "", good, warning, positive, busy }

    struct Entry {
        var at: Date
        var what: String
        var text: String
        var tone = Tone.plain
    }

    /// What is shown of a longer history: the latest.
    static let mostEntries = 300

    /// Oldest first.
    var entries: [Entry]
    /// How many older ones are not shown.
    var leftOut: Int
    /// What is still under way, and what it waits for.
    var open: [Entry]

    init(_ study: ShownStudy, now: Date) {
        let all =
            Self.arrivals(study.detail.study) + Self.events(study.detail, study.visitor)
            + Self.owed(study.detail.deliveries) + Self.alerts(study.alerts)
        // Of what happened at one moment the order above is the order of cause and effect.
        let sorted = all.enumerated().sorted { ($0.element.at, $0.offset) < ($1.element.at, $1.offset) }
        entries = sorted.suffix(Self.mostEntries).map(\.element)
        leftOut = max(0, all.count - Self.mostEntries)
        open = Self.open(study, now)
    }

    private static func arrivals(_ study: StudyEntry) -> [Entry] {
        let sender = "from \(study.callingAETitle ?? "a sender without AE title")"
        let first = Entry(at: study.firstReceivedAt, what: "First image", text: sender)
        guard study.lastReceivedAt > study.firstReceivedAt else { return [first] }
        let count = Words.count(study.instanceCount, "image")
        let span = Words.span(study.lastReceivedAt.timeIntervalSince(study.firstReceivedAt))
        return [first, Entry(at: study.lastReceivedAt, what: "Last image so far", text: "\(count) within \(span)")]
    }

    private static func events(_ detail: StudyDetail, _ visitor: Visitor) -> [Entry] {
        var analyses = detail.analyses[...]
        var revision = 0
        return detail.events.flatMap { event -> [Entry] in
            guard event.kind == "concluded", let analysis = analyses.popFirst() else {
                return [Self.entry(event, visitor)]
            }
            if analysis.report != nil { revision += 1 }
            return concluded(analysis, at: event.at, revision: revision, detail)
        }
    }

    private static func entry(_ event: StudyEvent, _ visitor: Visitor) -> Entry {
        var entry = Entry(at: event.at, what: titles[event.kind] ?? event.kind, text: event.text)
        switch event.kind {
        case "delivery":
            if event.text.contains("failed") || event.text.contains("given up") { entry.tone = .warning }
            if event.text.hasSuffix("accepted") || event.text.contains("committed") { entry.tone = .good }
        case "alert", "conflict", "text", "waits", "restored": entry.tone = .warning
        default: break
        }
        // They quote what a peer said.
        if ["delivery", "retrieve"].contains(event.kind) { entry.text = visitor.mayRead(event.text) }
        return entry
    }

    private static let titles = [
        "complete": "Complete", "concluded": "Outcome", "unchanged": "Nothing new", "waits": "Waits on",
        "operator": "Operator", "reopened": "Operator", "delivery": "Delivery", "conflict": "Other bytes",
        "text": "Text", "trace": "Encoded ahead", "retrieve": "Asked the PACS", "purged": "Images removed",
        "restored": "Images lost", "alert": "Nobody alerted",
    ]

    private static func concluded(
        _ analysis: AnalysisEntry, at moment: Date, revision: Int, _ detail: StudyDetail
    ) -> [Entry] {
        let chosen = detail.series.first { $0.seriesInstanceUID == analysis.seriesInstanceUID }
        let series = chosen.map { "series \($0.number.map(String.init) ?? "?"): \($0.reason)" }
        let start = Entry(at: analysis.startedAt, what: "Analysis begins", text: series ?? "without a series")
        var words = ["took \(Words.span(analysis.completedAt.timeIntervalSince(analysis.startedAt)))"]
        if let probability = analysis.shownProbability, let threshold = analysis.threshold {
            words.append("probability \(Words.probability(probability)), threshold \(Words.probability(threshold))")
        }
        if analysis.outcome == .positive { words.append("\(analysis.flaggedSlices) slices flagged") }
        if !analysis.reason.isEmpty { words.append(analysis.reason) }
        let tone: Tone =
            switch analysis.outcome {
            case .positive: .positive
            case .undetermined: .warning
            case .negative, .notHeadCT: .plain
            }
        let end = Entry(
            at: moment, what: "Outcome: \(analysis.outcome.rawValue)", text: words.joined(separator: "; "), tone: tone)
        guard analysis.report != nil else { return [start, end] }
        let name = revision > 1 ? "revision \(revision), supersedes the earlier" : "the first"
        return [start, end, Entry(at: moment, what: "Report", text: "\(name); by route \(analysis.route)")]
    }

    private static func owed(_ deliveries: [DeliveryEntry]) -> [Entry] {
        deliveries.map { delivery in
            Entry(
                at: delivery.createdAt, what: "Owed",
                text: "to \(delivery.destination): \(delivery.owedText) (delivery \(delivery.id))")
        }
    }

    private static func alerts(_ alerts: [OperatorAlertEntry]) -> [Entry] {
        alerts.flatMap { alert in
            [Entry(at: alert.raisedAt, what: "Operators alerted", text: alert.text, tone: .warning)]
                + (alert.clearedAt.map { [Entry(at: $0, what: "Alert over", text: alert.text)] } ?? [])
        }
    }

    // MARK: Under way

    private static func open(_ study: ShownStudy, _ now: Date) -> [Entry] {
        let visitor = study.visitor
        var open: [Entry] = []
        let entry = study.detail.study
        if entry.state != .concluded {
            let standing =
                study.explanation?.standing
                ?? "for what cannot be read now: \(visitor.mayRead(study.unexplained ?? ""))"
            open.append(Entry(at: now, what: "Waits", text: standing, tone: .busy))
        }
        for delivery in study.detail.deliveries where delivery.state.isOpen {
            open.append(
                Entry(
                    at: now, what: delivery.state == .dead ? "Given up" : "Owed",
                    text: "\(delivery.destination): \(waiting(delivery, visitor, now))",
                    tone: delivery.state == .dead ? .warning : .busy))
        }
        return open
    }

    private static func waiting(_ delivery: DeliveryEntry, _ visitor: Visitor, _ now: Date) -> String {
        let error = delivery.lastError.map { " (\(visitor.mayRead($0)))" } ?? ""
        let next =
            delivery.nextAttemptAt > now ? "next attempt \(Words.time(delivery.nextAttemptAt))" : "next attempt now"
        switch delivery.state {
        case .accepted:
            let asked = delivery.commitmentAskedAt.map { ", asked \(Words.time($0))" } ?? ""
            return "accepted; it has yet to say that it keeps all\(asked)\(error)"
        case .dead:
            let reason = delivery.lastError.map(visitor.mayRead) ?? "refused"
            return "\(reason): mend the cause, then try again below"
        default: return delivery.attempts == 0 ? "waits its turn" : "\(delivery.attempts) attempts\(error), \(next)"
        }
    }

    // MARK: Markup

    var html: HTML {
        """
        <ol class="timeline">
        \(leftOut > 0 ? "<li class=\"soft\">\(leftOut) earlier entries are not shown</li>\n" as HTML : nil)\
        \(entries.map { Self.line($0, Words.timeElement($0.at)) })\
        \(open.map { Self.line($0, "<span class=\"nowrap\">now</span>") })</ol>
        """
    }

    private static func line(_ entry: Entry, _ time: HTML) -> HTML {
        """
        <li class="\(entry.tone.rawValue)"><span class="when">\(time)</span> <strong>\(entry.what)</strong> \
        <span class="why">\(entry.text)</span></li>

        """
    }
}

extension DeliveryEntry {
    /// What it is of.
    var owedText: String {
        message == nil ? Words.count(objects.count, "object") : "a message"
    }
}
