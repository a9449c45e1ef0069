/// Tables as docs/CONFORMANCE.md and docs/SECURITY.md state them, by name; a row has its cells.
public typealias DocumentTables = [String: [[String]]]

/// Values as the documents write them.
public enum DocumentText {
    public static func bytes(_ count: Int) -> String {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] where count > 0 && count % (1 << shift) == 0 {
            return "\(count >> shift) \(unit)"
        }
        return "\(count) bytes"
    }

    public static func seconds(_ seconds: Double) -> String {
        "\(Int(exactly: seconds).map { "\($0)" } ?? "\(seconds)") s"
    }

    public static func seconds(_ duration: Duration) -> String { seconds(duration / .seconds(1)) }

    /// "A7xx" for 0xA700 to 0xA7FF.
    public static func codes(_ range: ClosedRange<UInt16>) -> String {
        let (low, high) = (code(range.lowerBound), code(range.upperBound))
        return String(zip(low, high).map { $0 == $1 ? $0 : "x" })
    }

    public static func code(_ code: UInt16) -> String {
        let digits = String(code, radix: 16, uppercase: true)
        return String(repeating: "0", count: 4 - digits.count) + digits
    }
}

extension Confinement {
    /// A row on the verb that has it.
    /// - Parameter names: what a path is called; paths of the same name are named once.
    public func row(of verb: String, names: [String: String] = [:]) -> [String] {
        var files: [String] = []
        for rule in paths where rule.path != "/dev/null" {
            let text = "\(names[rule.path] ?? rule.path): \(rule.access.words)"
            if !files.contains(text) { files.append(text) }
        }
        return [
            verb, DocumentText.bytes(Int(addressSpaceBytes)), DocumentText.bytes(Int(fileSizeBytes)),
            cpuSeconds == 0 ? "–" : "\(cpuSeconds) s", files.isEmpty ? "none" : files.joined(separator: "; "),
            allowsNetwork ? "TCP out, no listening" : "none", "\(niceness)",
        ]
    }
}

extension Confinement.PathRule.Access {
    fileprivate var words: String {
        switch self {
        case .read: "read"
        case .scratch: "read and write"
        case .addOnly: "add and list"
        case .write: "write"
        }
    }
}
