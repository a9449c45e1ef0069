public import Foundation
internal import Ledger

/// When a study is taken for complete: a pure function of what is known.
///
/// Missing slices are waited for until the deadline; then the study is incomplete. Where nothing is missing, it is
/// complete once the sender has finished and a grace has passed. Where it may still be less than all, only a count that
/// agrees or the quiet time makes it complete.
public struct CompletionPolicy: Sendable, Equatable {
    /// After the last association of the peer ended. For a peer that opens several for one study it is longer:
    /// `gapFactor` times what nearly all of its pauses between two stay below.
    public var grace: Duration
    /// After the last arrival, where an association stays open or doubts remain.
    public var quietTime: Duration
    /// After the last arrival, when slices are missing.
    public var deadline: Duration

    public static let gapFactor = 2.0

    public init(grace: Duration = .seconds(2), quietTime: Duration = .seconds(60), deadline: Duration = .seconds(600)) {
        self.grace = grace
        self.quietTime = quietTime
        self.deadline = deadline
    }

    /// What is known of a study at a moment.
    public struct Evidence: Sendable, Equatable {
        public var lastArrival: Date
        /// When the last association that brought instances, or could still, ended; nil while one is open.
        public var associationsEnded: Date?
        /// What 99 of 100 pauses of the peer between two associations for one study stay below; nil: none was seen.
        public var associationGap: Duration?
        public var series: SeriesEvidence
        /// An operator said so.
        public var forced: Bool

        public init(
            lastArrival: Date, associationsEnded: Date?, associationGap: Duration? = nil,
            series: SeriesEvidence = .init(), forced: Bool = false
        ) {
            self.lastArrival = lastArrival
            self.associationsEnded = associationsEnded
            self.associationGap = associationGap
            self.series = series
            self.forced = forced
        }
    }

    /// The rule that decided; its raw value is what operators and reports read.
    public enum Rule: String, Sendable, Codable {
        case declared = "all images that the scanner declared are there"
        case grace = "associations ended and grace passed"
        case quiet = "nothing arrived for the quiet time"
        case deadline = "deadline passed"
        case forced = "completed by an operator"
    }

    public enum Decision: Sendable, Equatable {
        case wait(until: Date)
        /// - Parameter doubts: those that time settled.
        case complete(Rule, doubts: [CompletionReason] = [])
        /// Given up waiting; never a negative.
        case incomplete(Rule, reasons: [CompletionReason])
    }

    /// Decides at a moment.
    public func decide(_ evidence: Evidence, at now: Date) -> Decision {
        let series = evidence.series
        if evidence.forced {
            return series.missing.isEmpty
                ? .complete(.forced, doubts: series.isAsDeclared ? [] : series.doubts)
                : .incomplete(.forced, reasons: series.missing)
        }
        guard series.missing.isEmpty else {
            let last = evidence.lastArrival + max(deadline, grace).inSeconds
            return now < last ? .wait(until: last) : .incomplete(.deadline, reasons: series.missing)
        }
        let settled = settled(evidence)
        guard now >= settled.at else { return .wait(until: settled.at) }
        return .complete(settled.rule, doubts: settled.rule == .quiet ? series.doubts : [])
    }

    /// When it is complete if nothing else happens, and by which rule.
    private func settled(_ evidence: Evidence) -> (at: Date, rule: Rule) {
        let quiet = evidence.lastArrival + quietTime.inSeconds
        // An association that stays open after the last declared image is idle.
        let ended = evidence.associationsEnded ?? (evidence.series.isAsDeclared ? evidence.lastArrival : nil)
        guard let ended, evidence.series.doubts.isEmpty || evidence.series.isAsDeclared else { return (quiet, .quiet) }
        let pause = max(grace.inSeconds, Self.gapFactor * (evidence.associationGap?.inSeconds ?? 0))
        let graceful = max(ended, evidence.lastArrival) + pause
        return (min(graceful, max(quiet, ended)), evidence.series.isAsDeclared ? .declared : .grace)
    }
}

extension CompletionPolicy.Decision: CustomStringConvertible {
    /// For operators and reports.
    public var description: String {
        switch self {
        case .wait: "waiting"
        case .complete(let rule, let doubts):
            rule.rawValue + (doubts.isEmpty ? "" : "; though \(doubts.map(\.description).joined(separator: ", "))")
        case .incomplete(let rule, let reasons):
            "\(rule.rawValue); \(reasons.map(\.description).joined(separator: ", "))"
        }
    }
}
