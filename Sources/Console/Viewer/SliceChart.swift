internal import Foundation
internal import Ledger

/// Probability and attention of each slice along the series. One unit across is one image; stretched to the slider's
/// width by the browser.
enum SliceChart {
    private static let height = 100.0
    /// Above the bars: where flags are.
    private static let flags = 12.0

    static func svg(of record: FindingRecord) -> HTML {
        """
        <svg class="chart" viewBox="0 0 \(record.images.count) \(number(height))" preserveAspectRatio="none" \
        role="img" aria-label="Probability of each slice, feet to head: \(summary(record))">
        \(bars(record))
        <line class="threshold" x1="0" x2="\(record.images.count)" y1="\(y(record.sliceThreshold))" \
        y2="\(y(record.sliceThreshold))"/>
        <polyline class="attention" points="\(attention(record))"/>
        <line class="cursor" x1="0" x2="0" y1="0" y2="\(number(height))"/>
        </svg>
        """
    }

    static func mostAttention(_ record: FindingRecord) -> Double { record.slices.map(\.attention).max() ?? 0 }

    private static func summary(_ record: FindingRecord) -> String {
        let flagged = record.slices.count(where: \.isFlagged)
        let most = record.slices.map(\.probability).max() ?? 0
        return "\(record.slices.count) slices, \(flagged) flagged, highest \(Words.probability(most))"
    }

    private static func bars(_ record: FindingRecord) -> [HTML] {
        var first = 0
        return record.slices.map { slice in
            defer { first += slice.imageCount }
            let top = height - bar(slice.probability)
            let kind: HTML = slice.isFlagged ? "bar flagged" : "bar"
            let flag: HTML =
                slice.isFlagged
                ? "<rect class=\"flag\" x=\"\(first)\" y=\"0\" width=\"\(slice.imageCount)\" height=\"7\"/>" : ""
            return """
                <rect class="\(kind)" x="\(first)" y="\(number(top))" width="\(slice.imageCount)" \
                height="\(number(bar(slice.probability)))"/>\(flag)

                """
        }
    }

    private static func attention(_ record: FindingRecord) -> String {
        let most = max(mostAttention(record), .leastNormalMagnitude)
        var first = 0.0
        return record.slices.map { slice in
            defer { first += Double(slice.imageCount) }
            return "\(number(first + Double(slice.imageCount) / 2)),\(number(height - bar(slice.attention / most)))"
        }.joined(separator: " ")
    }

    private static func y(_ share: Double) -> String { number(height - bar(share)) }
    private static func bar(_ share: Double) -> Double { max(0, min(1, share)) * (height - flags) }
    private static func number(_ value: Double) -> String { String(format: "%.2f", value) }
}
