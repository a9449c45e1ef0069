import Foundation

/// What a site says is true of its studies: a CSV file with one row a study.
struct StudyLabels {
    struct Row: Sendable {
        let line: Int
        /// Study Instance UID, Accession Number, Patient ID or folder.
        let key: String
        /// Any haemorrhage.
        let any: Bool
        /// By subtype; where the field is blank there is none.
        let subtypes: [String: Bool]
        /// What each second reader said; where the field is blank there is none.
        let readers: [String: Bool]
    }

    static let subtypes = ["epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]

    let rows: [Row]
    /// Name of the file, for texts.
    let file: String

    /// - Parameter readers: columns of second readers.
    /// - Throws: `CommandFailure` with the line and what to do.
    init(_ table: CSVTable, readers: [String]) throws {
        file = table.name
        let (key, any) = (try table.requiredColumn("study"), try table.requiredColumn("any"))
        let subtypes = Self.subtypes.compactMap { name in table.column(name).map { (name, $0) } }
        let readers = try readers.map { ($0, try table.requiredColumn($0)) }
        rows = try table.rows.map { row in
            let field = LabelFields(table, row)
            let value = row.fields[key].trimmingCharacters(in: .whitespaces)
            guard !value.isEmpty else {
                throw CommandFailure(.configuration, "\(table.name):\(row.line): \"study\" is blank: name the study")
            }
            let truth = try field.required(any)
            let types = try field.optional(subtypes)
            if !truth, let contradiction = types.filter({ $0.value }).keys.min() {
                throw CommandFailure(
                    .configuration,
                    "\(table.name):\(row.line): \"any\" is 0 and \"\(contradiction)\" is 1: correct one of them")
            }
            return Row(
                line: row.line, key: value, any: truth, subtypes: types, readers: try field.optional(readers))
        }
        guard !rows.isEmpty else {
            throw CommandFailure(.configuration, "\(table.name) has no row: give it one row a study")
        }
        if let twice = Dictionary(grouping: rows, by: \.key).values.filter({ $0.count > 1 }).min(by: {
            $0[0].line < $1[0].line
        }) {
            let lines = twice.map { "\($0.line)" }.joined(separator: " and ")
            throw CommandFailure(.configuration, "\(table.name): lines \(lines) name the same study: keep one of them")
        }
    }
}

/// What a site says is true of its slices: a CSV file with one row an image.
struct SliceLabels {
    /// Any haemorrhage, by SOP Instance UID.
    let any: [String: Bool]

    init(_ table: CSVTable) throws {
        let (key, column) = (try table.requiredColumn("sop_instance_uid"), try table.requiredColumn("any"))
        let subtypes = StudyLabels.subtypes.compactMap { name in table.column(name).map { (name, $0) } }
        var any: [String: Bool] = [:]
        for row in table.rows {
            let field = LabelFields(table, row)
            let truth = try field.required(column)
            if !truth, let contradiction = try field.optional(subtypes).filter({ $0.value }).keys.min() {
                throw CommandFailure(
                    .configuration,
                    "\(table.name):\(row.line): \"any\" is 0 and \"\(contradiction)\" is 1: correct one of them")
            }
            let uid = row.fields[key].trimmingCharacters(in: .whitespaces)
            guard any.updateValue(truth, forKey: uid) == nil else {
                throw CommandFailure(
                    .configuration, "\(table.name):\(row.line): this SOP Instance UID has a row already: keep one")
            }
        }
        guard !any.isEmpty else {
            throw CommandFailure(.configuration, "\(table.name) has no row: give it one row an image")
        }
        self.any = any
    }
}

/// The zeros and ones of a row.
private struct LabelFields {
    private let table: CSVTable
    private let row: CSVTable.Row

    init(_ table: CSVTable, _ row: CSVTable.Row) { (self.table, self.row) = (table, row) }

    func required(_ column: Int) throws -> Bool {
        guard let value = try optional(column) else { throw failure(column, "is blank") }
        return value
    }

    func optional(_ columns: [(name: String, place: Int)]) throws -> [String: Bool] {
        var found: [String: Bool] = [:]
        for column in columns { found[column.name] = try optional(column.place) }
        return found
    }

    private func optional(_ column: Int) throws -> Bool? {
        switch row.fields[column].trimmingCharacters(in: .whitespaces) {
        case "1": return true
        case "0": return false
        case "": return nil
        default: throw failure(column, "is neither 0 nor 1")
        }
    }

    private func failure(_ column: Int, _ what: String) -> CommandFailure {
        CommandFailure(
            .configuration, "\(table.name):\(row.line): \"\(table.columns[column])\" \(what): write 0 or 1")
    }
}
