import Foundation
import WorkerProtocol
import Yams

/// What is wrong with a configuration file: all of it at once.
struct ConfigurationError: Error, CustomStringConvertible {
    struct Problem: Equatable {
        var line: Int
        var text: String
    }
    var file: String
    var problems: [Problem]
    /// What the file says apart from them, with defaults in their place, without peers that cannot be known; nil where
    /// it cannot be read at all.
    var remainder: NodeConfiguration?

    var description: String {
        problems.sorted { $0.line < $1.line }.map { "\(file):\($0.line): \($0.text)" }.joined(separator: "\n")
    }
}

/// A key that the node asks a file for.
struct AskedKey {
    /// "dicom", "peers[0]".
    var section: String
    var key: String
    /// nil: the file does not have it.
    var node: Yams.Node?
    /// As the file would write it; nil: none.
    var fallback: String?
}

/// Collects problems while a file is read, and what it was asked for.
final class ConfigurationProblems {
    private(set) var all: [ConfigurationError.Problem] = []
    /// Each key once, in the order of asking.
    private(set) var asked: [AskedKey] = []
    /// Sections that the file does not have, or lists without an element.
    private(set) var absent: [String] = []
    private var isAsked: Set<String> = []

    func note(_ asked: AskedKey) {
        if isAsked.insert("\(asked.section).\(asked.key)").inserted { self.asked.append(asked) }
    }
    func note(absent section: String) { absent.append(section) }
    func add(_ text: String, at node: Yams.Node) { add(text, line: node.mark?.line ?? 1) }
    func add(_ text: String, line: Int) { all.append(.init(line: line, text: text)) }
}

/// One mapping of the file. Every key is asked for by name; `finish` reports those that nobody asked for.
final class YAMLSection {
    let path: String
    private let node: Yams.Node
    private var values: [String: Yams.Node] = [:]
    private var keys: [String: Yams.Node] = [:]
    private var known: [String] = []
    private let problems: ConfigurationProblems

    init(_ node: Yams.Node, path: String, problems: ConfigurationProblems) {
        self.path = path
        self.node = node
        self.problems = problems
        guard let mapping = node.mapping else {
            problems.add("\(path.isEmpty ? "the file" : path) has to hold \"key: value\" lines", at: node)
            return
        }
        for (key, value) in mapping {
            let name = key.string ?? ""
            if keys[name] != nil { problems.add("\(full(name)) is given twice: keep one", at: key) }
            keys[name] = key
            values[name] = value
        }
    }

    /// Stands for a section that is not there.
    static var empty: Yams.Node { .mapping(.init([])) }

    func full(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    func problem(_ key: String, _ text: String) {
        problems.add("\(full(key)) \(text)", line: (values[key] ?? node).mark?.line ?? 1)
    }

    func section(_ key: String) -> YAMLSection {
        YAMLSection(lookUp(key) ?? Self.empty, path: full(key), problems: problems)
    }

    /// nil where the key is not there at all. Empty, it is a section without its keys.
    func optionalSection(_ key: String) -> YAMLSection? {
        known.append(key)
        guard let value = values[key] else {
            problems.note(absent: full(key))
            return nil
        }
        return YAMLSection(value.null == nil ? value : Self.empty, path: full(key), problems: problems)
    }

    func sections(_ key: String) -> [YAMLSection] {
        guard let value = lookUp(key) else {
            problems.note(absent: full(key))
            return []
        }
        guard let sequence = value.sequence else {
            problem(key, "has to be a list: one \"- \" for each")
            return []
        }
        if sequence.isEmpty { problems.note(absent: full(key)) }
        return sequence.enumerated().map { YAMLSection($1, path: "\(full(key))[\($0)]", problems: problems) }
    }

    func string(_ key: String, default fallback: String) -> String {
        guard let value = value(key, or: fallback) else { return fallback }
        guard let text = value.scalar?.string, !text.isEmpty else {
            problem(key, "has to be a text")
            return fallback
        }
        return text
    }

    func required(_ key: String, _ example: String) -> String {
        if value(key) == nil { problem(key, "is missing: add for example \"\(key): \(example)\"") }
        return string(key, default: "")
    }

    func bool(_ key: String, default fallback: Bool) -> Bool {
        guard let value = value(key, or: "\(fallback)") else { return fallback }
        if let truth = value.bool { return truth }
        problem(key, "has to be true or false")
        return fallback
    }

    func int(_ key: String, default fallback: Int, _ range: ClosedRange<Int>) -> Int {
        guard let value = value(key, or: "\(fallback)") else { return fallback }
        guard let number = value.int, range.contains(number) else {
            problem(key, "has to be a whole number from \(range.lowerBound) to \(range.upperBound)")
            return fallback
        }
        return number
    }

    /// A number, or `none` for nil.
    func port(_ key: String, default fallback: Int?) -> Int? {
        guard let value = value(key, or: fallback.map { "\($0)" } ?? "none") else { return fallback }
        if value.scalar?.string == "none" { return nil }
        guard let number = value.int, (0...65535).contains(number) else {
            problem(key, "has to be a whole number from 0 to 65535, or none")
            return fallback
        }
        return number
    }

    /// nil where the key is not there.
    func flag(_ key: String) -> Bool? {
        guard let value = value(key) else { return nil }
        if let flag = value.bool { return flag }
        problem(key, "has to be true or false")
        return nil
    }

    func seconds(_ key: String, default fallback: Double, _ range: ClosedRange<Double>) -> Double {
        number(key, default: fallback, range, "seconds")
    }

    /// - Parameter unit: in the plural.
    func number(_ key: String, default fallback: Double, _ range: ClosedRange<Double>, _ unit: String) -> Double {
        guard let value = value(key, or: Self.text(fallback)) else { return fallback }
        guard let number = value.float ?? value.int.map(Double.init), range.contains(number) else {
            problem(key, "has to be \(unit) from \(range.lowerBound) to \(range.upperBound)")
            return fallback
        }
        return number
    }

    /// A number, or `none` for nil.
    func numberOrNone(
        _ key: String, default fallback: Double?, _ range: ClosedRange<Double>, _ unit: String
    ) -> Double? {
        guard let value = value(key, or: fallback.map(Self.text) ?? "none") else { return fallback }
        if value.scalar?.string == "none" { return nil }
        return number(key, default: range.lowerBound, range, "\(unit), or none,")
    }

    func choice<Value: RawRepresentable & CaseIterable>(
        _ key: String, default fallback: Value
    ) -> Value where Value.RawValue == String {
        let text = string(key, default: fallback.rawValue)
        if let value = Value(rawValue: text) { return value }
        problem(key, "has to be one of \(Value.allCases.map(\.rawValue).joined(separator: ", "))")
        return fallback
    }

    /// - Parameter parse: nil for a text that is not one of the kind described by `kind`.
    func list<Value>(_ key: String, default fallback: [Value], _ kind: String, _ parse: (String) -> Value?) -> [Value] {
        let standard = "[\(fallback.map { "\($0)" }.joined(separator: ", "))]"
        guard let value = value(key, or: standard) else { return fallback }
        guard let sequence = value.sequence else {
            problem(key, "has to be a list in brackets, such as [\(kind)]")
            return fallback
        }
        return sequence.compactMap { node in
            let text = node.scalar?.string ?? ""
            let parsed = parse(text)
            if parsed == nil { problems.add("\(full(key)): \"\(text)\" is not \(kind)", at: node) }
            return parsed
        }
    }

    /// Reports the keys that nothing asked for.
    func finish() {
        for (name, key) in keys where !known.contains(name) {
            let nearest = known.min { Self.distance($0, name) < Self.distance($1, name) }
            let close = nearest.map { Self.distance($0, name) <= max(2, name.count / 3) } ?? false
            let advice = close ? "did you mean \(nearest ?? "")?" : "known here: \(known.joined(separator: ", "))"
            problems.add("\(full(name)) is not a known key; \(advice)", at: key)
        }
    }

    /// - Parameter fallback: what counts where it is not there; nil: nothing.
    private func value(_ key: String, or fallback: String? = nil) -> Yams.Node? {
        let found = lookUp(key)
        problems.note(AskedKey(section: path, key: key, node: found, fallback: fallback))
        return found
    }

    /// Without needless digits.
    private static func text(_ number: Double) -> String { Int(exactly: number).map { "\($0)" } ?? "\(number)" }

    private func lookUp(_ key: String) -> Yams.Node? {
        known.append(key)
        guard let value = values[key], value.null == nil else { return nil }
        return value
    }

    /// Levenshtein.
    private static func distance(_ one: String, _ other: String) -> Int {
        let (a, b) = (Array(one), Array(other))
        var row = Array(0...b.count)
        for i in a.indices {
            var diagonal = row[0]
            row[0] = i + 1
            for j in b.indices {
                let cost = min(row[j + 1] + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1))
                diagonal = row[j + 1]
                row[j + 1] = cost
            }
        }
        return row[b.count]
    }
}
