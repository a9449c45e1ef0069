internal import Foundation
internal import Ledger
internal import WorkerProtocol

/// How the worklist looks.
struct WorklistPage {
    let filter: WorklistFilter
    let visitor: Visitor

    func page(_ list: HTML) -> Page {
        Page(
            title: "Worklist", area: .worklist, visitor: visitor, styles: ["worklist.css"],
            scripts: ["live.js", "worklist.js"],
            content: """
                <div class="list-head"><h1>Worklist</h1><span id="live-state" class="soft">\
                as of \(Words.time(Date.now)): reload for news</span></div>
                \(notUnderstood)\(form)
                <p id="live-news" class="unseen" role="status" aria-live="polite"></p>
                <div id="list" data-live="/worklist/list\(filter.address)" data-topics="studies,alerts">
                \(list)
                </div>
                """)
    }

    private var notUnderstood: HTML? {
        guard !filter.notUnderstood.isEmpty else { return nil }
        let parts = filter.notUnderstood.joined(separator: ", ")
        return "<p class=\"notice warning\" role=\"status\">Of the address this was not understood: \(parts)</p>\n"
    }

    private var form: HTML {
        let search: HTML? =
            visitor.maySeePatients
            ? """
            <label class="wide">Patient, ID, accession, description or Study UID
            <input type="search" name="q" id="search" value="\(filter.text)" maxlength="128" autocomplete="off"></label>
            """ : nil
        return """
            <form class="card row filter" method="get" action="/" role="search">
            \(search)
            <label>Standing<select name="standing">\(WorklistFilter.Standing.allCases.map {
                Self.option($0.rawValue, $0.title, $0 == filter.standing)
            })</select></label>
            <label>Period<select name="period">\(WorklistFilter.Period.allCases.map {
                Self.option($0.rawValue, $0.title, $0 == filter.period)
            })</select></label>
            <button class="primary">Show</button>
            <a class="button" href="/">Reset</a>
            </form>
            """
    }

    private static func option(_ value: String, _ title: String, _ isChosen: Bool) -> HTML {
        let chosen: HTML? = isChosen ? " selected" : nil
        return "<option value=\"\(value)\"\(chosen)>\(title)</option>"
    }

    // MARK: What follows the node

    func list(
        _ listing: StudyListing, hidden: [HiddenStudies], notReady: String?, alerts: [OperatorAlertEntry],
        mostAlerts: Int, now: Date
    ) -> HTML {
        """
        \(Self.banner(notReady, alerts, mostAlerts))
        \(counts(listing))
        \(listing.rows.isEmpty ? empty(hidden) : table(listing.rows, now))
        \(paging(listing))
        """
    }

    private static func banner(_ notReady: String?, _ alerts: [OperatorAlertEntry], _ most: Int) -> HTML {
        let node: HTML? = notReady.map {
            "<div class=\"notice error\"><strong>The node is not ready</strong>: \($0)</div>\n"
        }
        guard !alerts.isEmpty else { return "\(node)" }
        let more: HTML? = alerts.count > most ? "<li>and more</li>" : nil
        return """
            \(node)<div class="notice warning"><a href="/alerts"><strong>Needs an operator</strong></a>
            <ul>\(alerts.prefix(most).map { "<li>\($0.text)</li>" as HTML })\(more)</ul></div>
            """
    }

    private func counts(_ listing: StudyListing) -> HTML {
        let counts = listing.counts
        func count(_ standing: WorklistFilter.Standing) -> Int {
            if standing == .underWay { return counts.underWay }
            return standing.outcome.map { counts.outcomes[$0] ?? 0 } ?? counts.all
        }
        let links = WorklistFilter.Standing.allCases.map { standing -> HTML in
            let current: HTML? = standing == filter.standing ? " aria-current=\"true\"" : nil
            let address = "/" + filter.with { $0.standing = standing }.address
            return "<a href=\"\(address)\"\(current)>\(count(standing)) \(standing.title)</a>\n"
        }
        return "<p class=\"counts\">\(links)<span class=\"soft\">\(filter.period.title)</span></p>"
    }

    private func empty(_ hidden: [HiddenStudies]) -> HTML {
        guard !hidden.isEmpty else {
            return "<p class=\"empty\">No study has been received yet.</p>"
        }
        let ways = hidden.map { each -> HTML in
            let one = each.count == 1 ? "1 study is" : "\(each.count) studies are"
            return "<li>\(one) hidden by \(each.by): <a href=\"/\(each.without.address)\">show without it</a></li>"
        }
        return "<div class=\"empty\"><p>No study fits the filter.</p><ul>\(ways)</ul></div>"
    }

    private func paging(_ listing: StudyListing) -> HTML {
        let pages = max(1, (listing.total + WorklistFilter.rowsPerPage - 1) / WorklistFilter.rowsPerPage)
        guard listing.total > 0 else { return "" }
        func link(_ page: Int, _ text: String, _ relation: String) -> HTML? {
            guard (1...pages).contains(page) else { return nil }
            let address = "/" + filter.with { $0.page = page }.address
            return "<a class=\"button\" rel=\"\(relation)\" href=\"\(address)\">\(text)</a>"
        }
        let first = (filter.page - 1) * WorklistFilter.rowsPerPage
        let shown = listing.rows.isEmpty ? "" : "\(first + 1) to \(first + listing.rows.count) of \(listing.total)"
        return """
            <nav class="row paging" aria-label="Pages"><span class="soft">\(shown)</span>
            \(link(filter.page - 1, "Newer", "prev"))\(link(filter.page + 1, "Further", "next"))</nav>
            """
    }

    private func table(_ rows: [StudyEntry], _ now: Date) -> HTML {
        """
        <div class="scroll"><table class="stacked worklist">
        <thead><tr><th>Standing</th><th class="number">Probability</th><th>Patient</th><th>Accession</th>\
        <th>Description</th><th class="number">Images</th><th>Sender</th><th>Received</th>\
        <th>Time to flag</th><th>Owed</th></tr></thead>
        <tbody>
        \(rows.map { row($0, now) })</tbody>
        </table></div>
        """
    }

    private func row(_ study: StudyEntry, _ now: Date) -> HTML {
        let uid = study.studyInstanceUID.string
        let probability = study.shownProbability.map(Words.probability) ?? "–"
        let owed = owed(study)
        return """
            <tr id="study-\(uid)"\(announcement(study))>
            <td data-label="Standing"><span>\(standing(study))</span></td>
            <td data-label="Probability" class="number">\(probability)</td>
            <td data-label="Patient"><span><a href="/studies/\(uid)">\(patient(study))</a>\(person(study))</span></td>
            <td data-label="Accession">\(shown(study.accessionNumber))</td>
            <td data-label="Description">\(shown(study.description))</td>
            <td data-label="Images" class="number">\(study.instanceCount)</td>
            <td data-label="Sender">\(study.callingAETitle ?? "–")</td>
            <td data-label="Received">\(Words.timeElement(study.lastReceivedAt))</td>
            <td data-label="Time to flag" class="nowrap">\(timeToFlag(study, now))</td>
            <td data-label="Owed"><span>\(owed)</span></td>
            </tr>

            """
    }

    /// A positive that receives more is still positive.
    private func standing(_ study: StudyEntry) -> HTML {
        let hasEarlier = study.state != .concluded && study.outcome != nil
        let earlier: HTML? = hasEarlier ? HTML.standing(.concluded, study.outcome) + " " : nil
        let late: HTML? = study.isLate == true ? " <span class=\"tag warning\">late</span>" : nil
        let decision: HTML? = study.decision.map { " <small>\($0.rawValue)</small>" }
        return "\(earlier)\(HTML.standing(study.state, study.outcome))\(late)\(decision)"
    }

    private func announcement(_ study: StudyEntry) -> HTML? {
        guard study.outcome == .positive else { return nil }
        let name = visitor.maySeePatients ? study.patientName.map(PatientWords.name) : nil
        return " data-announce=\"positive: \(name ?? "a study")\""
    }

    /// The text of the link to the study.
    private func patient(_ study: StudyEntry) -> String {
        guard visitor.maySeePatients else { return "study …\(study.studyInstanceUID.string.suffix(8))" }
        let name = study.patientName.map(PatientWords.name) ?? ""
        return name.isEmpty ? "no name" : name
    }

    private func person(_ study: StudyEntry) -> HTML? {
        guard visitor.maySeePatients else { return nil }
        let age = PatientWords.age(birthDate: study.birthDate, on: study.studyDate)
        let facts = [study.patientID, age, PatientWords.sex(study.sex)].compactMap(\.self).filter { !$0.isEmpty }
        return facts.isEmpty ? nil : "<br><small>\(facts.joined(separator: " · "))</small>"
    }

    private func shown(_ text: String?) -> HTML {
        guard visitor.maySeePatients else { return "<span class=\"soft\">hidden</span>" }
        return "\(text ?? "–")"
    }

    /// To be ticked on by `live.js`; what is not flagged and not on its way to be has none.
    private func timeToFlag(_ study: StudyEntry, _ now: Date) -> HTML {
        if let seconds = study.timeToFlag { return "\(Words.span(seconds))" }
        let since: Date
        if study.state != .concluded {
            since = study.lastReceivedAt
        } else if let seenUntil = study.seenUntil, study.outcome != .notHeadCT, study.pendingDeliveries > 0 {
            since = seenUntil
        } else {
            return "–"
        }
        // To the second: what is made again within one is the same.
        let moment = Int(since.timeIntervalSince1970)
        return "<span class=\"soft\">running \(HTML.clock(since, moment))</span>"
    }

    private func owed(_ study: StudyEntry) -> HTML {
        let refused = study.givenUpDeliveries ?? 0
        let waiting: HTML? = study.pendingDeliveries > 0 ? "\(study.pendingDeliveries)" : nil
        let dead: HTML? = refused > 0 ? " <span class=\"tag warning\">\(refused) refused</span>" : nil
        return waiting == nil && dead == nil ? "–" : "\(waiting)\(dead)"
    }
}

extension HTML {
    /// A time of day that `live.js` turns into a running clock.
    fileprivate static func clock(_ date: Date, _ moment: Int) -> HTML {
        "<time data-since=\"\(moment)\">since \(String(Words.time(date).suffix(8)))</time>"
    }
}
