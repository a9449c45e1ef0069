internal import Foundation
internal import Ledger

/// The cards of the page, for one moment.
struct SystemCards {
    let facts: SystemFacts
    let state: SystemState
    let now: Date
    /// Its lines name peers and studies.
    let maySeeLog: Bool

    var content: HTML {
        """
        <h1>System</h1>
        \(troubles)
        <div class="system">
        \(card("Node", node))
        \(card("Disk", disk))
        \(card("Receiving", receiving))
        \(card("Queues", queues))
        \(card("Inference", inference))
        \(card("Audit trail and ledger", records))
        \(card("Certificates", certificates))
        \(card("Machine", machine))
        </div>
        \(processes)
        \(log)
        """
    }

    private var troubles: HTML {
        let troubles = SystemTrouble.all(facts, state, at: now)
        guard !troubles.isEmpty else {
            return """
                <div class="notice good" role="status"><strong>Ready, and nothing is wrong</strong> that the node \
                knows of.</div>
                """
        }
        let items: [HTML] = troubles.map { trouble in
            let tag: HTML =
                trouble.level == .error
                ? "<span class=\"tag positive\">wrong</span>" : "<span class=\"tag warning\">look at</span>"
            return "<li>\(tag) \(trouble.text)</li>\n"
        }
        let isWrong = troubles.contains { $0.level == .error }
        let ready = state.notReady == nil ? "Ready" : "Not ready"
        return """
            <section class="notice \(isWrong ? "error" : "warning")" role="\(isWrong ? "alert" : "status")" \
            aria-labelledby="wrong">
            <h2 id="wrong">\(ready); \(isWrong ? "something is wrong" : "something to look at")</h2>
            <ul class="troubles">
            \(items)</ul>
            </section>
            """
    }

    // MARK: Cards

    private func card(_ title: String, _ content: HTML) -> HTML {
        "<section class=\"card\" aria-label=\"\(title)\">\n<h2>\(title)</h2>\n\(content)\n</section>"
    }

    private func list(_ rows: [(String, HTML)]) -> HTML {
        "<dl class=\"facts\">\n\(rows.map { "<dt>\($0.0)</dt><dd>\($0.1)</dd>\n" as HTML })</dl>"
    }

    private func ago(_ date: Date) -> String { Words.span(now.timeIntervalSince(date)) }

    private var node: HTML {
        let ready: HTML =
            if let missing = state.notReady {
                "<span class=\"tag positive\">not ready</span> \(missing)"
            } else {
                "<span class=\"tag good\">ready</span>"
            }
        return list([
            ("State", ready), ("AE title", "\(facts.aeTitle)"), ("Version", "\(facts.version)"),
            ("Host", "\(facts.hostName)"),
            ("Up since", "\(Words.timeElement(facts.startedAt)), for \(ago(facts.startedAt))"),
        ])
    }

    private var disk: HTML {
        let disk = facts.disk
        var rows: [(String, HTML)] = []
        if let free = disk.freeBytes, let total = disk.totalBytes {
            rows.append(("Free", "\(Words.bytes(free)) of \(Words.bytes(total))"))
        } else {
            rows.append(("Free", "<span class=\"tag positive\">not known</span>"))
        }
        rows += [
            ("Studies are rejected below", "\(Words.bytes(disk.rejectBelow)) free"),
            ("Objects are refused below", "\(Words.bytes(disk.refuseBelow)) free"),
        ]
        if let spool = state.spool {
            let held = spool.value.held
            rows.append(
                (
                    "Spool",
                    "\(held.images) images of \(held.studies) studies, \(Words.bytes(held.bytes)) "
                        + "<small>as of \(Words.time(spool.at))</small>"
                ))
            if let oldest = spool.value.oldest { rows.append(("Oldest study held", Words.timeElement(oldest))) }
        } else {
            rows.append(("Spool", "not known"))
        }
        let keep = facts.keepDays.map { "\(Self.plain($0)) days" } ?? "for ever"
        let least = "at least \(Self.plain(facts.leastKeepHours)) h while the disk is short"
        rows += [
            ("Images are kept", "\(keep), \(least)"),
            ("Folder", "<span class=\"mono\">\(facts.dataDirectory)</span>"),
        ]
        return "\(DiskBar(disk: disk).html)\(list(rows))"
    }

    private var receiving: HTML {
        var rows: [(String, HTML)] = [
            ("Associations now", "\(facts.openAssociations) of at most \(facts.mostAssociations)"),
            ("Associations since the start", "\(state.associations)"),
            ("Images stored since the start", "\(state.storedInstances)"),
        ]
        if let received = state.spool?.value.received {
            rows.append(
                (
                    "Last 24 h",
                    "\(received.images) images of \(received.studies) studies, \(Words.bytes(received.bytes))"
                ))
        }
        rows.append(("Objects refused", "\(state.refusedInstances)"))
        if state.failedHandshakes > 0 { rows.append(("TLS handshakes failed", "\(state.failedHandshakes)")) }
        let reasons = facts.refusals.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        rows.append(("Associations refused", "\(reasons.reduce(0) { $0 + $1.value })"))
        let list = list(rows)
        guard !reasons.isEmpty else { return list }
        // A reason may quote what a peer calls itself.
        guard maySeeLog else { return list + "<p class=\"soft\">Why associations were refused: sign in to see.</p>" }
        let items: [HTML] = reasons.map { "<li>\($0.value) × \($0.key)</li>\n" }
        return list + "<h3>Refused since the start</h3><ul class=\"reasons\">\n\(items)</ul>"
    }

    private var queues: HTML {
        guard let standing = state.standing else { return "<p>Not known: the ledger cannot be read.</p>" }
        func row(_ queue: LedgerStanding.Queue) -> HTML {
            guard let oldest = queue.oldest else { return "none" }
            return "\(queue.count), oldest since \(Words.timeElement(oldest)) (\(ago(oldest)))"
        }
        return list([
            ("Studies receiving", row(standing.receiving)), ("Studies analysing", row(standing.analysing)),
            ("Deliveries owed", row(standing.pending)),
            ("Accepted, not yet committed", row(standing.uncommitted)),
            ("Given up", row(standing.givenUp)),
        ])
    }

    private var inference: HTML {
        let child = facts.processes.first { $0.verb == "infer" }
        var rows: [(String, HTML)] = [
            (
                "Process",
                child.map { "<span class=\"tag good\">runs</span> process \(Int($0.id))" as HTML }
                    ?? "<span class=\"tag warning\">not running</span> started with the next study"
            ),
            ("Restarts", "\(facts.inferenceRestarts)"),
        ]
        if let latest = state.standing?.latestAnalysis {
            let text: HTML = "took \(Words.span(latest.duration)), ended \(Words.timeElement(latest.end))"
            rows.append(("Last analysis", text))
        } else {
            rows.append(("Last analysis", "none so far"))
        }
        return list(rows)
    }

    private var records: HTML {
        var rows: [(String, HTML)] = []
        if let file = facts.auditFile {
            let isWhole = state.auditLost == 0
            rows += [
                (
                    "Audit trail",
                    isWhole
                        ? "<span class=\"tag good\">kept</span>"
                        : "<span class=\"tag positive\">\(state.auditLost) messages lost</span>"
                ), ("Messages since the start", "\(state.auditMessages)"),
                ("File", "<span class=\"mono\">\(file)</span>"),
            ]
        } else {
            rows.append(("Audit trail", "<span class=\"tag warning\">switched off</span> audit.enabled is false"))
        }
        rows.append(("Ledger", "\(facts.ledgerBytes.map(Words.bytes) ?? "size not known")"))
        return list(rows)
    }

    private var certificates: HTML {
        guard !facts.certificates.isEmpty else { return "<p>None in use: no TLS is configured.</p>" }
        return list(
            facts.certificates.map { certificate in
                let end: HTML
                if let expires = certificate.expires {
                    let left = expires.timeIntervalSince(now)
                    let tag: HTML =
                        left <= 0
                        ? "<span class=\"tag positive\">expired</span>"
                        : left < facts.certificateDays * Self.day
                            ? "<span class=\"tag warning\">expires in \(Words.span(left))</span>"
                            : "<span class=\"tag good\">valid</span>"
                    end = "\(tag) until \(Words.timeElement(expires))"
                } else {
                    end = "<span class=\"tag warning\">end not known</span>"
                }
                return (certificate.file, end)
            })
    }

    private var machine: HTML {
        let zone = TimeZone.current
        let minutes = zone.secondsFromGMT(for: now) / 60
        let offset = String(
            format: "UTC%@%02d:%02d", minutes < 0 ? "−" : "+", abs(minutes) / 60, abs(minutes) % 60)
        let clock: HTML =
            switch facts.isClockSynchronised {
            case true?: "<span class=\"tag good\">synchronised</span>"
            case false?: "<span class=\"tag warning\">not synchronised</span>"
            case nil: "not known whether synchronised"
            }
        let landlock: HTML =
            facts.landlockVersion > 0
            ? "<span class=\"tag good\">version \(facts.landlockVersion)</span>"
            : "<span class=\"tag warning\">none</span>"
        let seccomp: HTML =
            facts.hasSeccomp ? "<span class=\"tag good\">yes</span>" : "<span class=\"tag warning\">none</span>"
        return list([
            ("Time", "\(Words.timeElement(now)), \(zone.identifier), \(offset)"), ("Clock", clock),
            ("Landlock", landlock), ("seccomp", seccomp),
        ])
    }

    // MARK: Tables

    private var processes: HTML {
        let verbs = Set(facts.processes.map(\.verb)).union(state.crashes.keys)
        let rows: [HTML] = verbs.sorted { $1 != "daemon" && ($0 == "daemon" || $0 < $1) }.map { verb in
            let running = facts.processes.filter { $0.verb == verb }
            let memory = running.compactMap(\.residentBytes).reduce(0, +)
            let descriptors = running.map(\.descriptors)
            let crashes = state.crashes[verb] ?? 0
            let died: HTML = crashes > 0 ? "<span class=\"tag warning\">\(crashes) died</span>" : "0"
            let files =
                descriptors.contains(nil) ? "not known" : "\(descriptors.compactMap { $0 }.reduce(0, +))"
            return """
                <tr><td data-label="Process">\(verb)</td><td data-label="Running" class="number">\(running.count)</td>
                <td data-label="Memory" class="number">\(running.isEmpty ? "–" : Words.bytes(memory))</td>
                <td data-label="Open files" class="number">\(running.isEmpty ? "–" : files)</td>
                <td data-label="Died since the start" class="number">\(verb == "daemon" ? "–" : died)</td></tr>

                """
        }
        return """
            <section class="card" aria-labelledby="processes">
            <h2 id="processes">Processes</h2>
            <table class="stacked"><thead><tr><th>Process</th><th class="number">Running</th>\
            <th class="number">Memory</th><th class="number">Open files</th>\
            <th class="number">Died since the start</th></tr></thead>
            <tbody>
            \(rows)</tbody></table>
            </section>
            """
    }

    private var log: HTML {
        guard maySeeLog else {
            return """
                <section class="card" aria-labelledby="log"><h2 id="log">Warnings and errors</h2>
                <p>\(facts.log.count) since the start. Lines of the log name peers and studies: sign in to see them.</p>
                </section>
                """
        }
        guard !facts.log.isEmpty else {
            return """
                <section class="card" aria-labelledby="log"><h2 id="log">Warnings and errors</h2>
                <p>None since the start.</p></section>
                """
        }
        let rows: [HTML] = facts.log.reversed().map { line in
            let tag = line.level == "warning" ? "warning" : "positive"
            return """
                <tr><td data-label="Time">\(Words.timeElement(line.at))</td>
                <td data-label="Level"><span class="tag \(tag)">\(line.level)</span></td>
                <td data-label="Text" class="said">\(line.text)</td></tr>

                """
        }
        return """
            <section class="card" aria-labelledby="log">
            <h2 id="log">Warnings and errors</h2>
            <p class="soft">The latest \(facts.log.count) since the start, newest first. The node's log has all.</p>
            <table class="stacked"><thead><tr><th>Time</th><th>Level</th><th>Text</th></tr></thead>
            <tbody>
            \(rows)</tbody></table>
            </section>
            """
    }

    private static let day: TimeInterval = 86400

    /// Without needless digits.
    private static func plain(_ number: Double) -> String {
        Int(exactly: number).map { "\($0)" } ?? String(format: "%.1f", number)
    }
}

/// How full the disk is, with both watermarks.
struct DiskBar {
    let disk: SystemFacts.Disk

    var html: HTML? {
        guard let free = disk.freeBytes, let total = disk.totalBytes, total > 0 else { return nil }
        func place(_ bytes: UInt64) -> String {
            String(format: "%.2f", 100 * Double(total - min(bytes, total)) / Double(total))
        }
        let used = Int(100 * Double(total - min(free, total)) / Double(total))
        let state = free < disk.refuseBelow ? "full" : free < disk.rejectBelow ? "low" : "roomy"
        let words = [
            "full": "objects are refused", "low": "studies are rejected", "roomy": "there is room",
        ]
        return """
            <svg class="disk \(state)" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="\
            \(used) % used, \(words[state] ?? "")">
            <rect class="all" width="100" height="6"/><rect class="used" width="\(place(free))" height="6"/>
            <rect class="mark" x="\(place(disk.rejectBelow))" width="0.5" height="6"/>
            <rect class="mark" x="\(place(disk.refuseBelow))" width="0.5" height="6"/>
            </svg>
            <p><strong>\(used) % used</strong>: \(words[state] ?? ""). The marks are where studies are \
            rejected, and where objects are refused.</p>
            """
    }
}
