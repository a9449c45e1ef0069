import Foundation

@testable import Console

/// A node that is as a test says.
struct FixedFacts: NodeFacts {
    var shown = SystemFacts(
        version: "1.0", aeTitle: "ICHNODE", hostName: "node1", startedAt: Date(timeIntervalSince1970: 1_700_000_000),
        dataDirectory: "/data",
        disk: .init(freeBytes: 60 << 30, totalBytes: 100 << 30, rejectBelow: 5 << 30, refuseBelow: 1 << 30),
        keepDays: 30, leastKeepHours: 1, openAssociations: 3, mostAssociations: 64, refusals: [:],
        processes: [
            .init(verb: "daemon", id: 1, residentBytes: 100 << 20, descriptors: 40),
            .init(verb: "receive", id: 2, residentBytes: 20 << 20, descriptors: 10),
            .init(verb: "receive", id: 3, residentBytes: 20 << 20, descriptors: 10),
            .init(verb: "infer", id: 4, residentBytes: 300 << 20, descriptors: 8),
        ],
        inferenceRestarts: 0, certificates: [], certificateDays: 30, auditFile: "/data/audit/audit.log",
        ledgerBytes: 3 << 20, landlockVersion: 4, hasSeccomp: true, isClockSynchronised: true, log: [])

    var card = ModelFacts(
        name: "a-model", version: "2.0", created: "2026-01-01", description: "A <model>.", digest: "abc123",
        directory: "/model", classes: ["any", "subdural"], sliceThreshold: 0.2, input: "192 × 192 pixels",
        operatingPoints: [.init(name: "balanced", threshold: 0.339)],
        routes: [
            .init(name: "night", threshold: "balanced", value: 0.339),
            .init(name: "day", threshold: "0.5", value: 0.5),
        ],
        training: [("studies", "66")],
        measured: [
            .init(
                set: "all", studies: 66, positiveStudies: 29,
                figures: [("study AUC", .init(value: 0.8891, low: 0.8061, high: 0.955))],
                points: ["balanced": [("sensitivity", .init(value: 0.7931, low: 0.6161, high: 0.9015, count: 29))]],
                classes: [("subdural", [("study AUC", .init(value: 0.746))])])
        ],
        limits: .init(intendedUse: "Adults.", neverTriedOn: ["Children"], weakSpots: ["Thin blood"]))

    var settings = ConfigurationFacts(
        file: "/etc/ichnode/ichnode.yaml", readAt: Date(timeIntervalSince1970: 1_700_000_000), digest: "d1",
        standing: .unchanged, sections: [])

    func system() async -> SystemFacts { shown }
    func model() async -> ModelFacts { card }
    func configuration() async -> ConfigurationFacts { settings }
}
