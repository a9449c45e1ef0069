import CoreMetrics
import Foundation
import Ledger
import Testing
import WorkerProtocol

@testable import Console

@Suite struct MetricsTableTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Names that the sources give to metrics.
    private static func made() throws -> Set<String> {
        let sources = root.appendingPathComponent("Sources")
        let files = FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil)
        var names: Set<String> = []
        for case let file as URL in files ?? .init()
        where file.pathExtension == "swift" && file.lastPathComponent != "MetricsTable.swift" {
            let text = try String(contentsOf: file, encoding: .utf8)
            names.formUnion(text.matches(of: /"(ichnode_[a-z0-9_]+)"/).map { String($0.1) })
        }
        return names
    }

    @Test func holdsWhatTheCodeMakesAndNothingElse() throws {
        #expect(Set(MetricsTable.all.map(\.name)) == (try Self.made()))
    }

    @Test func isTheDocument() throws {
        let document = try String(contentsOf: Self.root.appendingPathComponent("docs/METRICS.md"), encoding: .utf8)
        #expect(document == MetricsTable.document)
    }

    @Test func namesCarryKindAndUnit() {
        for metric in MetricsTable.all {
            #expect(metric.name.hasSuffix("_total") == (metric.kind == .counter), "\(metric.name)")
            #expect(metric.kind != .histogram || metric.name.hasSuffix("_seconds"), "\(metric.name)")
            #expect(metric.buckets == metric.buckets.sorted())
            #expect(metric.help.hasSuffix(".") && !metric.help.contains("\n"), "\(metric.name)")
        }
    }

    @Test func escapesLabels() {
        let registry = MetricsRegistry()
        registry.makeCounter(label: "a_total", dimensions: [("name", "\"PACS\"\\\nx")]).increment(by: 1)
        #expect(registry.prometheusText().contains(#"a_total{name="\"PACS\"\\\nx"} 1"#))
    }

    @Test func aHistogramHasTheBucketsOfItsTable() {
        let registry = MetricsRegistry()
        registry.makeTimer(label: "ichnode_time_to_flag_seconds", dimensions: []).recordNanoseconds(700_000_000_000)
        let lines = registry.prometheusText().split(separator: "\n")
        #expect(lines.contains("ichnode_time_to_flag_seconds_bucket{le=\"600.0\"} 0"))
        #expect(lines.contains("ichnode_time_to_flag_seconds_bucket{le=\"1800.0\"} 1"))
        #expect(lines.contains { $0.hasPrefix("# HELP ichnode_time_to_flag_seconds From the last image") })
    }

    @Test func whatHasGoneIsForgotten() {
        let registry = MetricsRegistry()
        registry.replace("g", by: "of", ["a": 1, "b": 2])
        registry.replace("g", by: "of", ["b": 3])
        registry.set("h", 1)
        registry.set("h", nil)
        #expect(registry.prometheusText() == "# TYPE g gauge\ng{of=\"b\"} 3.0\n")
    }

    @Test func showsWhatTheLedgerKnows() async throws {
        let fixture = try ConsoleFixture()
        try await fixture.ledger.recordInstances([.fixture(study: UID("1.2.3")!, at: .now - 100)])
        var lines = try await fixture.get("/metrics").body.split(separator: "\n").map(String.init)
        #expect(lines.contains("ichnode_ready 1.0"))
        #expect(lines.contains("ichnode_ledger_readable 1.0"))
        #expect(lines.contains("ichnode_studies{state=\"receiving\"} 1.0"))
        #expect(lines.contains("ichnode_studies{state=\"concluded\"} 0.0"))
        #expect(try #require(Self.value("ichnode_studies_oldest_open_seconds", lines)) > 99)
        try await fixture.conclude(study: UID("1.2.3")!, owedTo: ["pacs"])
        lines = try await fixture.get("/metrics").body.split(separator: "\n").map(String.init)
        #expect(lines.contains("ichnode_studies{state=\"concluded\"} 1.0"))
        #expect(Self.value("ichnode_studies_oldest_open_seconds", lines) == 0)
        #expect(lines.contains("ichnode_outbox_owed{destination=\"pacs\"} 1.0"))
        #expect(Self.value("ichnode_outbox_oldest_seconds{destination=\"pacs\"}", lines) != nil)
        #expect(lines.contains("ichnode_outbox_given_up{destination=\"pacs\"} 0.0"))
    }

    private static func value(_ name: String, _ lines: [String]) -> Double? {
        lines.first { $0.hasPrefix(name + " ") }.flatMap { Double($0.dropFirst(name.count + 1)) }
    }
}
