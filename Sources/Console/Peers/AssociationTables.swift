internal import Foundation
internal import WorkerProtocol

/// Associations that are open, that were refused, and that ended of late.
struct AssociationTables {
    var overview: AssociationOverview
    var now: Date
    var visitor: Visitor

    var html: HTML {
        """
        <section class="card" aria-labelledby="open-title">
        <h2 id="open-title">Open now <span class="soft">(\(overview.open.count))</span></h2>
        \(table(overview.open, empty: "No association is open.", last: "Since") { began($0) })
        </section>
        <section class="card" aria-labelledby="refused-title">
        <h2 id="refused-title">Refused <span class="soft">since the start</span></h2>
        \(refused)
        </section>
        <section class="card" aria-labelledby="ended-title">
        <h2 id="ended-title">Latest associations <span class="soft">since the start</span></h2>
        \(table(overview.ended, empty: "No association has ended since the start.", last: "Ended") { ended($0) })
        </section>
        """
    }

    // MARK: Refused

    private var refused: HTML {
        if overview.refused.isEmpty { return "<p class=\"empty\">Nobody was refused since the start.</p>" }
        let rows = overview.refused.map { entry -> HTML in
            """
            <tr><td data-label="When">\(entry.ended.map(Words.timeElement) ?? "–")</td>
            <td data-label="Who"><span>\(who(entry))</span></td>
            <td data-label="Called">\(title(entry.calledAETitle))</td>
            <td data-label="Times" class="number">\(times(entry))</td>
            <td data-label="Why"><span>\(reason(entry))</span></td></tr>

            """
        }
        return """
            <div class="scroll"><table class="stacked">
            <thead><tr><th>When</th><th>Who</th><th>Called</th><th>Times</th><th>Why, and what to change</th></tr>\
            </thead><tbody>
            \(rows)</tbody></table></div>
            """
    }

    private func times(_ entry: AssociationEntry) -> HTML {
        guard entry.count > 1 else { return "1" }
        return "<span>\(entry.count)<br><small>since \(Words.timeElement(entry.began))</small></span>"
    }

    private func reason(_ entry: AssociationEntry) -> HTML {
        switch entry.ending {
        case .refused(let reason), .broken(let reason): "\(Words.bounded(visitor.mayRead(reason), 400))"
        case .released, nil: "–"
        }
    }

    // MARK: Open and ended

    private func table(
        _ entries: [AssociationEntry], empty: String, last: String, _ when: (AssociationEntry) -> HTML
    ) -> HTML {
        if entries.isEmpty { return "<p class=\"empty\">\(empty)</p>" }
        let rows = entries.map { entry -> HTML in
            """
            <tr><td data-label="\(last)"><span>\(when(entry))</span></td>
            <td data-label="Who"><span>\(who(entry))</span></td>
            <td data-label="Called">\(title(entry.calledAETitle))</td>
            <td data-label="What came"><span>\(came(entry))</span></td>
            <td data-label="How it went"><span>\(course(entry))</span></td></tr>

            """
        }
        return """
            <div class="scroll"><table class="stacked">
            <thead><tr><th>\(last)</th><th>Who</th><th>Called</th><th>What came</th><th>How it went</th></tr></thead>
            <tbody>
            \(rows)</tbody></table></div>
            """
    }

    private func began(_ entry: AssociationEntry) -> HTML {
        """
        \(Words.timeElement(entry.began))<br><small>for \(Words.span(now.timeIntervalSince(entry.began)))</small>
        """
    }

    private func ended(_ entry: AssociationEntry) -> HTML {
        let end = entry.ended ?? entry.began
        let span = Words.span(end.timeIntervalSince(entry.began))
        let many: HTML? = entry.count > 1 ? "<br><small>\(entry.count) associations within \(span)</small>" : nil
        return "\(Words.timeElement(end))\(many ?? "<br><small>after \(span)</small>")"
    }

    private func who(_ entry: AssociationEntry) -> HTML {
        var security: HTML = entry.isSecure ? "TLS" : "plain"
        if let subject = entry.certificate {
            security = visitor.maySeePatients ? "TLS, certificate \(subject)" : "TLS, with a certificate"
        }
        return """
            \(title(entry.callingAETitle)) <span class="mono">\(entry.peerAddress)</span><br><small>\(security)</small>
            """
    }

    private func title(_ title: String?) -> HTML {
        guard let title, !title.isEmpty else { return "<span class=\"soft\">unknown</span>" }
        return "<span class=\"mono\">\(Words.bounded(title, 16))</span>"
    }

    private func came(_ entry: AssociationEntry) -> HTML {
        var parts: [String] = []
        let objects = entry.objects + entry.known
        if objects > 0 {
            let studies = Words.count(entry.studies.count, "study", "studies")
            parts.append("\(Words.count(objects, "object")) of \(studies), \(Words.bytes(entry.bytes))")
        }
        if entry.known > 0 { parts.append("\(entry.known) of them here already") }
        if entry.echoes > 0 { parts.append(entry.echoes == 1 ? "C-ECHO" : "\(entry.echoes) C-ECHO") }
        return parts.isEmpty ? "<span class=\"soft\">nothing</span>" : "\(parts.joined(separator: "; "))"
    }

    private func course(_ entry: AssociationEntry) -> HTML {
        let refusals: HTML? =
            entry.refusedObjects == 0
            ? nil
            : """
            <br><span class="tag warning">\(Words.count(entry.refusedObjects, "object")) refused</span> \
            <small>\(visitor.maySeePatients ? entry.objectRefusal ?? "" : "")</small>
            """
        switch entry.ending {
        case nil: return "<span class=\"tag busy\">open</span>\(refusals)"
        case .released: return "<span class=\"tag good\">released</span>\(refusals)"
        case .broken, .refused: return "<span class=\"tag warning\">not released</span> \(reason(entry))\(refusals)"
        }
    }
}
