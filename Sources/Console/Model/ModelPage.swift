internal import Foundation
internal import Hummingbird

/// The model card: what the package says of itself, and which threshold each route uses.
struct ModelPage {
    let facts: any NodeFacts

    var routes: [ConsoleRoute] {
        [
            .get("/model", .overview) { [facts] _, context in
                let shown = await facts.model()
                return Page(
                    title: "Model", area: .model, visitor: context.visitor, styles: [SystemStyle.name],
                    content: Self.content(shown)
                ).response()
            }
        ]
    }

    static func content(_ model: ModelFacts) -> HTML {
        """
        <h1>Model</h1>
        <div class="notice warning"><strong>Research use.</strong> Not a medical device, and not for ruling \
        haemorrhage out: a negative answer must lower nobody's attention.</div>
        <section class="card" aria-labelledby="model-name">
        <h2 id="model-name">\(model.name) \(model.version)</h2>
        <p>\(model.description)</p>
        <dl class="facts">
        <dt>Digest</dt><dd class="mono">\(model.digest)</dd>
        <dt>Created</dt><dd>\(model.created)</dd>
        <dt>Folder</dt><dd class="mono">\(model.directory)</dd>
        <dt>Classes</dt><dd>\(model.classes.joined(separator: ", "))</dd>
        <dt>Input</dt><dd>\(model.input)</dd>
        <dt>Slices are flagged from</dt><dd>\(Words.probability(model.sliceThreshold))</dd>
        </dl>
        </section>
        \(points(model))
        \(routeTable(model))
        \(limits(model))
        \(training(model))
        \(model.measured.map(measured))
        """
    }

    // MARK: Parts

    private static func points(_ model: ModelFacts) -> HTML {
        let sets = model.measured.filter { !$0.points.isEmpty }
        let tables: [HTML] = sets.map { set in
            let names = columns(model.operatingPoints.compactMap { set.points[$0.name] })
            let rows: [HTML] = model.operatingPoints.map { point in
                let figures = set.points[point.name] ?? []
                let cells: [HTML] = names.map { name in
                    let estimate = figures.first { $0.name == name }?.estimate
                    return "<td data-label=\"\(name)\">\(estimate.map(text) ?? "–")</td>"
                }
                return """
                    <tr><td data-label="Operating point"><strong>\(point.name)</strong></td>
                    <td data-label="Threshold">\(Words.probability(point.threshold))</td>\(cells)</tr>

                    """
            }
            return """
                <h3>\(title(set))</h3>
                <div class="scroll"><table class="stacked">
                <thead><tr><th>Operating point</th><th>Threshold</th>\
                \(names.map { "<th>\($0)</th>" as HTML })</tr></thead>
                <tbody>
                \(rows)</tbody></table></div>
                """
        }
        let bare: [HTML] =
            sets.isEmpty
            ? model.operatingPoints.map { "<p><strong>\($0.name)</strong>: \(Words.probability($0.threshold))</p>" }
            : []
        return """
            <section class="card" aria-labelledby="points">
            <h2 id="points">Operating points</h2>
            <p>A study is called positive when its calibrated probability reaches the threshold. In brackets the 95 % \
            interval, and of how many: small numbers leave wide intervals.</p>
            \(tables)\(bare)
            \(sets.isEmpty ? "<p class=\"soft\">The package does not state what was measured at them.</p>" : "" as HTML)
            </section>
            """
    }

    private static func routeTable(_ model: ModelFacts) -> HTML {
        let rows: [HTML] = model.routes.map { route in
            let named: HTML = Double(route.threshold) == nil ? "\(route.threshold)" : "a number of its own"
            return """
                <tr><td data-label="Route">\(route.name)</td><td data-label="Operating point">\(named)</td>
                <td data-label="Threshold">\(Words.probability(route.value))</td></tr>

                """
        }
        return """
            <section class="card" aria-labelledby="used">
            <h2 id="used">Which threshold each route uses</h2>
            <table class="stacked"><thead><tr><th>Route</th><th>Operating point</th><th>Threshold</th></tr></thead>
            <tbody>
            \(rows)</tbody></table>
            </section>
            """
    }

    private static func limits(_ model: ModelFacts) -> HTML {
        guard let limits = model.limits else {
            return """
                <section class="card" aria-labelledby="limits">
                <h2 id="limits">For whom it is not</h2>
                <p><strong>The package does not say what its data lacked.</strong> Take it as tried on nobody but \
                patients and scanners like those it was measured on (below); measure it on studies of your own with \
                <code>ichnode evaluate</code> first.</p>
                </section>
                """
        }
        func list(_ items: [String]) -> HTML { "<ul>\(items.map { "<li>\($0)</li>" as HTML })</ul>" }
        return """
            <section class="card" aria-labelledby="limits">
            <h2 id="limits">For whom it is, and is not</h2>
            <p>\(limits.intendedUse)</p>
            <div class="cards">
            <div><h3>Never tried on</h3>\(list(limits.neverTriedOn))</div>
            <div><h3>Weak spots</h3>\(list(limits.weakSpots))</div>
            </div>
            </section>
            """
    }

    private static func training(_ model: ModelFacts) -> HTML {
        let facts: HTML =
            model.training.isEmpty
            ? "<p>The package does not state it.</p>"
            : "<dl class=\"facts\">\(model.training.map { "<dt>\($0.name)</dt><dd>\($0.text)</dd>" as HTML })</dl>"
        return """
            <section class="card" aria-labelledby="training">
            <h2 id="training">Trained on</h2>
            \(facts)
            </section>
            """
    }

    private static func measured(_ set: ModelFacts.Measured) -> HTML {
        let names = columns(set.classes.map(\.figures))
        let rows: [HTML] = set.classes.map { each in
            let cells: [HTML] = names.map { name in
                let estimate = each.figures.first { $0.name == name }?.estimate
                return "<td data-label=\"\(name)\">\(estimate.map(text) ?? "–")</td>"
            }
            return "<tr><td data-label=\"Class\">\(each.name)</td>\(cells)</tr>\n"
        }
        let table: HTML =
            rows.isEmpty
            ? ""
            : """
            <h3>By class</h3>
            <table class="stacked"><thead><tr><th>Class</th>\(names.map { "<th>\($0)</th>" as HTML })</tr></thead>
            <tbody>
            \(rows)</tbody></table>
            """
        return """
            <section class="card">
            <h2>\(title(set))</h2>
            <dl class="facts">\(set.figures.map { "<dt>\($0.name)</dt><dd>\(text($0.estimate))</dd>" as HTML })</dl>
            \(table)
            </section>
            """
    }

    // MARK: Words

    private static func title(_ set: ModelFacts.Measured) -> String {
        let counts = [set.studies.map { "\($0) studies" }, set.positiveStudies.map { "\($0) of them positive" }]
            .compactMap { $0 }.joined(separator: ", ")
        return "Measured: \(set.set)" + (counts.isEmpty ? "" : " – \(counts)")
    }

    /// Each name once, in the order of its first place.
    private static func columns(_ rows: [[(name: String, estimate: ModelFacts.Estimate)]]) -> [String] {
        rows.joined().reduce(into: []) { if !$0.contains($1.name) { $0.append($1.name) } }
    }

    /// "0.793 (0.616–0.902), n 29".
    static func text(_ estimate: ModelFacts.Estimate) -> String {
        var text = Words.probability(estimate.value)
        if let low = estimate.low, let high = estimate.high {
            text += " (\(Words.probability(low))–\(Words.probability(high)))"
        }
        if let count = estimate.count { text += ", n \(count)" }
        return text
    }
}
