internal import Ledger

/// The viewer's markup; `viewer.js` brings it to life.
struct ViewerSection {
    let detail: StudyDetail
    let analysis: AnalysisEntry
    let record: FindingRecord

    /// Window centre and width, HU, and the key that sets them.
    private static let windows: [(name: String, centre: Int, width: Int)] = [
        ("Brain", 40, 80), ("Stroke", 40, 40), ("Subdural", 75, 200), ("Blood", 50, 130), ("Soft tissue", 40, 375),
        ("Bone", 600, 2800),
    ]

    var html: HTML {
        """
        <section class="viewer" aria-label="Images of the analysed series" \
        data-source="\(StudyViewer.path(detail.study.studyInstanceUID))/\(analysis.findingName)">
        <p class="viewer-head">\(HTML.standing(.concluded, analysis.outcome)) \(summary)</p>
        \(notices)
        <noscript><p class="notice warning">Images need JavaScript.</p></noscript>
        <div class="viewer-body">
        <div class="viewer-main">
        <div class="stage" tabindex="0" role="group" aria-label="Image; arrow keys go through the series">
        <canvas role="img" aria-label="CT image with the model's activation"></canvas>
        <p class="stage-message" hidden></p>
        </div>
        <div class="strip">
        \(SliceChart.svg(of: record))
        <input type="range" class="slider" min="0" max="\(record.images.count - 1)" value="0" step="1" \
        aria-label="Image, feet to head">
        <p class="key"><span><i class="swatch bar"></i>probability</span>\
        <span><i class="swatch flagged"></i>flagged: bar above</span>\
        <span><i class="swatch threshold"></i>flags from \(Words.probability(record.sliceThreshold))</span>\
        <span><i class="swatch attention"></i>attention, up to \(Words.probability(attention))</span>\
        <span class="ends">feet → head</span></p>
        \(jumps)
        </div>
        </div>
        <div class="viewer-side">
        \(readout)
        \(controls)
        \(help)
        </div>
        </div>
        <p class="viewer-said" aria-live="polite"></p>
        </section>
        """
    }

    private var attention: Double { SliceChart.mostAttention(record) }

    private var summary: HTML {
        let flagged = record.slices.count(where: \.isFlagged)
        let made =
            record.images.count == record.slices.count
            ? "\(record.slices.count) slices"
            : "\(record.images.count) images, averaged to \(record.slices.count) slices"
        // What is undetermined has no probability that anybody could take for a negative.
        let probability: HTML? =
            analysis.outcome == .undetermined
            ? nil
            : """
            study probability <strong>\(Words.probability(record.probability))</strong>, \
            threshold \(Words.probability(record.threshold)) (\(record.thresholdName)) · 
            """
        return "\(probability)\(made), \(flagged) flagged"
    }

    private var notices: HTML {
        var html: HTML = ""
        if analysis.outcome == .undetermined {
            html += "<p class=\"notice warning\">Undetermined, no negative: \(analysis.reason).</p>"
        } else if !analysis.reason.isEmpty {
            html += "<p class=\"notice warning\">\(analysis.reason)</p>"
        }
        if detail.study.state != .concluded {
            html += "<p class=\"notice warning\">More arrived since: this is what the analysis before saw.</p>"
        }
        let maps =
            record.isPositive
            ? "" : " A study that is not positive has no activation maps."
        let series = detail.series.first { $0.seriesInstanceUID == record.seriesInstanceUID }
        let name = [series?.number.map { "\($0)" }, series?.description].compactMap { $0 }.joined(separator: " ")
        return html + "<p class=\"soft\">Series \(name): the analysed one; others are not shown here.\(maps)</p>"
    }

    private var readout: HTML {
        """
        <dl class="facts readout">
        <dt>Image</dt><dd><span data-show="place">–</span> of \(record.images.count)</dd>
        <dt>Instance Number</dt><dd><span data-show="number">–</span></dd>
        <dt>Position</dt><dd><span data-show="position">–</span> mm</dd>
        <dt>Probability</dt><dd><span data-show="probability">–</span> <span class="tag" data-show="flag"></span></dd>
        <dt>Attention</dt><dd><span data-show="attention">–</span></dd>
        <dt class="of-mouse">Under the pointer</dt><dd class="of-mouse"><span data-show="hounsfield">–</span></dd>
        </dl>
        """
    }

    private var jumps: HTML {
        let flags: HTML? =
            record.slices.contains(where: \.isFlagged)
            ? """
            <button type="button" data-do="previous" title="P">◀ flagged</button>
            <button type="button" data-do="next" title="N">flagged ▶</button>

            """ : nil
        return """
            <div class="buttons" role="group" aria-label="Slices">
            \(flags)<button type="button" data-do="most" title="M">Most suspicious</button>
            </div>
            """
    }

    private var controls: HTML {
        let disabled: HTML? = record.isPositive ? nil : " disabled"
        return """
            <div class="buttons windows" role="group" aria-label="Window">
            \(Self.windows.enumerated().map(Self.window))</div>
            <div class="row">
            <label>Centre, HU
            <input type="number" data-window="centre" min="-1024" max="3071" step="1" value="40"></label>
            <label>Width, HU<input type="number" data-window="width" min="1" max="4096" step="1" value="80"></label>
            </div>
            <div class="row overlay">
            <button type="button" data-do="overlay" aria-pressed="true" title="O"\(disabled)>Activation</button>
            <label>Opacity<input type="range" data-overlay min="0" max="100" value="100" step="5"\(disabled)></label>
            </div>
            <div class="buttons" role="group" aria-label="View">
            <button type="button" data-do="larger" title="+" aria-label="Larger">+</button>
            <button type="button" data-do="smaller" title="−" aria-label="Smaller">−</button>
            <button type="button" data-do="fit" title="0">Fit</button>
            <button type="button" data-do="actual" title="Z">Pixel for pixel</button>
            <button type="button" data-do="full" title="F">Full screen</button>
            </div>
            """
    }

    private static func window(_ index: Int, _ window: (name: String, centre: Int, width: Int)) -> HTML {
        """
        <button type="button" data-centre="\(window.centre)" data-width="\(window.width)" data-key="\(index + 1)" \
        title="\(index + 1): centre \(window.centre), width \(window.width) HU" \
        aria-pressed="false">\(window.name)</button>

        """
    }

    private var help: HTML {
        """
        <details><summary>Keys and gestures</summary>
        <dl class="facts keys">
        <dt>wheel, drag, ↑ ↓</dt><dd>through the series; up is towards the head</dd>
        <dt>Page, Home, End</dt><dd>ten images, first, last</dd>
        <dt>N, P, M</dt><dd>next and previous flagged slice, most suspicious</dd>
        <dt>1 … \(Self.windows.count)</dt><dd>windows</dd>
        <dt>right drag, two fingers</dt><dd>window: across width, up and down centre</dd>
        <dt>O</dt><dd>activation on and off</dd>
        <dt>+, −, 0, Z</dt><dd>size; shift drag moves</dd>
        <dt>F</dt><dd>full screen</dd>
        </dl></details>
        """
    }
}
