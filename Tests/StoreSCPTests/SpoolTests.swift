import Foundation
import Glibc
import Testing
import WorkerProtocol

@testable import StoreSCP

@Suite struct SpoolTests {
    private let spool = Spool(
        root: FileManager.default.temporaryDirectory.appendingPathComponent("spool-\(UUID().uuidString)"))
    private let study = UID("1.2")!
    private let sop = UID("1.2.3")!

    /// A Part 10 file: meta header of the given length, then the data set.
    private func file(meta: Int, _ dataSet: String) -> Data {
        var data = Data(count: 128) + Data("DICM".utf8) + Data([2, 0, 0, 0]) + Data("UL".utf8) + Data([4, 0])
        data += Data([UInt8(meta), 0, 0, 0]) + Data(count: meta) + Data(dataSet.utf8)
        return data
    }

    private func stored(version: Int = 1) -> URL {
        URL(fileURLWithPath: spool.path(study: study, instance: sop, version: version))
    }

    private func write(_ data: Data, _ url: URL) throws {
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try data.write(to: url)
    }

    private func collision(_ dataSet: String) throws -> Collision {
        let temporary = spool.incoming.appendingPathComponent("1-1-1.part")
        try write(file(meta: 20, dataSet), temporary)
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: sop, studyInstanceUID: study,
            seriesInstanceUID: UID("1.9")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        return Collision(
            record: record, temporaryPath: temporary.path, existingPath: stored().path)
    }

    @Test func theSameDataSetIsIdenticalWhateverItsMetaHeader() throws {
        try write(file(meta: 40, "same"), stored())
        #expect(spool.verdict(on: try collision("same")) == .identical)
    }

    /// A file that retention marked and could not remove, and that is acknowledged again, is none to be mended away.
    @Test func whatIsAcknowledgedAgainIsAsNewAsItsAcknowledgement() throws {
        let old = Date(timeIntervalSince1970: 1_000_000)
        func modified(version: Int) throws -> Date? {
            let attributes = try FileManager.default.attributesOfItem(atPath: stored(version: version).path)
            return attributes[.modificationDate] as? Date
        }
        for (version, text) in [(1, "one"), (2, "two")] {
            try write(file(meta: 20, text), stored(version: version))
            try FileManager.default.setAttributes(
                [.modificationDate: old], ofItemAtPath: stored(version: version).path)
        }
        #expect(spool.verdict(on: try collision("two")) == .identical)
        #expect(try modified(version: 1) == old)
        let acknowledged = try #require(try modified(version: 2))
        #expect(acknowledged > old)
    }

    @Test func otherBytesBecomeTheNextVersion() throws {
        try write(file(meta: 20, "one"), stored())
        let second = stored(version: 2)
        #expect(spool.verdict(on: try collision("two")) == .keepAs(path: second.path, version: 2))
        try write(file(meta: 20, "two"), second)
        #expect(spool.verdict(on: try collision("two")) == .identical)
        #expect(second.lastPathComponent == "1.2.3.v2.dcm")
    }

    @Test func dataSetsThatDifferInTheirLastByteOrLengthAreNotIdentical() throws {
        // More than one chunk is compared.
        let long = String(repeating: "x", count: (1 << 20) + 7)
        let existing = stored()
        try write(file(meta: 20, long + "a"), existing)
        #expect(spool.verdict(on: try collision(long + "a")) == .identical)
        for other in [long + "b", long, long + "ab"] {
            let verdict = spool.verdict(on: try collision(other))
            #expect(verdict == .keepAs(path: stored(version: 2).path, version: 2))
        }
    }

    @Test func aStoredFileThatCannotBeReadKeepsNoIntactCopyOut() throws {
        let (existing, second) = (stored(), stored(version: 2))
        let kept = CollisionVerdict.keepAs(path: second.path, version: 2)
        for length in [0, 150] {
            try write(file(meta: 40, "x").prefix(length), existing)
            var unreadable: [String] = []
            let collision = try collision("x")
            let verdict = spool.judge(collision, unusable: { path, _ in unreadable.append(path) }).verdict
            #expect(verdict == kept)
            #expect(unreadable == [existing.path])
        }
        // What is no regular file is not opened.
        try FileManager.default.removeItem(at: existing)
        #expect(mkfifo(existing.path, 0o600) == 0)
        #expect(spool.verdict(on: try collision("x")) == kept)
        // The copy is found again.
        try write(file(meta: 20, "x"), second)
        #expect(spool.verdict(on: try collision("x")) == .identical)
    }

    @Test func aReceivedFileThatCannotBeReadBackIsRefused() throws {
        try write(file(meta: 20, "x"), stored())
        let collision = try collision("x")
        try FileManager.default.removeItem(atPath: collision.temporaryPath)
        if case .refuse = spool.verdict(on: collision) {} else { Issue.record("kept") }
    }

    @Test func aWorkerCannotNameAFileElsewhere() throws {
        var collision = try collision("x")
        collision.temporaryPath = spool.incoming.path + "/../studies/x"
        if case .refuse = spool.verdict(on: collision) {} else { Issue.record("taken") }
        collision.temporaryPath = "/etc/passwd"
        if case .refuse = spool.verdict(on: collision) {} else { Issue.record("taken") }
    }

    @Test func versionsAreLimited() throws {
        for version in 1...Spool.mostVersions {
            try write(file(meta: 20, "\(version)"), stored(version: version))
        }
        if case .refuse = spool.verdict(on: try collision("other")) {} else { Issue.record("kept") }
        #expect(spool.verdict(on: try collision("16")) == .identical)
    }

    @Test func aSecondNodeOnTheSameSpoolIsRefused() throws {
        let lock = try spool.open()
        #expect(lock >= 0)
        #expect(FileManager.default.fileExists(atPath: spool.studies.path))
    }

    @Test func whatADeadAssociationLeftIsRemovedAloneOfAll() throws {
        _ = try spool.open()
        for name in ["5-1-1.part", "5-11-1.part", "5-1-2.part"] {
            try write(Data(), spool.incoming.appendingPathComponent(name))
        }
        try spool.removeUnfinished(association: "5-1")
        #expect(try FileManager.default.contentsOfDirectory(atPath: spool.incoming.path) == ["5-11-1.part"])
        #expect(try spool.removeUnfinished() == 1)
    }
}
