import Logging
import Testing
import WorkerProtocol

@testable import StoreSCP

@Suite struct DiskWatchTests {
    /// Free space that a test sets; nil: the file system does not answer.
    private final class Disk: @unchecked Sendable {
        // Safe because one test uses it, from one task.
        var free: UInt64?
        init(free: UInt64?) { self.free = free }
    }

    private func watching(_ disk: Disk) -> DiskWatch {
        DiskWatch(
            path: "/spool", watermarks: .init(association: 1000, object: 100), logger: Logger(label: "test"),
            freeBytes: { _ in
                guard let free = disk.free else { throw WorkerError(.system, "statvfs: no such device") }
                return free
            })
    }

    @Test(arguments: [
        (UInt64(1001), DiskWatch.State.roomy), (1000, .roomy), (999, .low), (100, .low), (99, .full), (0, .full),
    ])
    func stateAtTheWatermarks(free: UInt64, expected: DiskWatch.State) {
        #expect(watching(Disk(free: free)).state == expected)
    }

    @Test func recoversByItself() {
        let disk = Disk(free: 50)
        let watch = watching(disk)
        #expect(watch.state == .full)
        disk.free = 5000
        watch.look()
        #expect(watch.state == .roomy)
    }

    @Test func theLastStateStandsWhereTheFileSystemDoesNotAnswer() {
        let disk = Disk(free: 500)
        let watch = watching(disk)
        disk.free = nil
        watch.look()
        #expect(watch.state == .low)
    }
}

@Suite struct RoomForAssociationsTests {
    private static let verification = "1.2.840.10008.1.1"
    private static let commitment = "1.2.840.10008.1.20.1"
    private static let ctStorage = "1.2.840.10008.5.1.4.1.1.2"

    private func item(_ type: UInt8, _ value: [UInt8]) -> [UInt8] {
        [type, 0, UInt8(value.count >> 8), UInt8(value.count & 0xFF)] + value
    }

    private func context(_ id: UInt8, _ abstractSyntax: String) -> [UInt8] {
        item(
            0x20,
            [id, 0, 0, 0] + item(0x30, Array(abstractSyntax.utf8)) + item(0x40, Array("1.2.840.10008.1.2".utf8)))
    }

    private func request(_ variable: [UInt8]) throws -> AssociationRequest {
        try AssociationRequest(
            pdu: AssociationRequestTests.pdu(called: "ICHNODE", calling: "CT1")
                + item(0x10, Array("1.2.840.10008.3.1.1.1".utf8)) + variable + item(0x50, item(0x51, [0, 1, 0, 0])))
    }

    private func rules(hasRoom: Bool) -> AdmissionRules {
        AdmissionRules(
            calledAETitles: [AETitle("ICHNODE")!], allowedNetworks: [], hasRoom: { hasRoom })
    }

    @Test func withoutRoomStorageIsRejectedAsTransient() throws {
        let storing = try request(context(1, Self.verification) + context(3, Self.ctStorage))
        let rejection = try #require(rules(hasRoom: false).rejection(of: storing))
        // PS3.8 Table 9-21: transient, by the presentation-related service provider, temporary congestion.
        #expect(Array(rejection.pdu.suffix(3)) == [2, 3, 1])
        #expect(rules(hasRoom: true).rejection(of: storing) == nil)
    }

    @Test func withoutRoomEchoAndCommitmentReportsAreAdmitted() throws {
        for contexts in [
            context(1, Self.verification), context(1, Self.commitment),
            context(1, Self.verification) + context(3, Self.commitment + "\0"),
        ] {
            let quiet = try request(contexts)
            #expect(!quiet.proposesStorage)
            #expect(rules(hasRoom: false).rejection(of: quiet) == nil)
        }
    }

    @Test func whatCannotBeFollowedCountsAsStorage() throws {
        let broken = item(0x20, [1, 0, 0, 0, 0x30, 0, 0xFF, 0xFF, 0x31])
        #expect(try request(broken).proposesStorage)
        #expect(try request([0x20, 0, 0xFF, 0xFF]).proposesStorage)
        #expect(try request([0x20]).proposesStorage)
        #expect(try request(item(0x20, [1])).proposesStorage)
    }
}
