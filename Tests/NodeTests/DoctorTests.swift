import Foundation
import Testing

@testable import ichnode

/// The form of what `doctor` says; what it finds is in Tests/Tools/test_node_doctor.py.
@Suite struct DoctorTests {
    @Test func everyCheckIsDocumented() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(contentsOf: root.appendingPathComponent("docs/OPERATIONS.md"), encoding: .utf8)
        let rows = text.split(separator: "\n").filter { $0.hasPrefix("| `") }
        for check in Check.allCases {
            #expect(rows.contains { $0.contains("`\(check.rawValue)`") }, "\(check.rawValue)")
        }
    }

    @Test func theWorstOfTheFindingsIsTheResult() throws {
        let good = SetupFinding.good(.peerEcho, "pacs", "peer pacs answers")
        let warning = SetupFinding.warning(.clockSynchronised, "clock", "it is off", "set it")
        let bad = SetupFinding.bad(.peerTLS, "pacs", "no TLS")
        func result(_ findings: SetupFinding...) -> SetupFinding.Level {
            DoctorReport(configuration: "f", findings: findings).result
        }
        #expect(result(good) == .good)
        #expect(result(good, warning) == .warning)
        #expect(result(warning, bad, good) == .bad)
        #expect(warning.line == "warn  it is off: set it")
        let said = try JSONText.of(DoctorReport(configuration: "f", findings: [warning, bad]))
        let expected = """
            {"configuration":"f","findings":[{"advice":"set it","check":"clock.synchronised","level":"warning",\
            "subject":"clock","text":"it is off"},{"check":"peer.tls","level":"bad","subject":"pacs","text":"no TLS"}],\
            "format":1,"result":"bad","version":"\(NodeVersion.string)"}
            """
        #expect(try Self.object(said) == Self.object(expected))
    }

    @Test func whatTakesTooLongIsGivenUp() async {
        let end = DispatchSemaphore(value: 0)
        let found = await bounded(seconds: 0.1, otherwise: "late") {
            end.wait()
            return "here"
        }
        #expect(found == "late")
        end.signal()
        #expect(await bounded(seconds: 30, otherwise: "late") { "here" } == "here")
    }

    private static func object(_ text: String) throws -> NSDictionary? {
        try JSONSerialization.jsonObject(with: Data(text.utf8)) as? NSDictionary
    }
}
