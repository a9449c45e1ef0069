import Console
import CoreMetrics
import Testing

@Suite struct MetricsRegistryTests {
    @Test func writesCountersGaugesAndHistograms() {
        let registry = MetricsRegistry()
        registry.makeCounter(label: "a_total", dimensions: [("verb", "x")]).increment(by: 3)
        registry.makeRecorder(label: "b", dimensions: [], aggregate: false).record(2.5)
        registry.makeTimer(label: "c_seconds", dimensions: []).recordNanoseconds(300_000_000)
        let lines = registry.prometheusText().split(separator: "\n").map(String.init)
        #expect(lines.contains("# TYPE a_total counter"))
        #expect(lines.contains("a_total{verb=\"x\"} 3"))
        #expect(lines.contains("b 2.5"))
        #expect(lines.contains("c_seconds_bucket{le=\"0.25\"} 0"))
        #expect(lines.contains("c_seconds_bucket{le=\"0.5\"} 1"))
        #expect(lines.contains("c_seconds_bucket{le=\"+Inf\"} 1"))
        #expect(lines.contains("c_seconds_sum 0.3"))
        #expect(lines.contains("c_seconds_count 1"))
    }

    @Test func aGaugeThatIsDestroyedIsNotShownUntilItIsRecordedAgain() {
        let registry = MetricsRegistry()
        let gauge = registry.makeRecorder(label: "b", dimensions: [], aggregate: false)
        gauge.record(2.5)
        registry.destroyRecorder(gauge)
        #expect(!registry.prometheusText().contains("b 2.5"))
        gauge.record(3.5)
        #expect(registry.prometheusText().contains("b 3.5\n"))
    }

    @Test func aCounterThatNeverCountedShowsZero() {
        let registry = MetricsRegistry()
        _ = registry.makeCounter(label: "quiet_total", dimensions: [])
        #expect(registry.prometheusText().contains("quiet_total 0\n"))
    }

    @Test func tellsWhatWasCountedByLabel() {
        let registry = MetricsRegistry()
        for (verb, count) in [("x", 3), ("y", 2)] {
            registry.makeCounter(label: "a_total", dimensions: [("verb", verb)]).increment(by: Int64(count))
        }
        registry.makeCounter(label: "a_total", dimensions: [("other", "x")]).increment(by: 1)
        registry.makeCounter(label: "b_total", dimensions: [("verb", "x")]).increment(by: 1)
        #expect(registry.counts(of: "a_total", by: "verb") == ["x": 3, "y": 2])
    }
}
