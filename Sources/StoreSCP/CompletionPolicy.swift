public import Foundation
internal import Ledger

/// When a study is taken for complete: a pure function of what is known.
public struct CompletionPolicy: Sendable, Equatable {
    /// After the last association of the peer ended.
    public var grace: Duration
    /// After the last arrival, where an association stays open.
    public var quietTime: Duration
    /// After the last arrival, when positions are missing.
    public var deadline: Duration

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
        /// What the geometry of the series to analyse says is not there yet, in words; empty: nothing.
        public var missing: [String]
        /// An operator said so.
        public var forced: Bool

        public init(lastArrival: Date, associationsEnded: Date?, missing: [String] = [], forced: Bool = false) {
            self.lastArrival = lastArrival
            self.associationsEnded = associationsEnded
            self.missing = missing
            self.forced = forced
        }
    }

    /// The rule that decided; its raw value is what operators and reports read.
    public enum Rule: String, Sendable, Codable {
        case grace = "associations ended and grace passed"
        case quiet = "nothing arrived for the quiet time"
        case deadline = "deadline passed"
        case forced = "completed by an operator"
    }

    public enum Decision: Sendable, Equatable {
        case wait(until: Date)
        case complete(Rule)
        /// Given up waiting; never a negative.
        case incomplete(Rule, reasons: [String])
    }

    /// Decides at a moment.
    public func decide(_ evidence: Evidence, at now: Date) -> Decision {
        let quiet = evidence.lastArrival + quietTime.inSeconds
        let settled: (at: Date, rule: Rule) =
            if let ended = evidence.associationsEnded {
                (min(max(ended, evidence.lastArrival) + grace.inSeconds, max(quiet, ended)), .grace)
            } else {
                (quiet, .quiet)
            }
        if evidence.forced {
            return evidence.missing.isEmpty ? .complete(.forced) : .incomplete(.forced, reasons: evidence.missing)
        }
        guard now >= settled.at else { return .wait(until: settled.at) }
        guard !evidence.missing.isEmpty else { return .complete(settled.rule) }
        let last = evidence.lastArrival + max(deadline, grace).inSeconds
        return now < last ? .wait(until: last) : .incomplete(.deadline, reasons: evidence.missing)
    }
}

extension CompletionPolicy.Decision: CustomStringConvertible {
    /// For operators and reports.
    public var description: String {
        switch self {
        case .wait: "waiting"
        case .complete(let rule): rule.rawValue
        case .incomplete(let rule, let reasons): "\(rule.rawValue); \(reasons.joined(separator: ", "))"
        }
    }
}
