public import CoreMetrics
internal import Foundation

/// Keeps what swift-metrics counts, and writes it in Prometheus' text format.
///
/// Names are used as they are given: they carry their unit and `_total`. `@unchecked Sendable` is safe because all
/// state is guarded by `lock`.
public final class MetricsRegistry: @unchecked Sendable {
    private struct Series: Hashable {
        var name: String
        var labels: String
    }

    private struct Histogram {
        /// Upper bounds, and how many were at most that.
        var buckets: [(bound: Double, count: Int)]
        var count = 0
        var sum = 0.0

        init(of name: String) {
            buckets = (MetricsTable.description(name)?.buckets ?? MetricsTable.quick).map { ($0, 0) }
        }
    }

    private let lock = NSLock()
    private var counters: [Series: Int64] = [:]
    private var gauges: [Series: Double] = [:]
    private var histograms: [Series: Histogram] = [:]

    public init() {}

    /// Text format 0.0.4.
    public func prometheusText() -> String {
        lock.withLock {
            var lines: [String] = []
            write("counter", counters, to: &lines) { series, value in ["\(series.name)\(series.labels) \(value)"] }
            write("gauge", gauges, to: &lines) { series, value in ["\(series.name)\(series.labels) \(value)"] }
            write("histogram", histograms, to: &lines, Self.histogramLines)
            return lines.map { $0 + "\n" }.joined()
        }
    }

    /// What a counter has counted, by the values of its only label.
    public func counts(of name: String, by label: String) -> [String: Int] {
        let start = "{\(label)=\""
        return lock.withLock {
            counters.reduce(into: [:]) { counts, counter in
                guard counter.key.name == name, counter.key.labels.hasPrefix(start) else { return }
                counts[String(counter.key.labels.dropFirst(start.count).dropLast(2))] = Int(counter.value)
            }
        }
    }

    /// What a counter has counted, whatever its labels.
    public func count(of name: String) -> Int {
        lock.withLock { Int(counters.reduce(0) { $1.key.name == name ? $0 + $1.value : $0 }) }
    }

    private func write<Value>(
        _ type: String, _ all: [Series: Value], to lines: inout [String], _ text: (Series, Value) -> [String]
    ) {
        var named = ""
        for (series, value) in all.sorted(by: { ($0.key.name, $0.key.labels) < ($1.key.name, $1.key.labels) }) {
            if series.name != named {
                if let help = MetricsTable.description(series.name)?.help {
                    lines.append("# HELP \(series.name) \(help)")
                }
                lines.append("# TYPE \(series.name) \(type)")
            }
            named = series.name
            lines += text(series, value)
        }
    }

    private static func histogramLines(_ series: Series, _ histogram: Histogram) -> [String] {
        func labels(_ bound: String) -> String {
            let inner = series.labels.isEmpty ? "" : series.labels.dropFirst().dropLast() + ","
            return "{\(inner)le=\"\(bound)\"}"
        }
        return histogram.buckets.map { "\(series.name)_bucket\(labels("\($0.bound)")) \($0.count)" } + [
            "\(series.name)_bucket\(labels("+Inf")) \(histogram.count)",
            "\(series.name)_sum\(series.labels) \(histogram.sum)",
            "\(series.name)_count\(series.labels) \(histogram.count)",
        ]
    }

    private static func series(_ label: String, _ dimensions: [(String, String)]) -> Series {
        let inner = dimensions.map { "\($0.0)=\"\(escaped($0.1))\"" }.joined(separator: ",")
        return Series(name: label, labels: inner.isEmpty ? "" : "{\(inner)}")
    }

    private static func escaped(_ value: String) -> String {
        value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }

    /// Sets a gauge for each value of its only label, and forgets it for all others.
    func replace(_ name: String, by label: String, _ values: [String: Double]) {
        lock.withLock {
            gauges = gauges.filter { $0.key.name != name }
            for (value, number) in values { gauges[Self.series(name, [(label, value)])] = number }
        }
    }

    /// - Parameter value: nil: it is not known.
    func set(_ name: String, _ value: Double?) {
        lock.withLock { gauges[Self.series(name, [])] = value }
    }

    fileprivate func add(_ amount: Int64, _ label: String, _ dimensions: [(String, String)]) {
        lock.withLock { counters[Self.series(label, dimensions), default: 0] += amount }
    }

    fileprivate func reset(_ label: String, _ dimensions: [(String, String)]) {
        lock.withLock { counters[Self.series(label, dimensions)] = 0 }
    }

    fileprivate func set(_ value: Double, _ label: String, _ dimensions: [(String, String)]) {
        lock.withLock { gauges[Self.series(label, dimensions)] = value }
    }

    fileprivate func forget(_ label: String, _ dimensions: [(String, String)]) {
        lock.withLock { gauges[Self.series(label, dimensions)] = nil }
    }

    fileprivate func observe(_ value: Double, _ label: String, _ dimensions: [(String, String)]) {
        lock.withLock {
            let series = Self.series(label, dimensions)
            var histogram = histograms[series] ?? Histogram(of: label)
            for index in histogram.buckets.indices where value <= histogram.buckets[index].bound {
                histogram.buckets[index].count += 1
            }
            histogram.count += 1
            histogram.sum += value
            histograms[series] = histogram
        }
    }
}

extension MetricsRegistry: MetricsFactory {
    private final class Handler: CounterHandler, RecorderHandler, TimerHandler {
        let registry: MetricsRegistry
        let label: String
        let dimensions: [(String, String)]
        let aggregates: Bool

        init(_ registry: MetricsRegistry, _ label: String, _ dimensions: [(String, String)], aggregates: Bool = false) {
            (self.registry, self.label, self.dimensions, self.aggregates) = (registry, label, dimensions, aggregates)
        }

        func increment(by amount: Int64) { registry.add(amount, label, dimensions) }
        func reset() { registry.reset(label, dimensions) }
        func record(_ value: Int64) { record(Double(value)) }
        func record(_ value: Double) {
            if aggregates { registry.observe(value, label, dimensions) } else { registry.set(value, label, dimensions) }
        }
        func recordNanoseconds(_ duration: Int64) { registry.observe(Double(duration) / 1e9, label, dimensions) }
    }

    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        // A counter that never counted shows as 0, not as missing.
        add(0, label, dimensions)
        return Handler(self, label, dimensions)
    }

    public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        Handler(self, label, dimensions, aggregates: aggregate)
    }

    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        Handler(self, label, dimensions, aggregates: true)
    }

    /// A gauge is shown again once it is recorded again.
    public func destroyRecorder(_ handler: any RecorderHandler) {
        guard let handler = handler as? Handler, !handler.aggregates else { return }
        forget(handler.label, handler.dimensions)
    }

    public func destroyCounter(_ handler: any CounterHandler) {}
    public func destroyTimer(_ handler: any TimerHandler) {}
}
