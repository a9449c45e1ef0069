internal import Foundation

/// One field of a segment, encoded with the delimiters that HL7 v2.5.1 §2.5.4 recommends: `^~\&`.
struct HL7Field: ExpressibleByStringLiteral, Equatable {
    /// Encoded; empty: not valued.
    let text: String

    /// Components; empty ones at the end are left out (§2.5.3).
    init(_ components: String...) { self.init(components: components) }

    init(components: [String]) {
        let last = components.lastIndex { !$0.isEmpty } ?? -1
        text = components[..<(last + 1)].map(Self.escaped).joined(separator: "^")
    }

    init(repetitions: [HL7Field]) { text = repetitions.map(\.text).joined(separator: "~") }

    /// What stands in a message already.
    init(encoded: String) { text = encoded }

    init(stringLiteral value: String) { self.init(value) }

    /// Delimiters by their escapes, control characters as hexadecimal data, so that none ends a segment or a block
    /// (§2.7.1, §2.7.5).
    static func escaped(_ value: String) -> String {
        var result = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "|": result += "\\F\\"
            case "^": result += "\\S\\"
            case "&": result += "\\T\\"
            case "~": result += "\\R\\"
            case "\\": result += "\\E\\"
            case _ where scalar.properties.generalCategory == .control:
                result += "\\X" + String(scalar).utf8.map { String(format: "%02X", $0) }.joined() + "\\"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}

/// A segment as it is sent, without its end.
struct HL7Segment {
    let text: String

    /// - Parameter fields: by their numbers in the standard; what is not there is empty.
    init(_ name: String, _ fields: [Int: HL7Field]) {
        // MSH-1 is the field separator itself, MSH-2 the other delimiters (§2.14.9).
        let isHeader = name == "MSH"
        let numbers = (isHeader ? 3 : 1)..<((fields.filter { !$0.value.text.isEmpty }.keys.max() ?? 0) + 1)
        text = ([name] + (isHeader ? ["^~\\&"] : []) + numbers.map { fields[$0]?.text ?? "" }).joined(separator: "|")
    }
}

/// A message that somebody wrote, we or a receiver: segments and their fields, as they are encoded.
struct HL7Message {
    private let segments: [[Substring]]

    /// - Returns: nil where it does not begin as a message has to.
    init?(_ text: String) {
        // Receivers end segments with line feeds too. A scalar at a time: CR LF is one Character.
        let lines = text.unicodeScalars.split { $0 == "\r" || $0 == "\n" }.map { Substring($0) }
        guard let header = lines.first, header.hasPrefix("MSH"), let separator = header.dropFirst(3).first else {
            return nil
        }
        segments = lines.map { line in
            let fields = line.split(separator: separator, omittingEmptySubsequences: false)
            return line.hasPrefix("MSH") ? [fields[0], Substring(String(separator))] + fields.dropFirst() : fields
        }
    }

    /// - Parameter set: which of several segments, by its first field; nil: the first.
    /// - Returns: nil without such a segment; empty where it has no such field.
    func field(_ name: String, _ number: Int, set: Int? = nil) -> String? {
        let segment = segments.first { $0[0] == name && (set == nil || $0.count > 1 && $0[1] == "\(set ?? 0)") }
        return segment.map { $0.indices.contains(number) ? String($0[number]) : "" }
    }
}
