internal import Foundation
internal import Hummingbird

/// The query of a request, each parameter read once; what is unknown, repeated or out of range is refused by name.
struct APIQuery {
    private var values: [String: String] = [:]

    /// - Throws: `HTTPError` 400.
    init(_ request: Request, allowed: Set<String>) throws {
        for pair in (request.uri.query ?? "").split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = Self.decoded(parts[0]), let value = Self.decoded(parts.count > 1 ? parts[1] : "") else {
                throw HTTPError(.badRequest, message: "the query is not percent-encoded UTF-8")
            }
            guard allowed.contains(name) else {
                let known = allowed.isEmpty ? "none" : allowed.sorted().joined(separator: ", ")
                throw HTTPError(
                    .badRequest, message: "unknown query parameter \"\(name.prefix(64))\": known are \(known)")
            }
            guard values.updateValue(value, forKey: name) == nil else {
                throw HTTPError(.badRequest, message: "query parameter \(name) is given twice")
            }
        }
    }

    static func decoded(_ text: Substring) -> String? {
        text.replacing("+", with: " ").removingPercentEncoding
    }

    subscript(name: String) -> String? { values[name] }

    func integer(_ name: String, in range: ClosedRange<Int>, default standard: Int) throws -> Int {
        guard let text = values[name] else { return standard }
        // Plain digits: Int would take a sign.
        guard text.allSatisfy({ $0.isASCII && $0.isNumber }), let value = Int(text), range.contains(value) else {
            throw bad(name, "a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    func flag(_ name: String) throws -> Bool {
        switch values[name] {
        case nil, "false": return false
        case "true": return true
        default: throw bad(name, "true or false")
        }
    }

    func text(_ name: String, most: Int) throws -> String? {
        guard let text = values[name] else { return nil }
        guard text.unicodeScalars.count <= most else { throw bad(name, "at most \(most) characters") }
        return text
    }

    /// One of a few words.
    func word<Word>(_ name: String, of words: [(String, Word)], default standard: Word) throws -> Word {
        guard let text = values[name] else { return standard }
        guard let found = words.first(where: { $0.0 == text }) else { throw bad(name, Self.list(words)) }
        return found.1
    }

    /// Some of a few words, between commas; all of them where it is not given.
    func words<Word: Hashable>(_ name: String, of words: [(String, Word)]) throws -> Set<Word> {
        guard let text = values[name] else { return [] }
        let found = text.split(separator: ",", omittingEmptySubsequences: false).map { part in
            words.first { $0.0 == part }?.1
        }
        guard !found.contains(where: { $0 == nil }) else { throw bad(name, "of \(Self.list(words)), between commas") }
        return Set(found.compactMap(\.self))
    }

    private static func list<Word>(_ words: [(String, Word)]) -> String { words.map(\.0).joined(separator: ", ") }

    /// RFC 3339.
    func moment(_ name: String) throws -> Date? {
        guard let text = values[name] else { return nil }
        guard let date = Self.date(text) else { throw bad(name, "a time such as 2026-01-31T08:00:00Z") }
        return date
    }

    /// RFC 3339 §5.6, with any fraction and offset.
    static func date(_ text: String) -> Date? {
        let pattern =
            /(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))/
            .asciiOnlyDigits()
        guard let match = text.wholeMatch(of: pattern)?.output, let year = Int(match.1), let month = Int(match.2),
            let day = Int(match.3), let hour = Int(match.4), let minute = Int(match.5), let second = Int(match.6),
            hour < 24, minute < 60, second <= 60
        else { return nil }
        let calendar = utc
        let components = DateComponents(
            calendar: calendar, timeZone: calendar.timeZone, year: year, month: month, day: day)
        guard components.isValidDate, let midnight = calendar.date(from: components) else { return nil }
        var seconds = Double(hour * 3600 + minute * 60 + second) + (match.7.flatMap { Double("0\($0)") } ?? 0)
        if let sign = match.8, let hours = match.9.flatMap({ Int($0) }), let minutes = match.10.flatMap({ Int($0) }) {
            guard hours < 24, minutes < 60 else { return nil }
            seconds -= Double(hours * 3600 + minutes * 60) * (sign == "-" ? -1 : 1)
        }
        return midnight + seconds
    }

    private static var utc: Calendar {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        return calendar
    }

    private func bad(_ name: String, _ wanted: String) -> HTTPError {
        HTTPError(.badRequest, message: "query parameter \(name) has to be \(wanted)")
    }
}
