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
        /// What a PACS said when it was asked after the last arrival.
        public var held: HeldCount?
        /// How often a PACS was asked for images of the study.
        public var retrievals: Retrievals?
        /// An operator said so.
        public var forced: Bool

        public init(
            lastArrival: Date, associationsEnded: Date?, associationGap: Duration? = nil,
            series: SeriesEvidence = .init(), held: HeldCount? = nil, retrievals: Retrievals? = nil,
            forced: Bool = false
        ) {
            self.lastArrival = lastArrival
            self.associationsEnded = associationsEnded
            self.associationGap = associationGap
            self.series = series
            self.held = held
            self.retrievals = retrievals
            self.forced = forced
        }
    }

    /// Images of the series that a PACS holds.
    public struct HeldCount: Sendable, Equatable {
        public var images: Int
        /// The first and the latest of the answers in a row that gave this number.
        public var since: Date
        public var latest: Date

        public init(images: Int, since: Date, latest: Date) {
            self.images = images
            self.since = since
            self.latest = latest
        }

        /// With one answer more.
        public func adding(_ images: Int, at now: Date) -> HeldCount {
            HeldCount(images: images, since: images == self.images ? since : now, latest: now)
        }
    }

    /// Requests to a PACS to send a series.
    public struct Retrievals: Sendable, Equatable {
        public var count: Int
        /// Of the study, when the latest was made.
        public var lastArrival: Date

        public init(count: Int, lastArrival: Date) {
            self.count = count
            self.lastArrival = lastArrival
        }
    }

    /// The rule that decided; its raw value is what operators and reports read.
    public enum Rule: String, Sendable, Codable, CaseIterable {
        case declared = "all images that the scanner declared are there"
        case held = "the PACS holds no more images of the series"
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
        let missing = missing(evidence)
        let settled = settled(evidence)
        if evidence.forced {
            guard missing.isEmpty else { return .incomplete(.forced, reasons: missing) }
            return .complete(.forced, doubts: doubts(evidence))
        }
        guard missing.isEmpty else {
            let last = evidence.lastArrival + max(deadline, grace).inSeconds
            return now < last ? .wait(until: last) : .incomplete(.deadline, reasons: missing)
        }
        guard now >= settled.at else { return .wait(until: settled.at) }
        return .complete(settled.rule, doubts: doubts(evidence))
    }

    /// When to ask the PACS (again) how many images of the series it holds; nil where its answer would settle nothing.
    ///
    /// A PACS that forwards while it still receives tells a growing number: two equal answers at least the grace apart
    /// count, and one that is higher than what is here counts at once.
    public func nextQuestion(_ evidence: Evidence) -> Date? {
        let missing = evidence.series.missing
        guard missing.allSatisfy({ $0 == .imageLost }), evidence.series.seriesInstanceUID != nil, !evidence.forced
        else { return nil }
        let isOpen = evidence.associationsEnded == nil
        let isContradicted = evidence.held.map { !agrees($0, evidence.series) } == true
        guard isOpen || !missing.isEmpty || !doubts(evidence).isEmpty || isContradicted else { return nil }
        guard let held = evidence.held else { return evidence.lastArrival + grace.inSeconds }
        // Soon for the second answer, then at leisure.
        return held.latest + (held.latest > held.since ? max(grace, Self.questionPause) : grace).inSeconds
    }

    static let questionPause: Duration = .seconds(15)

    /// When to ask the PACS for the images of the series that are missing; nil where none are known to be.
    ///
    /// Asked when nothing has come for a while, and again only when something has come since: a PACS that has no more
    /// gives no more.
    public func nextRetrieval(_ evidence: Evidence) -> Date? {
        let isHeld = evidence.held.map { $0.images > evidence.series.imageCount && isSteady($0) } ?? false
        guard isHeld || !evidence.series.missing.isEmpty, evidence.series.seriesInstanceUID != nil, !evidence.forced
        else { return nil }
        if let made = evidence.retrievals {
            guard made.count < Self.mostRetrievals, made.lastArrival < evidence.lastArrival else { return nil }
        }
        return stillness(evidence, ended: evidence.associationsEnded)
    }

    static let mostRetrievals = 3

    private func agrees(_ held: HeldCount, _ series: SeriesEvidence) -> Bool {
        held.images == series.imageCount && isSteady(held)
    }

    private func isSteady(_ held: HeldCount) -> Bool {
        held.latest.timeIntervalSince(held.since) >= grace.inSeconds
    }

    private func missing(_ evidence: Evidence) -> [CompletionReason] {
        // It may be of another series, or have come before.
        let missing = evidence.series.missing.filter { $0 != .imageLost || !isCounted(evidence) }
        guard let held = evidence.held, held.images > evidence.series.imageCount else { return missing }
        return missing + [.fewerThanHeld(present: evidence.series.imageCount, held.images)]
    }

    private func isCounted(_ evidence: Evidence) -> Bool {
        evidence.series.isAsDeclared || evidence.held.map { agrees($0, evidence.series) } == true
    }

    /// Those that no count has settled.
    private func doubts(_ evidence: Evidence) -> [CompletionReason] {
        isCounted(evidence) ? [] : evidence.series.doubts
    }

    /// When it is complete if nothing else happens, and by which rule.
    private func settled(_ evidence: Evidence) -> (at: Date, rule: Rule) {
        var count: (at: Date, rule: Rule)?
        if evidence.series.isAsDeclared { count = (evidence.lastArrival, .declared) }
        if let held = evidence.held, agrees(held, evidence.series) { count = count ?? (held.since, .held) }
        // An association that stays open after the last image that there is is idle.
        guard let ended = evidence.associationsEnded ?? count?.at, doubts(evidence).isEmpty else {
            return (stillness(evidence, ended: nil), .quiet)
        }
        return (stillness(evidence, ended: ended), count?.rule ?? .grace)
    }

    /// When nothing has come for the grace, or where the associations have not ended for the quiet time.
    private func stillness(_ evidence: Evidence, ended: Date?) -> Date {
        let quiet = evidence.lastArrival + quietTime.inSeconds
        guard let ended else { return quiet }
        let pause = max(grace.inSeconds, Self.gapFactor * (evidence.associationGap?.inSeconds ?? 0))
        return min(max(ended, evidence.lastArrival) + pause, max(quiet, ended))
    }
}

extension CompletionPolicy.Decision {
    /// - Parameter text: a decision as it was described.
    /// - Returns: whether it was that the study is complete.
    public static func isComplete(_ text: String) -> Bool {
        CompletionPolicy.Rule.allCases.contains { text == $0.rawValue || text.hasPrefix("\($0.rawValue); though ") }
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
