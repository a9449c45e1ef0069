internal import Foundation
internal import Ledger
internal import Metrics
internal import WorkerProtocol

/// How long after the last image a report is where somebody can see it: once for each report.
struct FlagTimes {
    /// A report, and when the last image came that it rests on.
    struct Flag: Sendable {
        var report: UID
        var outcome: Outcome
        var lastArrival: Date
    }

    /// Enough for all that are accepted by several destinations at the same time.
    private static let mostKept = 256
    private var noted: [UID] = []

    /// - Returns: nil where no time is known, or another destination had taken it by then.
    static func flag(ofReportIn delivery: DeliveryEntry, _ ledger: any Ledger) async throws -> Flag? {
        guard let uid = delivery.studyInstanceUID,
            let analysis = try await ledger.history(ofStudy: uid).analyses.last(where: {
                $0.report != nil && $0.completedAt <= delivery.createdAt
            }), let report = analysis.report, let lastArrival = analysis.lastArrival
        else { return nil }
        let isTaken = try await ledger.deliveries(ofStudy: uid).contains {
            $0.id != delivery.id && $0.createdAt >= analysis.completedAt && $0.hasTakenFirst
        }
        return isTaken ? nil : Flag(report: report.sopInstanceUID, outcome: analysis.outcome, lastArrival: lastArrival)
    }

    mutating func note(_ flag: Flag, at now: Date) {
        guard !noted.contains(flag.report) else { return }
        noted = noted.suffix(Self.mostKept - 1) + [flag.report]
        let seconds = max(0, now.timeIntervalSince(flag.lastArrival))
        Metrics.Timer(label: "ichnode_time_to_flag_seconds", dimensions: [("outcome", flag.outcome.rawValue)])
            .recordNanoseconds(Int64(min(seconds, 1e9) * 1e9))
    }
}

extension DeliveryEntry {
    /// The first object is the report.
    var hasTakenFirst: Bool { [.accepted, .delivered].contains(objects.first?.state) }
}
