import Foundation
import Testing
import WorkerProtocol

@testable import StoreSCP

@Suite struct NetworkBlockTests {
    @Test(arguments: [
        ("10.1.0.0/16", "10.1.255.3", true), ("10.1.0.0/16", "10.2.0.1", false), ("0.0.0.0/0", "8.8.8.8", true),
        ("192.168.1.7", "192.168.1.7", true), ("192.168.1.7", "192.168.1.8", false), ("10.0.0.0/9", "10.127.0.1", true),
        ("10.0.0.0/9", "10.128.0.1", false), ("::1/128", "::1", true), ("fe80::/10", "febf::1", true),
        ("fe80::/10", "fec0::1", false), ("127.0.0.0/8", "::ffff:127.0.0.1", true), ("::/0", "127.0.0.1", false),
    ])
    func contains(block: String, address: String, expected: Bool) {
        #expect(NetworkBlock(block)?.contains(address) == expected)
    }

    @Test(arguments: ["", "10.1", "10.0.0.0/33", "::1/129", "10.0.0.0/", "a/8", "10.0.0.0/8/8", "10.0.0.0/-1"])
    func refuses(text: String) { #expect(NetworkBlock(text) == nil) }
}

@Suite struct AssociationRequestTests {
    static func pdu(called: String, calling: String, version: UInt8 = 1) -> [UInt8] {
        func padded(_ text: String) -> [UInt8] {
            Array(text.utf8) + [UInt8](repeating: 0x20, count: 16 - text.utf8.count)
        }
        return [1, 0, 0, 0, 0, 68, 0, version, 0, 0] + padded(called) + padded(calling)
            + [UInt8](repeating: 0, count: 32)
    }

    private let rules = AdmissionRules(
        calledAETitles: [AETitle("ICHNODE")!], callingAETitles: [AETitle("CT1")!], allowedNetworks: [])

    @Test func readsTheTitlesAtTheirFixedOffsets() throws {
        let request = try AssociationRequest(pdu: Self.pdu(called: "ICHNODE", calling: "CT1"))
        #expect(request.calledAETitle == "ICHNODE")
        #expect(request.callingAETitle == "CT1")
        #expect(rules.rejection(of: request) == nil)
    }

    /// PS3.8 Table 9-21.
    @Test(arguments: [
        ("OTHER", "CT1", UInt8(1), [UInt8(1), 1, 7]), ("ICHNODE", "XX", 1, [1, 1, 3]),
        ("ICHNODE", "CT1", 2, [1, 2, 2]),
    ])
    func rejectsWithTheReasonOfTheStandard(called: String, calling: String, version: UInt8, expected: [UInt8]) throws {
        let request = try AssociationRequest(pdu: Self.pdu(called: called, calling: calling, version: version))
        let rejection = try #require(rules.rejection(of: request))
        #expect(Array(rejection.pdu.suffix(3)) == expected)
        #expect(rejection.pdu.count == 10)
    }

    @Test func knowsWhatIsNoAssociationRequest() {
        func problem(_ bytes: [UInt8]) -> AssociationRequest.Problem? {
            do throws(AssociationRequest.Problem) {
                _ = try AssociationRequest.length(header: bytes)
                return nil
            } catch { return error }
        }
        if case .notDICOM(let text) = problem(Array("GET / HTTP".utf8)) {
            #expect(text.contains("HTTP"))
        } else {
            Issue.record("HTTP")
        }
        if case .notDICOM(let text) = problem([0x16, 3, 1, 0, 200, 1]) {
            #expect(text.contains("TLS"))
        } else {
            Issue.record("TLS")
        }
        #expect(problem([1, 0, 0xff, 0xff, 0xff, 0xf0]) == .tooLong(0xffff_fff0 + 6))
        #expect(problem([1, 0, 0, 0, 0, 67]) == .tooShort(73))
        #expect(problem([1, 0, 0, 0, 0, 68]) == nil)
        #expect(problem([1, 0, 0, 0, 0xff, 0xfa]) == nil)
        #expect(problem([1, 0, 0, 0, 0xff, 0xfb]) == .tooLong(65537))
    }
}
