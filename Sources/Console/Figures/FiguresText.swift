internal import Foundation
internal import Ledger

/// The page's content.
struct FiguresText {
    let figures: StudyFigures
    let at: Date
    private static let mostRows = 12

    var content: HTML {
        let total = figures.days.reduce(0) { $0 + $1.studies }
        let counts: [HTML] = Chart.layers.map { layer in
            let count = figures.days.reduce(0) { $0 + layer.count($1) }
            return "<li>\(swatch(layer.fill))\(layer.title): \(count)\(percent(count, of: total))</li>\n"
        }
        return """
            <h1>Figures</h1>
            <p class="soft">The last \(figures.days.count) days, by the day of a study's last image, in the time zone \
            of this machine. As of \(Words.timeElement(at)).</p>
            <div class="charts">
            <section class="card" aria-labelledby="volumes"><h2 id="volumes">Studies by day: n \(total)</h2>
            \(Chart.volumes(figures.days, label: Self.label))
            <ul class="legend">
            \(counts)</ul>
            \(volumeTable)
            </section>
            <section class="card" aria-labelledby="flag"><h2 id="flag">Time to flag: n \(figures.flags.count)</h2>
            \(Chart.percentiles(figures.days, label: Self.label))
            <ul class="legend"><li>\(dot("half"))half within</li><li>\(dot("late"))95 of 100 within</li>\
            <li>\(dot("gone"))fewer than \(Spans.leastCount), so none is drawn</li></ul>
            <p class="soft">From a study's last image to its first report accepted by a destination.</p>
            \(periods)
            \(flagTable)
            </section>
            \(destinations)
            \(shares(
                "senders", "Studies by sender", "Sender",
                figures.senders.map { .init($0.callingAETitle ?? "not known", $0.studies) }))
            \(shares("rules", "What let studies through", "Rule", figures.completions))
            \(shares("reasons", "Why undetermined", "Reason", figures.undetermined))
            </div>
            """
    }

    // MARK: Tables

    private var volumeTable: HTML {
        let rows: [HTML] = figures.days.reversed().map { day in
            let studies = day.studies == 0 ? "none" : "\(day.studies)"
            let cells: [HTML] = Chart.layers.map {
                "<td data-label=\"\($0.title)\" class=\"number\">\($0.count(day))</td>"
            }
            return """
                <tr><td data-label="Day">\(Self.day(day.interval.start))</td>\
                <td data-label="Studies" class="number">\(studies)</td>\(cells)</tr>

                """
        }
        return """
            <details><summary>The numbers</summary><div class="scroll"><table class="stacked">
            <thead><tr><th>Day</th><th class="number">Studies</th>\
            \(Chart.layers.map { "<th class=\"number\">\($0.title)</th>" as HTML })</tr></thead>
            <tbody>
            \(rows)</tbody></table></div></details>
            """
    }

    private var flagTable: HTML {
        let rows: [HTML] = figures.days.reversed().map {
            spanRow("Day", Self.day($0.interval.start), $0.toFlag)
        }
        return "<details><summary>The numbers</summary>\(spanTable("Day", rows))</details>"
    }

    private var periods: HTML {
        let spans: [(String, TimeInterval)] = [("24 hours", 86400), ("7 days", 7 * 86400), ("30 days", 30 * 86400)]
        return spanTable(
            "The last", spans.map { spanRow("The last", $0.0, figures.toFlag(since: at.addingTimeInterval(-$0.1))) })
    }

    private var destinations: HTML {
        let rows: [HTML] = figures.destinations.prefix(Self.mostRows).map { destination in
            """
            <tr><td data-label="Destination">\(destination.name)</td>\(cells(destination.delivered))\
            <td data-label="Owed" class="number">\(destination.owed)</td>\
            <td data-label="Given up" class="number">\(destination.givenUp)</td></tr>

            """
        }
        let table: HTML = """
            <div class="scroll"><table class="stacked figures">
            <thead><tr><th>Destination</th><th class="number">n</th><th class="number">half within</th>\
            <th class="number">95 of 100 within</th><th class="number">Owed</th>\
            <th class="number">Given up</th></tr></thead>
            <tbody>
            \(rows)</tbody></table></div>
            """
        let empty: HTML = "<p class=\"empty\">Nothing was owed to anybody.</p>"
        return """
            <section class="card" aria-labelledby="deliveries"><h2 id="deliveries">Delivery times</h2>
            <p class="soft">From owed to delivered; committed, where that is asked for.</p>
            \(rows.isEmpty ? empty : table)
            </section>
            """
    }

    private func spanTable(_ head: String, _ rows: [HTML]) -> HTML {
        """
        <table class="stacked figures"><thead><tr><th>\(head)</th><th class="number">n</th>\
        <th class="number">half within</th><th class="number">95 of 100 within</th></tr></thead>
        <tbody>
        \(rows)</tbody></table>
        """
    }

    private func spanRow(_ head: String, _ name: String, _ spans: Spans) -> HTML {
        "<tr><td data-label=\"\(head)\">\(name)</td>\(cells(spans))</tr>\n"
    }

    private func cells(_ spans: Spans) -> HTML {
        func text(_ percent: Double) -> String {
            spans.percentile(percent).map(Words.span) ?? (spans.count == 0 ? "none" : "too few")
        }
        return """
            <td data-label="n" class="number">\(spans.count)</td>\
            <td data-label="half within" class="number">\(text(50))</td>\
            <td data-label="95 of 100 within" class="number">\(text(95))</td>
            """
    }

    private func shares(_ id: String, _ title: String, _ head: String, _ counts: [StudyFigures.Counted]) -> HTML {
        let total = counts.reduce(0) { $0 + $1.count }
        let left = counts.dropFirst(Self.mostRows).reduce(0) { $0 + $1.count }
        let shown = counts.prefix(Self.mostRows) + (left > 0 ? [.init("all others", left)] : [])
        let rows: [HTML] = shown.map { each in
            """
            <tr><td data-label="\(head)" class="said">\(each.text.isEmpty ? "not stated" : each.text)</td>\
            <td data-label="n" class="number">\(each.count)</td>\
            <td data-label="Share" class="number nowrap">\(Self.share(each.count, total))</td>\
            <td class="part">\(Chart.share(each.count, of: total))</td></tr>

            """
        }
        let table: HTML = """
            <table class="stacked figures"><thead><tr><th>\(head)</th><th class="number">n</th>\
            <th class="number">Share</th><th></th></tr></thead>
            <tbody>
            \(rows)</tbody></table>
            """
        return """
            <section class="card" aria-labelledby="\(id)"><h2 id="\(id)">\(title): n \(total)</h2>
            \(rows.isEmpty ? "<p class=\"empty\">None in these days.</p>" : table)
            </section>
            """
    }

    // MARK: Words

    private func swatch(_ fill: String) -> HTML {
        """
        <svg viewBox="0 0 10 10" aria-hidden="true"><rect class="fill-\(fill)" width="10" height="10"/></svg>
        """
    }

    private func dot(_ kind: String) -> HTML {
        """
        <svg class="chart" viewBox="0 0 10 10" aria-hidden="true"><circle class="\(kind)" cx="5" cy="5" r="3"/></svg>
        """
    }

    private func percent(_ part: Int, of whole: Int) -> String {
        whole > 0 ? " (\(Self.share(part, whole)))" : ""
    }

    private static func share(_ part: Int, _ whole: Int) -> String {
        whole < Spans.leastCount ? "\(part) of \(whole)" : String(format: "%.1f %%", 100 * Double(part) / Double(whole))
    }

    /// "2026-11-26".
    private static func day(_ date: Date) -> String { String(Words.time(date).prefix(10)) }
    /// "11-26".
    private static func label(_ date: Date) -> String { String(day(date).suffix(5)) }
}
