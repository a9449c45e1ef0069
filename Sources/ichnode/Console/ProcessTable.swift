import Console
import Foundation

/// The daemon and its children, as the kernel lists them (proc(5)).
enum ProcessTable {
    static func processes() -> [SystemFacts.ChildProcess] {
        [process("self", verb: "daemon")].compactMap { $0 }
            + children().compactMap { process("\($0)", verb: verb($0)) }.sorted { ($0.verb, $0.id) < ($1.verb, $1.id) }
    }

    private static func children() -> [Int32] {
        names(in: "/proc/self/task").flatMap { text("/proc/self/task/\($0)/children").split(separator: " ") }
            .compactMap { Int32($0) }
    }

    private static func process(_ id: String, verb: String) -> SystemFacts.ChildProcess? {
        // Gone meanwhile.
        guard let number = Int32(text("/proc/\(id)/stat").prefix { $0 != " " }) else { return nil }
        let pages = text("/proc/\(id)/statm").split(separator: " ").dropFirst().first.flatMap { UInt64($0) }
        let files = names(in: "/proc/\(id)/fd")
        return .init(
            verb: verb, id: number, residentBytes: pages.map { $0 * UInt64(sysconf(Int32(_SC_PAGESIZE))) },
            // Each process has some: an empty list is one that may not be read.
            descriptors: files.isEmpty ? nil : files.count)
    }

    private static func verb(_ id: Int32) -> String {
        let arguments = text("/proc/\(id)/cmdline").split(separator: "\0")
        let verb = arguments.count > 1 ? String(arguments[1]) : "starting"
        return text("/proc/\(id)/comm").hasPrefix("dicom-template") ? "\(verb) (template)" : verb
    }

    /// Empty where it cannot be read: a process may end at any time. Not by `FileManager.contents(atPath:)`, which
    /// loses 4 KiB for each empty file (Foundation of Swift 6.3), such as the children of a thread that has none.
    private static func text(_ path: String) -> String {
        guard let file = FileHandle(forReadingAtPath: path) else { return "" }
        let bytes: Data?
        do { bytes = try file.readToEnd() } catch { return "" }
        return String(decoding: bytes ?? Data(), as: UTF8.self)
    }

    private static func names(in folder: String) -> [String] {
        do { return try FileManager.default.contentsOfDirectory(atPath: folder) } catch { return [] }
    }
}
