public import Foundation
internal import GRDB

extension SQLiteLedger {
    public func deliveries(_ query: DeliveryQuery) async throws -> LedgerPage<DeliveryEntry> {
        var conditions: [String] = []
        var arguments: StatementArguments = []
        if !query.states.isEmpty {
            conditions.append("state IN (\(query.states.map { _ in "?" }.joined(separator: ", ")))")
            arguments += StatementArguments(query.states.map(\.rawValue))
        }
        if let destination = query.destination {
            conditions.append("destination = ?")
            arguments += [destination]
        }
        let filter = conditions.isEmpty ? "" : "WHERE \(conditions.joined(separator: " AND "))"
        let (limit, offset) = (max(0, query.limit), max(0, query.offset))
        return try await read { [arguments] database in
            LedgerPage(
                try Row.fetchAll(
                    database,
                    // Among many, only numbers are sorted.
                    sql: """
                        SELECT * FROM delivery WHERE id IN
                            (SELECT id FROM delivery \(filter) ORDER BY id DESC LIMIT ? OFFSET ?)
                        ORDER BY id DESC
                        """,
                    arguments: arguments + [limit, offset]
                ).map(Self.delivery),
                of: try Int.fetchOne(
                    database, sql: "SELECT count(*) FROM delivery \(filter)", arguments: arguments) ?? 0)
        }
    }

    public func destinationFigures(of names: [String], since: Date) async throws -> [DestinationFigures] {
        try await read { database in
            var figures = Dictionary(names.map { ($0, DestinationFigures($0)) }) { first, _ in first }
            for row in try Row.fetchAll(database, sql: Self.openCounts) {
                let name: String = row["destination"]
                Self.count(row, into: &figures[name, default: DestinationFigures(name)])
            }
            for name in figures.keys {
                let spans = try Double.fetchAll(
                    database,
                    sql: """
                        SELECT delivered_at - created_at FROM delivery
                        WHERE destination = ? AND delivered_at >= ? AND state = 'delivered' ORDER BY 1
                        """,
                    arguments: [name, since.timeIntervalSince1970])
                figures[name]?.delivered = spans.count
                figures[name]?.medianSeconds = Self.median(ofSorted: spans)
                figures[name]?.lastDeliveredAt = try Double.fetchOne(
                    database, sql: "SELECT max(delivered_at) FROM delivery WHERE destination = ?", arguments: [name]
                ).map(Date.init(timeIntervalSince1970:))
                figures[name]?.lastError = try String.fetchOne(
                    database,
                    sql: """
                        SELECT last_error FROM delivery
                        WHERE state = 'pending' AND destination = ? AND last_error IS NOT NULL
                        ORDER BY next_attempt_at DESC LIMIT 1
                        """, arguments: [name])
            }
            return figures.values.sorted { $0.destination < $1.destination }
        }
    }

    private static let openCounts = """
        SELECT destination, state, count(*) AS count, min(created_at) AS since FROM delivery
        WHERE state IN ('pending', 'accepted', 'dead') GROUP BY 1, 2
        """

    private static func count(_ row: Row, into figures: inout DestinationFigures) {
        let count: Int = row["count"]
        switch DeliveryState(rawValue: row["state"]) {
        case .pending: (figures.waiting, figures.waitingSince) = (count, Date(timeIntervalSince1970: row["since"]))
        case .accepted: figures.uncommitted = count
        case .dead: figures.givenUp = count
        default: break
        }
    }

    /// The lower one of two in the middle.
    private static func median(ofSorted values: [Double]) -> Double? {
        values.isEmpty ? nil : values[(values.count - 1) / 2]
    }
}
