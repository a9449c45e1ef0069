import Console
import Foundation
import Ledger
import Logging
import Testing
import WorkerProtocol

@testable import StoreSCP
@testable import ichnode

@Suite struct AuditFileTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("audit-\(UUID().uuidString)")

    private func file(mostBytes: Int = 100, mostFiles: Int = 100) -> AuditFile {
        AuditFile(folder: folder, mostBytes: mostBytes, mostFiles: mostFiles)
    }

    /// All of all files, the oldest first.
    private func lines() throws -> [String] {
        try names().map { try String(contentsOf: folder.appendingPathComponent($0), encoding: .utf8) }.joined()
            .split(separator: "\n").map(String.init)
    }

    /// Closed files sort before the open one.
    private func names() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    }

    private func line(_ number: Int) -> String { "line \(number) " + String(repeating: "x", count: 20) }

    @Test func aFullFileIsClosedAndEveryLineIsInOne() throws {
        let file = file()
        for start in stride(from: 0, to: 40, by: 2) { try file.append((start..<start + 2).map(line)) }
        #expect(try lines() == (0..<40).map(line))
        for name in try names() {
            let attributes = try FileManager.default.attributesOfItem(atPath: folder.appendingPathComponent(name).path)
            #expect((attributes[.size] as? Int ?? 0) <= 100)
            #expect(attributes[.posixPermissions] as? Int == 0o640)
        }
        // 56 bytes each time: a second time is too much.
        #expect(try names().count == 20)
    }

    @Test func aFileMayBeFullToItsLastByte() throws {
        let file = file(mostBytes: 10)
        try file.append(["1234"])
        try file.append(["6789"])
        #expect(try names() == ["audit.log"])
        try file.append(["a"])
        #expect(try names() == ["audit-00000001.log", "audit.log"])
        // What belongs together stays together, also where it is too long for a file.
        try file.append([String(repeating: "b", count: 30), "c"])
        try file.append(["d"])
        #expect(try lines() == ["1234", "6789", "a", String(repeating: "b", count: 30), "c", "d"])
        #expect(try names().count == 4)
    }

    @Test func theOldestFilesGo() throws {
        let file = file(mostFiles: 2)
        for number in 0..<12 { try file.append([line(number)]) }
        #expect(try names() == ["audit-00000002.log", "audit-00000003.log", "audit.log"])
        #expect(try lines() == (3..<12).map(line))
    }

    @Test func whatACrashLeftGoesOnWhereItWas() throws {
        for number in 0..<4 { try file().append([line(number)]) }
        #expect(try names() == ["audit-00000001.log", "audit.log"], "the size is known again after a start")
        // Between the rename and the new file.
        try FileManager.default.moveItem(
            at: folder.appendingPathComponent("audit.log"), to: folder.appendingPathComponent("audit-00000002.log"))
        for number in 4..<7 { try file(mostFiles: 2).append([line(number)]) }
        #expect(try lines() == (0..<7).map(line))
        // Between the new file and the end of the oldest.
        try file(mostFiles: 1).append([line(7)])
        #expect(try names() == ["audit-00000003.log", "audit.log"])
        #expect(try lines() == (4..<8).map(line))
    }

    @Test(arguments: ["half", "", String(repeating: "y", count: 9000)])
    func aLineThatACrashCutShortIsCutOff(half: String) throws {
        try file().append([line(0), line(1)])
        let path = folder.appendingPathComponent("audit.log")
        let handle = try FileHandle(forWritingTo: path)
        try handle.seekToEnd()
        try handle.write(contentsOf: Data(half.utf8))
        try handle.close()
        try file().append([line(2)])
        #expect(try lines() == (0..<3).map(line))
    }

    @Test func whatCannotBeWrittenMayBeWrittenLater() throws {
        let file = file()
        let path = folder.appendingPathComponent("audit.log")
        try FileManager.default.createDirectory(at: path, withIntermediateDirectories: true)
        #expect(throws: WorkerError.self) { try file.append([line(0)]) }
        try FileManager.default.removeItem(at: path)
        try file.append([line(0)])
        #expect(try lines() == [line(0)])
    }

    @Test func aFileThatSomebodyMovedIsBegunAnew() throws {
        let file = file()
        for number in 0..<3 { try file.append([line(number)]) }
        try FileManager.default.moveItem(
            at: folder.appendingPathComponent("audit.log"), to: folder.appendingPathComponent("away"))
        try file.append([line(3)])
        #expect(try names() == ["audit.log", "away"])
        #expect(try lines() == [line(3), line(0), line(1), line(2)])
    }

    @Test func theLatestAreReadAcrossFiles() throws {
        let file = file()
        for number in 0..<10 { try file.append([line(number)]) }
        #expect(try file.latest(5, mostBytes: 1000) == (5..<10).map(line))
        #expect(try file.latest(100, mostBytes: 1000) == (0..<10).map(line))
        // The open file has 28 bytes; a part of a line is none.
        #expect(try file.latest(100, mostBytes: 28 + 50) == (8..<10).map(line))
    }
}

@Suite struct AuditTrailTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("trail-\(UUID().uuidString)")

    private func trail(mostQueued: Int = 100, now: Date = Date(timeIntervalSince1970: 1_000_000)) -> AuditTrail {
        AuditTrail(
            .init(), folder: folder, aeTitles: [AETitle("ICHNODE")!], subject: { _ in nil }, mostQueued: mostQueued,
            clock: WallClock(now: { now }, sleep: { try await Task.sleep(for: $0) }), logger: Logger(label: "test"))
    }

    /// Runs a trail to its end.
    /// - Returns: what stands in the file.
    private func lines(of trail: AuditTrail, after seconds: Double = 0) async throws -> [String] {
        let running = Task { try await trail.run() }
        try await Task.sleep(for: .seconds(seconds))
        running.cancel()
        try await running.value
        let text = try String(contentsOf: folder.appendingPathComponent("audit.log"), encoding: .utf8)
        return text.split(separator: "\n").map(String.init)
    }

    private func description(_ line: String) throws -> String {
        let match = try #require(line.firstMatch(of: /type="Alert Description" value="([^"]*)"/))
        return String(decoding: try #require(Data(base64Encoded: String(match.1))), as: UTF8.self)
    }

    @Test func whatFindsNoRoomIsCountedAndTheTrailSaysSo() async throws {
        let trail = trail(mostQueued: 10)
        for number in 0..<25 { trail.record(.removed(study: UID("1.2.\(number)")!, files: 1, trouble: nil)) }
        let lines = try await lines(of: trail, after: 0.1)
        #expect(lines.prefix(10).enumerated().allSatisfy { $1.contains("\"1.2.\($0)\"") })
        // Beside the 15 the start itself.
        #expect(try description(lines[10]).hasPrefix("16 audit messages before this one were lost"))
        #expect(lines[10].contains("Audit Recording Stopped"))
        #expect(lines[11].contains("Application Stop"))
        #expect(lines.count == 12)
    }

    @Test func aFloodOfRefusalsIsAFewMessagesAndANumber() async throws {
        let time = Time()
        let trail = AuditTrail(
            .init(), folder: folder, aeTitles: [AETitle("ICHNODE")!], subject: { _ in nil }, mostQueued: 1000,
            clock: WallClock(now: { time.now }, sleep: { try await Task.sleep(for: $0) }), logger: Logger(label: "test")
        )
        for _ in 0..<100 { trail.record(.reception(.refused(peerAddress: "10.0.0.9", reason: "wrong title"))) }
        time.now += 60
        trail.record(.reception(.refused(peerAddress: "10.0.0.9", reason: "wrong title")))
        let alerts = try await lines(of: trail).filter { $0.contains("Node Authentication") }
        #expect(alerts.count == RefusalLimit.perMinute + 2)
        #expect(try description(alerts[0]) == "wrong title")
        #expect(try description(alerts[RefusalLimit.perMinute]).hasPrefix("40 more refusals in the minute before"))
        #expect(try description(alerts[RefusalLimit.perMinute + 1]) == "wrong title")
    }

    @Test func aFloodOfSignInsIsAFewMessagesAndANumber() async throws {
        let time = Time()
        let trail = AuditTrail(
            .init(), folder: folder, aeTitles: [AETitle("ICHNODE")!], subject: { _ in nil }, mostQueued: 1000,
            clock: WallClock(now: { time.now }, sleep: { try await Task.sleep(for: $0) }), logger: Logger(label: "test")
        )
        let refused = AccessEvent.signInRefused(user: "otto", address: "10.0.0.9", reason: "too many tries")
        for _ in 0..<100 { trail.record(.access(refused)) }
        trail.record(.access(.signedIn(user: "vera", address: "10.0.0.1")))
        time.now += 60
        trail.record(.access(refused))
        let lines = try await lines(of: trail).filter { $0.contains("User Authentication") }
        #expect(lines.count == RefusalLimit.perMinute + 3)
        #expect(lines[RefusalLimit.perMinute].contains("UserID=\"vera\""), "a flood drives no success out")
        #expect(lines[RefusalLimit.perMinute + 1].contains("40 more refusals in the minute before"))
    }

    /// PS3.15 §A.5.3.6
    @Test func whoLookedAtAStudyIsNamedWithItsPatient() async throws {
        let trail = AuditTrail(
            .init(), folder: folder, aeTitles: [AETitle("ICHNODE")!],
            subject: { _ in AuditSubject(patient: PatientIdentity(id: "P1")) }, mostQueued: 10, clock: .system,
            logger: Logger(label: "test"))
        trail.record(.access(.viewed(study: UID("1.2.3")!, user: "vera", address: "10.0.0.1")))
        let line = try #require(try await lines(of: trail).first { $0.contains("DICOM Instances Accessed") })
        for part in [
            "EventActionCode=\"R\"", "UserID=\"vera\"", "NetworkAccessPointID=\"10.0.0.1\"",
            "ParticipantObjectID=\"1.2.3\"", "ParticipantObjectID=\"P1\"",
        ] { #expect(line.contains(part), "\(line)") }
    }

    @Test func aClaimedNameIsCutHoweverItIsWritten() async throws {
        let trail = trail()
        let name = "e" + String(repeating: "\u{301}", count: 20_000)
        trail.record(.access(.signInRefused(user: name, address: "10.0.0.1", reason: "wrong")))
        let line = try #require(try await lines(of: trail).first { $0.contains("User Authentication") })
        #expect(line.utf8.count < 2000)
    }

    /// `@unchecked Sendable` is safe because one task uses it.
    private final class Time: @unchecked Sendable {
        var now = Date(timeIntervalSince1970: 1_000_000)
    }
}

@Suite struct ReceivedTransfersTests {
    private func record(study: String = "1.2", patient: String = "P", sopClass: String = "1.2.840") -> InstanceRecord {
        InstanceRecord(
            sopClassUID: UID(sopClass)!, sopInstanceUID: UID("1.9")!, studyInstanceUID: UID(study)!,
            seriesInstanceUID: UID("1.8")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!,
            callingAETitle: AETitle("CT1"), calledAETitle: AETitle("ICHNODE"), patient: PatientIdentity(id: patient))
    }

    private func transfer(_ event: ReceptionEvent) -> ReceivedTransfer? {
        switch event {
        case .began(let transfer), .ended(let transfer, _): transfer
        case .refused: nil
        }
    }

    @Test func aStudyIsBegunOnceAndEndedForEachEffect() throws {
        var transfers = ReceivedTransfers(peerAddress: "10.0.0.1")
        let began = transfers.add(record(), .created)
        #expect(began.count == 1)
        #expect(transfers.add(record(), .created).isEmpty)
        #expect(transfers.add(record(sopClass: "1.3"), .created).isEmpty)
        #expect(transfers.add(record(), .alreadyHeld).isEmpty)
        let ended = transfers.end(trouble: "cut")
        #expect(ended.compactMap(transfer).map(\.effect) == [.alreadyHeld, .created])
        #expect(
            ended.compactMap(transfer).map(\.counts) == [[UID("1.2.840")!: 1], [UID("1.2.840")!: 2, UID("1.3")!: 1]])
        #expect(ended.allSatisfy { if case .ended(_, trouble: "cut") = $0 { true } else { false } })
        #expect(transfers.end(trouble: nil).isEmpty)
    }

    @Test func noMessageNamesTwoPatients() {
        var transfers = ReceivedTransfers(peerAddress: "10.0.0.1")
        #expect(transfers.add(record(patient: "A"), .created).count == 1)
        #expect(transfers.add(record(patient: "B"), .created).count == 1)
        #expect(Set(transfers.end(trouble: nil).compactMap { transfer($0)?.patient.id }) == ["A", "B"])
    }

    @Test func whoSendsEachObjectAsAStudyHasAFewCountedAtOnce() {
        var transfers = ReceivedTransfers(peerAddress: "10.0.0.1")
        for number in 0..<ReceivedTransfers.mostStudies {
            #expect(transfers.add(record(study: "1.2.\(number)"), .created).count == 1)
        }
        let further = transfers.add(record(study: "1.3"), .created)
        #expect(further.count == ReceivedTransfers.mostStudies + 1)
        #expect(transfers.end(trouble: nil).count == 1)
    }
}
