import Foundation
import HTTPTypes
import Ledger
import Testing

@testable import Console

@Suite struct FiguresPageTests {
    private static let start = Date(timeIntervalSince1970: 1_763_596_800)

    private func day(_ number: Int, _ outcomes: [Outcome: Int] = [:], open: Int = 0, toFlag: [Double] = [])
        -> StudyFigures.Day
    {
        var day = StudyFigures.Day(DateInterval(start: Self.start + Double(number) * 86400, duration: 86400))
        (day.outcomes, day.open, day.toFlag) = (outcomes, open, Spans(toFlag))
        return day
    }

    private func count(_ text: String, in html: String) -> Int { html.components(separatedBy: text).count - 1 }

    @Test func barsAreAsHighAsTheirNumbers() throws {
        let days = [day(0, [.positive: 2, .negative: 4], open: 1), day(1), day(2, [.negative: 8])]
        let svg = Chart.volumes(days) { _ in "d" }.text
        // The scale ends at 8; the plot is 158 high.
        #expect(Chart.ceiling(8) == 8)
        #expect(svg.contains("class=\"fill-positive\" x=\"50.5\" y=\"128.5\" width=\"84.3\" height=\"39.5\""))
        #expect(count("class=\"fill-negative\"", in: svg) == 2)
        #expect(svg.contains("height=\"158.0\""))
        #expect(count("class=\"fill-open\"", in: svg) == 1)
        #expect(count("class=\"gone\"", in: svg) == 1)
        #expect(svg.contains("d: 7 studies"))
        #expect(!svg.contains("style="))
    }

    @Test(arguments: [(0, 2), (1, 2), (3, 4), (9, 10), (11, 20), (61, 80), (1001, 2000)])
    func scalesEndAtRoundNumbers(count: Int, end: Int) { #expect(Chart.ceiling(count) == end) }

    @Test func aPercentileOfTooFewIsNotDrawn() {
        let days = [day(0, toFlag: [2, 3, 4, 5, 90]), day(1, toFlag: [1, 2, 3, 4]), day(2)]
        let svg = Chart.percentiles(days) { _ in "d" }.text
        #expect(count("class=\"half\"", in: svg) == 1)
        #expect(count("class=\"gone\"", in: svg) == 2)
        #expect(svg.contains("half within 4.0 s, 95 of 100 within 90 s, n 5"))
    }

    @Test func numbersStandBesideTheCharts() {
        var figures = StudyFigures(days: [day(0, [.positive: 2, .undetermined: 3], toFlag: [1, 2]), day(1)])
        figures.senders = [.init(callingAETitle: "<CT>", studies: 5, undetermined: 3)]
        figures.undetermined = [.init("no <images>", 3)]
        figures.completions = [.init("declared", 5)]
        let html = FiguresText(figures: figures, at: Self.start + 90000).content.text
        #expect(html.contains("&lt;CT&gt;") && !html.contains("<CT>"))
        #expect(html.contains("no &lt;images&gt;"))
        // Of three in all a percentage would mislead.
        #expect(html.contains("3 of 3") && html.contains("100.0 %"))
        #expect(html.contains("too few"))
        #expect(html.contains("class=\"number\">none</td>"))
        #expect(html.contains("Studies by day: n 5"))
    }

    @Test func anEmptyLedgerIsSaidToBeEmpty() async throws {
        let answer = try await ConsoleFixture(Visitor()).get("/figures")
        #expect(answer.status == .ok)
        #expect(answer.body.contains("Studies by day: n 0"))
        #expect(answer.body.contains("Nothing was owed to anybody."))
        #expect(count("class=\"gone\"", in: answer.body) == 61)
    }

    /// Asked again within the minute the ledger is not.
    @Test func figuresAreFoundOnceAMinute() async throws {
        let clock = TestTime()
        let asked = TestTime()
        let cached = Cached(atMost: 60, clock: clock.clock) {
            asked.advance(1)
            return asked.seconds
        }
        #expect(try await cached.value().value == 1)
        clock.advance(59)
        #expect(try await cached.value().value == 1)
        clock.advance(1)
        #expect(try await cached.value().value == 2)
    }
}

/// Seconds that pass when they are told to.
private final class TestTime: @unchecked Sendable {
    private let lock = NSLock()
    private var now = 0.0
    var seconds: Double { lock.withLock { now } }
    func advance(_ by: Double) { lock.withLock { now += by } }
    var clock: WallClock {
        WallClock(now: { Date(timeIntervalSince1970: self.seconds) }, sleep: { _ in })
    }
}
