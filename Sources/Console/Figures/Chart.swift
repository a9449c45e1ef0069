internal import Foundation
internal import Ledger

/// Charts as inline SVG, in units that are about pixels on a phone. Each has its numbers in a table beside it.
enum Chart {
    static let (width, height) = (360.0, 190.0)
    private static let (left, right, top, bottom) = (40.0, 4.0, 10.0, 22.0)
    private static var plotWidth: Double { width - left - right }
    private static var plotHeight: Double { height - top - bottom }

    /// One colour of a stacked bar.
    struct Layer: Sendable {
        /// Ends the class `fill-…` of the sheet.
        var fill: String
        var title: String
        var count: @Sendable (StudyFigures.Day) -> Int
    }

    static let layers: [Layer] = [
        Layer(fill: "positive", title: "positive") { $0.outcomes[.positive] ?? 0 },
        Layer(fill: "undetermined", title: "undetermined") { $0.outcomes[.undetermined] ?? 0 },
        Layer(fill: "negative", title: "negative") { $0.outcomes[.negative] ?? 0 },
        Layer(fill: "other", title: "not a head CT") { $0.outcomes[.notHeadCT] ?? 0 },
        Layer(fill: "open", title: "no outcome yet") { $0.open },
    ]

    // MARK: Stacked bars

    static func volumes(_ days: [StudyFigures.Day], label: (Date) -> String) -> HTML {
        let most = ceiling(days.map(\.studies).max() ?? 0)
        let step = plotWidth / Double(max(1, days.count))
        func y(_ count: Int) -> Double { top + plotHeight * (1 - Double(count) / Double(most)) }
        let bars: [HTML] = days.enumerated().map { index, day in
            let x = left + Double(index) * step
            guard day.studies > 0 else { return nothing(x: x + step / 2) }
            var below = 0
            let parts: [HTML] = layers.map { layer in
                let count = layer.count(day)
                guard count > 0 else { return "" }
                defer { below += count }
                return """
                    <rect class="fill-\(layer.fill)" x="\(place(x + step * 0.1))" y="\(place(y(below + count)))" \
                    width="\(place(step * 0.8))" height="\(place(y(below) - y(below + count)))"/>
                    """
            }
            let title = "\(label(day.interval.start)): \(day.studies) studies"
            return "<g><title>\(title)</title>\(parts)</g>\n"
        }
        let ticks: [HTML] = [0, most / 2, most].map { grid(y: y($0), text: "\($0)") }
        return frame(
            title: "Studies by day and outcome",
            description: "Bars, one for each of \(days.count) days; a ring stands for a day without studies.",
            "\(ticks)\(bars)\(dates(days, step, label))")
    }

    /// An even number that is not much more, and round.
    static func ceiling(_ count: Int) -> Int {
        var unit = 1
        while true {
            for factor in [2, 4, 6, 8, 10] where factor * unit >= count { return factor * unit }
            unit *= 10
        }
    }

    // MARK: Percentiles

    /// Half of each day's studies and 95 of 100, on a scale of powers.
    static func percentiles(_ days: [StudyFigures.Day], label: (Date) -> String) -> HTML {
        let step = plotWidth / Double(max(1, days.count))
        let values = days.compactMap { $0.toFlag.percentile(95) } + days.compactMap { $0.toFlag.percentile(50) }
        let marks = Self.marks(from: values.min() ?? 1, to: values.max() ?? 60)
        let (low, high) = (log(marks.first?.0 ?? 1), log(marks.last?.0 ?? 60))
        func y(_ seconds: TimeInterval) -> Double {
            top + plotHeight * (1 - (log(max(seconds, 0.1)) - low) / (high - low))
        }
        let points: [HTML] = days.enumerated().map { index, day in
            let x = left + (Double(index) + 0.5) * step
            guard let half = day.toFlag.percentile(50), let late = day.toFlag.percentile(95) else {
                return nothing(x: x)
            }
            let title =
                "\(label(day.interval.start)): half within \(Words.span(half)), 95 of 100 within \(Words.span(late)), "
                + "n \(day.toFlag.count)"
            return """
                <g><title>\(title)</title><line class="range" x1="\(place(x))" x2="\(place(x))" y1="\(place(y(half)))" \
                y2="\(place(y(late)))"/><circle class="half" cx="\(place(x))" cy="\(place(y(half)))" r="3"/>\
                <circle class="late" cx="\(place(x))" cy="\(place(y(late)))" r="3"/></g>

                """
        }
        let ticks: [HTML] = marks.map { grid(y: y($0.0), text: $0.1) }
        return frame(
            title: "Time to flag by day",
            description: """
                For each of \(days.count) days the time within which half of the studies, and 95 of 100, had a report \
                accepted; a ring stands for a day with fewer than \(Spans.leastCount).
                """,
            "\(ticks)\(points)\(dates(days, step, label))")
    }

    private static let scale: [(TimeInterval, String)] = [
        (0.1, "0.1 s"), (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"), (36000, "10 h"),
        (360_000, "100 h"), (3_600_000, "1000 h"),
    ]

    /// Two or more that hold all values between them.
    private static func marks(from least: TimeInterval, to most: TimeInterval) -> [(TimeInterval, String)] {
        let first = scale.lastIndex { $0.0 <= least } ?? 0
        let last = max(first + 1, scale.firstIndex { $0.0 >= most } ?? scale.count - 1)
        return Array(scale[min(first, scale.count - 2)...min(last, scale.count - 1)])
    }

    // MARK: Parts

    private static func frame(title: String, description: String, _ content: HTML) -> HTML {
        """
        <svg class="chart" viewBox="0 0 \(Int(width)) \(Int(height))" role="img">
        <title>\(title)</title><desc>\(description)</desc>
        \(content)<line class="axis" x1="\(place(left))" x2="\(place(width - right))" y1="\(place(top + plotHeight))" \
        y2="\(place(top + plotHeight))"/>
        </svg>
        """
    }

    private static func grid(y: Double, text: String) -> HTML {
        """
        <line class="grid" x1="\(place(left))" x2="\(place(width - right))" y1="\(place(y))" y2="\(place(y))"/>\
        <text x="\(place(left - 4))" y="\(place(y + 3.5))" text-anchor="end">\(text)</text>

        """
    }

    /// Nothing to draw, and said so.
    private static func nothing(x: Double) -> HTML {
        "<circle class=\"gone\" cx=\"\(place(x))\" cy=\"\(place(top + plotHeight - 4))\" r=\"2\"/>\n"
    }

    /// Every seventh day from the last backwards.
    private static func dates(_ days: [StudyFigures.Day], _ step: Double, _ label: (Date) -> String) -> [HTML] {
        days.indices.filter { (days.count - 1 - $0) % 7 == 0 }.map { index in
            let (x, isLast) = (left + (Double(index) + 0.5) * step, index == days.count - 1)
            return """
                <text x="\(place(isLast ? width - right : x))" y="\(place(height - 7))" \
                text-anchor="\(isLast ? "end" : "middle")">\(label(days[index].interval.start))</text>

                """
        }
    }

    static func place(_ number: Double) -> String { String(format: "%.1f", number) }

    /// A share as a bar across a cell.
    static func share(_ part: Int, of whole: Int) -> HTML {
        let width = whole > 0 ? 100 * Double(part) / Double(whole) : 0
        return """
            <svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">\
            <rect class="all" width="100" height="6"/><rect class="part" width="\(place(width))" height="6"/></svg>
            """
    }
}
