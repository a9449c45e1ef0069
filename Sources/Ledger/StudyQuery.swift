public import Foundation

/// Which studies are listed, in which order, and which of them.
public struct StudyQuery: Sendable, Hashable {
    public enum Order: String, Sendable, CaseIterable {
        /// What a person must look at first: `StudyUrgency`.
        case urgency
        /// The last image that came first.
        case newest
    }

    /// Words that must all be in patient name or ID, accession number or description, or begin the Study Instance UID.
    /// Without regard to case and diacritics; `^` and `=` of a name (PS3.5 §6.2) are spaces.
    public var text: String
    /// Empty: all.
    public var outcomes: Set<Outcome>
    /// Empty: all.
    public var states: Set<StudyState>
    /// Leaves out what was neither received nor concluded since; never what is not concluded, or late.
    public var since: Date?
    /// Leaves out what was received or concluded later.
    public var until: Date?
    public var order: Order
    /// At most `mostRows`.
    public var limit: Int
    public var offset: Int

    public static let mostRows = 500
    /// Of `text`; more are not looked at.
    static let mostWords = 8

    public init(
        text: String = "", outcomes: Set<Outcome> = [], states: Set<StudyState> = [], since: Date? = nil,
        until: Date? = nil, order: Order = .urgency, limit: Int = 50, offset: Int = 0
    ) {
        self.text = text
        self.outcomes = outcomes
        self.states = states
        self.since = since
        self.until = until
        self.order = order
        self.limit = limit
        self.offset = offset
    }
}

/// One page of what a query finds.
public struct StudyListing: Sendable {
    public var rows: [StudyEntry]
    /// All that the query finds.
    public var total: Int
    /// Of all that it would find without `outcomes` and `states`.
    public var counts: StudyCounts
    public init(rows: [StudyEntry], total: Int, counts: StudyCounts) {
        self.rows = rows
        self.total = total
        self.counts = counts
    }
}

/// How many studies stand where. One that had an outcome and receives more is in both.
public struct StudyCounts: Sendable, Equatable {
    public var all = 0
    /// Not concluded.
    public var underWay = 0
    public var outcomes: [Outcome: Int] = [:]
    public init() {}
}

/// Classes of a worklist in order of urgency; the newest first within each.
public enum StudyUrgency: Int, Sendable, CaseIterable {
    /// Of the last 24 hours, also while more of it arrives.
    case positive
    /// Undetermined or held, of the last 24 hours; and what has no result although time is up: the operator alert
    /// `no-result` is active.
    case needsPerson
    case underWay
    case recent
    case older

    /// How long a result is new.
    public static let recentSeconds: TimeInterval = 24 * 3600

    /// As a number, of a row of `study`. Takes one argument, twice named `:recent`: since when a study is recent.
    static let sql = """
        CASE WHEN outcome = 'positive' AND active_at >= :recent THEN \(positive.rawValue)
             WHEN study_uid IN (\(lateStudies)) THEN \(needsPerson.rawValue)
             WHEN state <> 'concluded' THEN \(underWay.rawValue)
             WHEN active_at < :recent THEN \(older.rawValue)
             WHEN outcome = 'undetermined' AND (decision IS NULL OR decision <> 'ignored') THEN \(needsPerson.rawValue)
             ELSE \(recent.rawValue) END
        """

    static let lateStudies = "SELECT subject FROM operator_alert WHERE kind = 'no-result' AND cleared_at IS NULL"
}

/// What the text of a query is looked for in.
enum StudySearch {
    /// - Parameter texts: as they are in data sets.
    static func text(_ texts: String?...) -> String {
        words(texts.compactMap(\.self).joined(separator: " ")).joined(separator: " ")
    }

    /// Lower case, without diacritics, cut where a name may be cut.
    static func words(_ text: String) -> [String] {
        text.folding(options: [.caseInsensitive, .diacriticInsensitive, .widthInsensitive], locale: nil)
            .split { $0.isWhitespace || "^=,\\".contains($0) }.map(String.init)
    }
}
