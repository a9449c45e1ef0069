internal import Foundation
internal import Ledger
internal import WorkerProtocol

/// The page of one study.
struct StudyPage {
    /// Deliveries that are shown one by one: the latest.
    static let mostDeliveries = 20

    let study: ShownStudy
    /// nil where there is none, or the visitor may not see it.
    let report: StudyReportView?
    /// Images with their heatmaps; nil as the report.
    let viewer: HTML?
    let notice: HTML?
    let now: Date

    private var entry: StudyEntry { study.detail.study }
    private var address: String { "/studies/\(study.uid)" }
    private var visitor: Visitor { study.visitor }

    var page: Page {
        Page(
            title: "Study", area: .worklist, visitor: visitor, styles: ["study.css"] + StudyViewer.styles,
            scripts: ["live.js"] + StudyViewer.scripts,
            content: """
                <p><span id="live-state" class="soft">as of \(Words.time(now)): reload for news</span></p>
                \(notice)\
                \(part("finding", finding))
                \(viewer)
                \(report?.html(study.uid))
                \(part("course", course))
                \(StudyObjects(study: study).html)
                """)
    }

    /// A part that changes while one looks at it; by its name where that is asked for alone.
    func part(named name: String) -> HTML? {
        switch name {
        case "finding": finding
        case "course": course
        default: nil
        }
    }

    private func part(_ name: String, _ content: HTML) -> HTML {
        """
        <div id="\(name)" data-live="\(address)/live/\(name)" data-topics="study:\(study.uid.string)">\(content)</div>
        """
    }

    private var course: HTML {
        """
        \(timeline)
        \(series)
        \(StudyDeliveries(study: study).html)

        """
    }

    // MARK: Head

    private var finding: HTML {
        let statement = StudyStatement(study)
        let sentences = statement.sentences.filter { !$0.isEmpty }.map { "<p>\($0)</p>\n" as HTML }
        return """
            <h1>\(patient) \(HTML.standing(entry.state, entry.outcome))</h1>
            <section class="notice statement \(statement.tone)">
            <h2>\(statement.headline)</h2>
            \(sentences)</section>
            <section class="card">
            <dl class="facts">
            \(facts.map { "<dt>\($0.name)</dt><dd>\($0.value)</dd>\n" as HTML })</dl>
            \(StudyActions(study: study).html)</section>
            """
    }

    private var patient: HTML {
        guard visitor.maySeePatients else { return "Study" }
        let name = study.identity?.patient.name.map(PatientWords.name) ?? ""
        return name.isEmpty ? "Patient without name" : "\(name)"
    }

    private var facts: [(name: String, value: HTML)] {
        var facts = identity
        facts.append(("Study Instance UID", "<span class=\"mono\">\(study.uid.string)</span>"))
        let called = entry.calledAETitle.map { ", to \($0)" } ?? ""
        facts.append(("Sender", "\(entry.callingAETitle ?? "without AE title")\(called)"))
        facts.append(("Images", "\(images)"))
        if let latest = study.latest, let probability = latest.shownProbability, let threshold = latest.threshold {
            let text = "\(Words.probability(probability)); flagged from \(Words.probability(threshold)) on"
            facts.append(("Probability", "\(text)"))
        }
        if let reason = entry.reason, !reason.isEmpty { facts.append(("Reason", "\(reason)")) }
        if let latest = study.latest {
            facts.append(("Analysed", "\(Words.timeElement(latest.completedAt))\(revision)"))
        }
        return facts
    }

    /// Revision of the report, where there is one.
    private var revision: String {
        let count = study.reported.count
        guard count > 0 else { return ", without a report" }
        return count == 1 ? ", revision 1" : ", revision \(count): supersedes the earlier report"
    }

    private var identity: [(name: String, value: HTML)] {
        guard visitor.maySeePatients else {
            return [("Patient", "<span class=\"soft\">shown to users who may see patients</span>")]
        }
        let patient = study.identity?.patient
        let details = [
            patient?.id.map { "ID \($0)" }, patient?.birthDate.map { "born \(Self.date($0))" },
            PatientWords.sex(patient?.sex),
        ].compactMap { $0 }.filter { !$0.isEmpty }
        return [
            ("Patient", "\(details.isEmpty ? "–" : details.joined(separator: ", "))"),
            ("Accession number", "\(entry.accessionNumber ?? "–")"), ("Description", "\(entry.description ?? "–")"),
            ("Study date", "\(study.identity?.study.date.map(Self.date) ?? "–")"),
            ("Institution", "\(study.identity?.study.institutionName ?? "–")"),
        ]
    }

    private var images: String {
        let received = "\(entry.instanceCount), the last \(Words.time(entry.lastReceivedAt))"
        guard entry.purgedCount > 0 else { return received }
        let removed = entry.purgedCount == entry.instanceCount ? "all" : "\(entry.purgedCount)"
        return "\(received); retention removed \(removed) of them, reports and pictures are kept"
    }

    /// DA (PS3.5 §6.2); anything else as it stands.
    private static func date(_ text: String) -> String {
        guard text.utf8.count == 8, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return text }
        return "\(text.prefix(4))-\(text.dropFirst(4).prefix(2))-\(text.suffix(2))"
    }

    // MARK: Sections

    private var timeline: HTML {
        """
        <section class="card">
        <h2>What happened</h2>
        \(StudyTimeline(study, now: now).html)</section>
        """
    }

    private var series: HTML {
        let entries = study.explanation?.series ?? study.detail.series
        guard !entries.isEmpty else {
            let why = study.unexplained == nil ? "Not judged yet" : "Cannot be read now"
            return "<section class=\"card\"><h2>Series</h2><p class=\"empty\">\(why)</p></section>"
        }
        return """
            <section class="card">
            <h2>Series</h2>
            <div class="scroll"><table class="stacked">
            <thead><tr><th>No.</th><th>Description</th><th class="number">Images</th><th>Verdict</th><th>Why</th>\
            <th>Series Instance UID</th></tr></thead>
            <tbody>
            \(entries.prefix(Self.mostSeries).map(row))</tbody>
            </table></div>
            \(entries.count > Self.mostSeries ? "<p class=\"soft\">\(entries.count - Self.mostSeries) more</p>" : nil)
            </section>
            """
    }

    private static let mostSeries = 200

    private func row(_ series: SeriesVerdictEntry) -> HTML {
        let tone = series.verdict == "chosen" ? "good" : ""
        let description = visitor.maySeePatients ? series.description ?? "–" : "hidden"
        return """
            <tr><td data-label="No.">\(series.number.map(String.init) ?? "–")</td>\
            <td data-label="Description">\(description)</td>\
            <td data-label="Images" class="number">\(series.instanceCount)</td>\
            <td data-label="Verdict"><span class="tag \(tone)">\(series.verdict)</span></td>\
            <td data-label="Why">\(series.reason)</td>\
            <td data-label="Series Instance UID" class="mono">\(series.seriesInstanceUID.string)</td></tr>

            """
    }
}
