import Foundation
import TestPrograms
import Testing

/// Programs nobody here wrote.
enum Tool {
    struct Outcome {
        var status: Int32
        /// Standard output and error.
        var text: String
        var lines: [Substring] { text.split(separator: "\n") }
    }

    static func run(_ program: String, _ arguments: [String]) throws -> Outcome {
        let (status, text) = try TestProgram.run(program, arguments)
        return Outcome(status: status, text: text)
    }

    /// dicom3tools' IOD validator. Its exit status says nothing.
    static func errors(of path: String) throws -> [String] {
        let lines = try run("/usr/bin/dciodvfy", [path]).lines
        #expect(!lines.isEmpty, "dciodvfy said nothing at all")
        return lines.filter { $0.hasPrefix("Error") }.map(String.init)
    }

    /// DCMTK's view of a content tree.
    static func tree(of path: String) throws -> String {
        let outcome = try run("/usr/bin/dsrdump", ["+Pl", "+Pc", path])
        #expect(outcome.status == 0, "\(outcome.text)")
        return outcome.text
    }

    /// Values of an attribute, wherever in the data set.
    static func values(_ keyword: String, of path: String) throws -> [String] {
        let outcome = try run("/usr/bin/dcmdump", ["-q", "+L", "-Un", "+P", keyword, path])
        #expect(outcome.status == 0, "\(outcome.text)")
        return outcome.lines.map { line in
            guard let start = line.firstIndex(of: "["), let end = line.lastIndex(of: "]") else { return "" }
            return String(line[line.index(after: start)..<end])
        }
    }

    static func value(_ keyword: String, of path: String) throws -> String? { try values(keyword, of: path).first }

    /// The patients' names as pydicom decodes them; nil where the test environment has no pydicom.
    static func pydicomNames(of paths: [String]) throws -> [String]? {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")
        let python = root.standardized.appendingPathComponent(".venv/bin/python").path
        guard FileManager.default.isExecutableFile(atPath: python) else { return nil }
        let script = """
            import sys, pydicom
            for path in sys.argv[1:]:
                sys.stdout.buffer.write(str(pydicom.dcmread(path).PatientName).encode("utf-8") + b"\\n")
            """
        let outcome = try run(python, ["-W", "ignore", "-c", script] + paths)
        #expect(outcome.status == 0, "\(outcome.text)")
        #expect(outcome.lines.count == paths.count)
        return outcome.lines.map(String.init)
    }
}
