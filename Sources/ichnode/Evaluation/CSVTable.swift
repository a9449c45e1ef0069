import Foundation

/// A CSV file with a header line (RFC 4180): quoted fields may hold commas, quotes and line ends.
struct CSVTable {
    struct Row {
        /// Line of the file where the row begins, from 1.
        let line: Int
        let fields: [String]
    }

    /// 3 million images at 80 bytes each; the whole file is held in memory.
    static let mostBytes = 256 << 20

    /// For error texts.
    let name: String
    /// Column names as they stand, without surrounding blanks.
    let columns: [String]
    let rows: [Row]

    /// - Throws: `CommandFailure` with the line and what to do.
    init(path: String, mostBytes: Int = mostBytes) throws {
        let url = URL(fileURLWithPath: path)
        let bytes: Data
        do {
            let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
            guard size <= mostBytes else {
                throw CommandFailure(.configuration, "\(path) has more than \(mostBytes) bytes: split it")
            }
            bytes = try Data(contentsOf: url)
        } catch let failure as CommandFailure { throw failure } catch {
            throw CommandFailure(.configuration, "cannot read \(path): name a CSV file that is there")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw CommandFailure(.configuration, "\(path) is not UTF-8: save it as CSV UTF-8")
        }
        try self.init(text: text, name: url.lastPathComponent)
    }

    init(text: String, name: String) throws {
        self.name = name
        var records = try Self.parse(text, name)
        guard !records.isEmpty else { throw CommandFailure(.configuration, "\(name) is empty: it needs a header line") }
        let header = records.removeFirst()
        columns = header.fields.map { $0.trimmingCharacters(in: .whitespaces) }
        let names = columns.filter { !$0.isEmpty }.map { $0.lowercased() }
        if let twice = Dictionary(grouping: names, by: \.self).filter({ $1.count > 1 }).keys.min() {
            throw CommandFailure(.configuration, "\(name):\(header.line): two columns are named \"\(twice)\"")
        }
        for record in records where record.fields.count != columns.count {
            throw CommandFailure(
                .configuration,
                "\(name):\(record.line): \(record.fields.count) fields where the header has \(columns.count): "
                    + "separate by commas, and quote fields that hold commas")
        }
        rows = records
    }

    /// Place of a column; names are compared without regard to case.
    func column(_ wanted: String) -> Int? { columns.firstIndex { $0.lowercased() == wanted.lowercased() } }

    /// - Throws: `CommandFailure` that names the columns that are there.
    func requiredColumn(_ wanted: String) throws -> Int {
        guard let place = column(wanted) else {
            throw CommandFailure(
                .configuration, "\(name) has no column \"\(wanted)\"; it has \(columns.joined(separator: ", "))")
        }
        return place
    }

    /// Lines of a CSV file.
    static func write(_ rows: [[String]]) -> String {
        rows.map { $0.map(quoted).joined(separator: ",") + "\r\n" }.joined()
    }

    private static func quoted(_ field: String) -> String {
        guard field.unicodeScalars.contains(where: { ",\"\r\n".unicodeScalars.contains($0) }) else { return field }
        return "\"" + field.replacingOccurrences(of: "\"", with: "\"\"") + "\""
    }

    // MARK: Parsing

    private static func parse(_ text: String, _ name: String) throws -> [Row] {
        var parser = Parser(name: name)
        // By scalars: "\r\n" is one Character.
        for scalar in text.unicodeScalars.drop(while: { $0 == "\u{FEFF}" }) { try parser.take(scalar) }
        return try parser.finish()
    }

    private struct Parser {
        private enum Place { case start, plain, quoted, afterQuote }

        let name: String
        private var place = Place.start
        private var field = String.UnicodeScalarView()
        private var fields: [String] = []
        private var rows: [Row] = []
        private var (line, rowLine, quoteLine) = (1, 1, 1)
        private var afterReturn = false

        init(name: String) { self.name = name }

        mutating func take(_ scalar: Unicode.Scalar) throws {
            let isSecondOfPair = afterReturn && scalar == "\n"
            afterReturn = scalar == "\r"
            if (scalar == "\n" && !isSecondOfPair) || scalar == "\r" { line += 1 }
            if place == .quoted {
                if scalar == "\"" { place = .afterQuote } else { field.append(scalar) }
                return
            }
            // The line feed of a pair ended nothing new.
            if isSecondOfPair && place == .start && field.isEmpty && fields.isEmpty { return }
            switch scalar {
            case "\"" where place == .start: (place, quoteLine) = (.quoted, line)
            case "\"" where place == .afterQuote:
                field.append(scalar)
                place = .quoted
            case ",": endField()
            case "\r", "\n": endRow()
            default:
                guard place != .afterQuote else {
                    throw CommandFailure(
                        .configuration, "\(name):\(line): text after a closing quote: double quotes inside a field")
                }
                place = .plain
                field.append(scalar)
            }
        }

        mutating func finish() throws -> [Row] {
            guard place != .quoted else {
                throw CommandFailure(.configuration, "\(name):\(quoteLine): a quote that is opened is never closed")
            }
            if place != .start || !fields.isEmpty { endRow() }
            return rows
        }

        private mutating func endField() {
            fields.append(String(field))
            field = .init()
            place = .start
        }

        /// Blank lines are no rows.
        private mutating func endRow() {
            let isBlank = place == .start && fields.isEmpty
            endField()
            if !isBlank { rows.append(Row(line: rowLine, fields: fields)) }
            fields = []
            rowLine = line
        }
    }
}
