internal import Foundation
internal import GRDB
internal import WorkerProtocol

extension SQLiteLedger {
    public func studies(matching query: StudyQuery) async throws -> StudyListing {
        let recent = clock.now().addingTimeInterval(-StudyUrgency.recentSeconds).timeIntervalSince1970
        return try await read { database in
            var found = StudyCondition(query)
            let counts = try Self.counts(found, database)
            found.keepStandings(of: query)
            let total =
                try query.outcomes.isEmpty && query.states.isEmpty ? counts.all : Self.counts(found, database).all
            let rows = try Self.page(found, query, recent, database)
            return StudyListing(rows: rows, total: total, counts: counts)
        }
    }

    public func studyCounts(matching queries: [StudyQuery]) async throws -> [Int] {
        guard !queries.isEmpty else { return [] }
        return try await read { database in
            var counts: [String] = []
            var arguments: [String: (any DatabaseValueConvertible)?] = [:]
            for (index, query) in queries.enumerated() {
                var found = StudyCondition(query, names: "query\(index)")
                found.keepStandings(of: query)
                counts.append("count(CASE WHEN \(found.sql) THEN 1 END)")
                arguments.merge(found.arguments) { first, _ in first }
            }
            let row = try Row.fetchOne(
                database, sql: "SELECT \(counts.joined(separator: ", ")) FROM study",
                arguments: StatementArguments(arguments))
            return queries.indices.map { row?[$0] ?? 0 }
        }
    }

    /// Not by GROUP BY: the index on states would be read for it, and then each row for the rest.
    private static func counts(_ found: StudyCondition, _ database: Database) throws -> StudyCounts {
        let outcomes = Outcome.allCases.enumerated().map { index, outcome in
            "count(CASE WHEN outcome = '\(outcome.rawValue)' THEN 1 END) AS outcome\(index)"
        }
        let row = try Row.fetchOne(
            database,
            sql: """
                SELECT count(*) AS studies, count(CASE WHEN state <> 'concluded' THEN 1 END) AS under_way,
                       \(outcomes.joined(separator: ", ")) FROM study WHERE \(found.sql)
                """, arguments: StatementArguments(found.arguments))
        var counts = StudyCounts()
        guard let row else { return counts }
        (counts.all, counts.underWay) = (row["studies"], row["under_way"])
        for (index, outcome) in Outcome.allCases.enumerated() {
            let studies: Int = row["outcome\(index)"]
            if studies > 0 { counts.outcomes[outcome] = studies }
        }
        return counts
    }

    /// First which, from the index; then only their rows.
    private static func page(
        _ found: StudyCondition, _ query: StudyQuery, _ recent: Double, _ database: Database
    ) throws -> [StudyEntry] {
        let order =
            switch query.order {
            case .urgency: "\(StudyUrgency.sql), active_at DESC"
            case .newest: "last_received_at DESC"
            }
        var arguments = found.arguments
        if query.order == .urgency { arguments["recent"] = recent }
        arguments["limit"] = max(0, min(query.limit, StudyQuery.mostRows))
        arguments["offset"] = max(0, query.offset)
        let uids = try String.fetchAll(
            database,
            sql: """
                SELECT study_uid FROM study WHERE \(found.sql)
                ORDER BY \(order), study_uid LIMIT :limit OFFSET :offset
                """, arguments: StatementArguments(arguments))
        let places = databaseQuestionMarks(count: uids.count)
        let rows = try Row.fetchAll(
            database, sql: "\(studyQuery) WHERE study_uid IN (\(places))", arguments: StatementArguments(uids))
        let studies = rows.compactMap(study)
        let byUID = Dictionary(studies.map { ($0.studyInstanceUID.string, $0) }) { first, _ in first }
        return uids.compactMap { byUID[$0] }
    }
}

/// The part of a query that follows WHERE.
private struct StudyCondition {
    private(set) var sql = "1 = 1"
    private(set) var arguments: [String: (any DatabaseValueConvertible)?] = [:]

    /// What the names of its arguments begin with.
    private let names: String

    /// Without what it says of outcomes and states.
    init(_ query: StudyQuery, names: String = "") {
        self.names = names
        for (index, word) in StudySearch.words(query.text).prefix(StudyQuery.mostWords).enumerated() {
            keep(word, "\(names)word\(index)")
        }
        if let since = query.since {
            sql += """
                 AND (active_at >= :\(names)since OR state IN ('receiving', 'analysing')
                      OR study_uid IN (\(StudyUrgency.lateStudies)))
                """
            arguments[names + "since"] = since.timeIntervalSince1970
        }
        if let until = query.until {
            sql += " AND active_at <= :\(names)until"
            arguments[names + "until"] = until.timeIntervalSince1970
        }
    }

    mutating func keepStandings(of query: StudyQuery) {
        keep("outcome", query.outcomes.map(\.rawValue).sorted())
        keep("state", query.states.map(\.rawValue).sorted())
    }

    private mutating func keep(_ column: String, _ values: [String]) {
        guard !values.isEmpty else { return }
        let each = values.indices.map { "\(names)\(column)\($0)" }
        sql += " AND \(column) IN (\(each.map { ":" + $0 }.joined(separator: ", ")))"
        for (name, value) in zip(each, values) { arguments[name] = value }
    }

    /// Nothing in a word is a wildcard.
    private mutating func keep(_ word: String, _ name: String) {
        let literal = word.reduce(into: "") { $0 += "\\%_".contains($1) ? "\\\($1)" : "\($1)" }
        arguments[name] = "%\(literal)%"
        // Patient IDs of digits are no beginnings of UIDs.
        let mayBeginUID = word.contains(".") && word.allSatisfy { $0.isASCII && ($0.isNumber || $0 == ".") }
        if mayBeginUID { arguments[name + "uid"] = "\(literal)%" }
        let orUID = mayBeginUID ? " OR study_uid LIKE :\(name)uid ESCAPE '\\'" : ""
        sql += " AND (search_text LIKE :\(name) ESCAPE '\\'\(orUID))"
    }
}
