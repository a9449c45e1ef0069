public import Foundation
internal import GRDB

/// How much is under way and owed.
public struct Backlog: Sendable, Equatable {
    public var studies: [StudyState: Int]
    /// When the first image came of what has been without an outcome for longest; nil where nothing is.
    public var openSince: Date?
    /// Destinations that are owed something, or refused something.
    public var lanes: [OpenWork.Lane]
    public init(studies: [StudyState: Int], openSince: Date? = nil, lanes: [OpenWork.Lane] = []) {
        self.studies = studies
        self.openSince = openSince
        self.lanes = lanes
    }
}

extension SQLiteLedger {
    public func backlog() async throws -> Backlog {
        try await read { database in
            let counts = try Row.fetchAll(database, sql: "SELECT state, count(*) AS count FROM study GROUP BY state")
            let openSince = try Double.fetchOne(
                database,
                sql: """
                    SELECT min(open_since) FROM study
                    WHERE state IN ('receiving', 'analysing') AND \(Self.isNotIgnored)
                    """)
            return Backlog(
                studies: counts.reduce(into: [:]) { studies, row in
                    if let state = StudyState(rawValue: row["state"]) { studies[state] = row["count"] }
                },
                openSince: openSince.map(Date.init(timeIntervalSince1970:)), lanes: try Self.openLanes(database))
        }
    }
}
