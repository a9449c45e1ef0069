internal import Foundation
internal import Hummingbird
internal import Ledger

/// What of the worklist is asked for, as the address says it. What it does not understand it leaves out,
/// and says so.
struct WorklistFilter: Hashable, Sendable {
    enum Standing: String, CaseIterable {
        case all = "", positive, undetermined, underWay = "under-way", negative, notHeadCT = "not-head-ct"

        var title: String {
            switch self {
            case .all: "all"
            case .positive: "positive"
            case .undetermined: "undetermined"
            case .underWay: "under way"
            case .negative: "negative"
            case .notHeadCT: "not a head CT"
            }
        }
        /// nil: not by outcome.
        var outcome: Outcome? {
            switch self {
            case .positive: .positive
            case .undetermined: .undetermined
            case .negative: .negative
            case .notHeadCT: .notHeadCT
            case .all, .underWay: nil
            }
        }
    }

    enum Period: String, CaseIterable {
        case day = "24h", week = "7d", all

        var title: String {
            switch self {
            case .day: "last 24 hours"
            case .week: "last 7 days"
            case .all: "all"
            }
        }
        var seconds: TimeInterval? {
            switch self {
            case .day: 86400
            case .week: 7 * 86400
            case .all: nil
            }
        }
    }

    static let rowsPerPage = 50
    private static let mostCharacters = 128
    private static let mostPages = 100_000
    private static let mostTold = 8

    var text = ""
    var standing = Standing.all
    var period = Period.day
    /// From 1.
    var page = 1
    /// Of the address.
    private(set) var notUnderstood: [String] = []

    init() {}

    /// - Parameter mayName: without it nothing is found by what names a patient: the answer would tell.
    init(_ request: Request, mayName: Bool) {
        for pair in (request.uri.query ?? "").split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let value = APIQuery.decoded(parts.count > 1 ? parts[1] : ""),
                take(APIQuery.decoded(parts[0]) ?? "", value, mayName)
            else {
                if notUnderstood.count < Self.mostTold {
                    notUnderstood.append(String(pair.unicodeScalars.prefix(Self.mostCharacters)))
                }
                continue
            }
        }
    }

    private mutating func take(_ name: String, _ value: String, _ mayName: Bool) -> Bool {
        switch name {
        case "q":
            if mayName {
                text = String(value.prefix(Self.mostCharacters)).trimmingCharacters(in: .whitespacesAndNewlines)
            }
        case "standing":
            guard let known = Standing(rawValue: value) else { return false }
            standing = known
        case "period":
            guard let known = Period(rawValue: value) else { return false }
            period = known
        case "page":
            guard let number = Int(value) else { return false }
            page = max(1, min(number, Self.mostPages))
        default: return false
        }
        return true
    }

    func query(at now: Date) -> StudyQuery {
        StudyQuery(
            text: text, outcomes: standing.outcome.map { [$0] } ?? [],
            states: standing == .underWay ? [.receiving, .analysing] : [],
            since: period.seconds.map { now.addingTimeInterval(-$0) }, limit: Self.rowsPerPage,
            offset: (page - 1) * Self.rowsPerPage)
    }

    /// The query of an address: empty for the list as it is first seen.
    var address: String {
        var components = URLComponents()
        components.queryItems = [
            text.isEmpty ? nil : URLQueryItem(name: "q", value: text),
            standing == .all ? nil : URLQueryItem(name: "standing", value: standing.rawValue),
            period == .day ? nil : URLQueryItem(name: "period", value: period.rawValue),
            page == 1 ? nil : URLQueryItem(name: "page", value: String(page)),
        ].compactMap(\.self)
        guard let query = components.percentEncodedQuery, !query.isEmpty else { return "" }
        return "?" + query.replacingOccurrences(of: "+", with: "%2B")
    }

    func with(_ change: (inout WorklistFilter) -> Void) -> WorklistFilter {
        var filter = self
        filter.page = 1
        change(&filter)
        return filter
    }
}
