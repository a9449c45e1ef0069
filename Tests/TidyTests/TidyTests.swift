import Foundation
import Testing

/// Style as a test: what a formatter does not see.
@Suite struct TidyTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private static func sources(_ folders: [String], _ endings: Set<String>) -> [(path: String, lines: [String])] {
        folders.flatMap { folder -> [(String, [String])] in
            let base = root.appendingPathComponent(folder)
            let files =
                FileManager.default.enumerator(at: base, includingPropertiesForKeys: nil)?.compactMap { $0 as? URL }
                ?? []
            return files.filter { endings.contains($0.pathExtension) }.compactMap { file in
                guard let text = try? String(contentsOf: file, encoding: .utf8) else { return nil }
                return (String(file.path.dropFirst(root.path.count + 1)), text.components(separatedBy: "\n"))
            }
        }
    }

    private static func offences(
        _ files: [(path: String, lines: [String])], _ isOffence: (String) -> Bool
    ) -> [String] {
        files.flatMap { file in
            file.lines.enumerated().filter { isOffence($0.element) }.map {
                "\(file.path):\($0.offset + 1): \($0.element)"
            }
        }
    }

    @Test(arguments: ["print(", "try!", "fatalError(", "as!", "NSLog(", "TODO", "FIXME"])
    func productCodeHasNo(word: String) {
        let files = Self.sources(["Sources"], ["swift", "c", "cpp", "h", "hpp"])
        #expect(files.count > 50)
        let found = Self.offences(files) { line in
            guard let range = line.range(of: word) else { return false }
            // Part of a longer name, such as node.print(.
            let before = range.lowerBound > line.startIndex ? line[line.index(before: range.lowerBound)] : " "
            return !(before.isLetter || before.isNumber || before == "_" || before == ".")
                && !line.contains("func print(")
        }
        #expect(found.isEmpty, "\(found.joined(separator: "\n"))")
    }

    @Test func linesHaveAtMost120Characters() {
        let files = Self.sources(["Sources", "Tests"], ["swift", "c", "cpp", "h", "hpp"])
        let found = Self.offences(files) { $0.count > 120 }
        #expect(found.isEmpty, "\(found.joined(separator: "\n"))")
    }

    @Test func onlyTheShimIncludesDCMTK() {
        let found = Self.offences(
            Self.sources(["Sources"], ["swift", "c", "cpp", "h", "hpp"]).filter { !$0.path.contains("/CDCMTK/") }
        ) {
            $0.contains("#include \"dcmtk") || $0.contains("#include <dcmtk")
        }
        #expect(found.isEmpty)
    }

    /// Arrows point one way: which of our modules each target may import.
    @Test func targetsImportOnlyWhatTheyMay() throws {
        let allowed: [String: Set<String>] = [
            "WorkerProtocol": ["CLinux"], "DICOM": ["CDCMTK", "WorkerProtocol"],
            "DICOMWorker": ["DICOM", "WorkerProtocol", "CLinux"], "Ledger": ["WorkerProtocol", "CLinux"],
            "StoreSCP": ["WorkerProtocol", "Ledger", "CLinux"], "ICHModel": ["WorkerProtocol", "COpenVINO", "CLinux"],
            "AlertDispatcher": ["WorkerProtocol", "Ledger", "CLinux"],
            "Console": ["Ledger", "WorkerProtocol", "CLinux"],
            "ichnode": [
                "WorkerProtocol", "StoreSCP", "Ledger", "ICHModel", "AlertDispatcher", "Console", "CLinux", "CZlib",
            ],
        ]
        let ours = Set(allowed.keys).union(["CLinux", "CDCMTK", "COpenVINO", "CZlib"])
        for (target, may) in allowed {
            let files = Self.sources(["Sources/\(target)"], ["swift"])
            #expect(!files.isEmpty, "\(target)")
            let found = Self.offences(files) { line in
                guard let match = line.firstMatch(of: /^(?:public |internal |package )?import (\w+)/) else {
                    return false
                }
                let module = String(match.1)
                return ours.contains(module) && !may.contains(module)
            }
            #expect(found.isEmpty, "\(found)")
        }
    }

    /// What a document says is held by a test is held by one that exists.
    @Test(arguments: [("RISKS.md", 40), ("SECURITY.md", 20)])
    func documentsNameTestsThatExist(name: String, atLeast: Int) throws {
        let document = try String(contentsOf: Self.root.appendingPathComponent("docs/\(name)"), encoding: .utf8)
        var isHeldBy = false
        let named = document.split(separator: "\n").flatMap { line -> [String] in
            let last = line.hasPrefix("|") ? line.split(separator: "|").last ?? "" : ""
            if last == " held by " || last.isEmpty { isHeldBy = !last.isEmpty }
            return isHeldBy ? last.matches(of: /`(\w+)`/).map { String($0.1) } : []
        }
        #expect(named.count > atLeast)
        let tests = Self.sources(["Tests"], ["swift", "py"]).flatMap(\.lines)
        let made = Set(tests.compactMap { $0.firstMatch(of: /(?:def|func) (\w+)\(/).map { String($0.1) } })
        #expect(Set(named).subtracting(made) == [])
    }
}
