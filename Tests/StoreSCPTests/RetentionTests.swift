import Foundation
import Ledger
import Logging
import Testing
import WorkerProtocol

@testable import StoreSCP

@Suite struct RetentionTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keep-\(UUID().uuidString)")
    private let now = Date(timeIntervalSince1970: 1_000_000)
    private let ledger: SQLiteLedger
    private let spool: Spool

    init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        ledger = try SQLiteLedger(path: folder.appendingPathComponent("l.sqlite").path)
        spool = Spool(root: folder.appendingPathComponent("spool"))
        close(try spool.open())
    }

    private func retention(
        keep: Duration?, leastKeep: Duration = .seconds(50), isShort: Bool = false, clock: WallClock? = nil
    ) -> Retention {
        Retention(
            policy: .init(keep: keep, leastKeep: leastKeep), ledger: ledger,
            clock: clock ?? WallClock(now: { now }, sleep: { try await Task.sleep(for: $0) }),
            logger: Logger(label: "test"), isShort: { isShort })
    }

    /// A concluded study of one image that came so many seconds ago.
    private func study(_ number: Int, age: Double) async throws -> String {
        let uid = UID("1.2.\(number)")!
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.\(number).1")!,
            studyInstanceUID: uid, seriesInstanceUID: UID("1.8")!, transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        let path = spool.path(study: uid, instance: record.sopInstanceUID)
        try FileManager.default.createDirectory(
            at: URL(fileURLWithPath: path).deletingLastPathComponent(), withIntermediateDirectories: true)
        try write(path, at: now - age - 1)
        try await ledger.recordInstances([StoredInstance(record: record, path: path, receivedAt: now - age)])
        _ = try await ledger.beginAnalysis(ofStudy: uid, seeing: 1, because: "a test")
        try await ledger.concludeUnchanged(study: uid, because: "a test")
        return path
    }

    private func write(_ path: String, at moment: Date) throws {
        try Data("pixels".utf8).write(to: URL(fileURLWithPath: path))
        try FileManager.default.setAttributes([.modificationDate: moment], ofItemAtPath: path)
    }

    private func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    @Test func onlyWhatIsOldEnoughGoes() async throws {
        let (old, young) = (try await study(1, age: 101), try await study(2, age: 99))
        try await retention(keep: .seconds(100)).purgeDue()
        #expect(!exists(old))
        #expect(exists(young))
        try await retention(keep: nil).purgeDue()
        #expect(exists(young))
    }

    @Test func aShortDiskTakesYoungerOnesButNoneUnderTheLeast() async throws {
        let (old, young) = (try await study(1, age: 51), try await study(2, age: 49))
        for keep in [nil, Duration.seconds(1000)] { try await retention(keep: keep, isShort: true).purgeDue() }
        #expect(!exists(old))
        #expect(exists(young))
    }

    @Test func aClockThatIsSetAheadRemovesNothingForTenMinutes() async throws {
        let path = try await study(1, age: 10)
        let time = SetTime(now)
        let clock = WallClock(now: { time.now }, sleep: { _ in }, elapsed: { .zero })
        let service = retention(keep: .seconds(100), clock: clock)
        var doubt = ClockDoubt(clock, latestArrival: nil)
        time.now += 86_400
        try await service.purgeDue(&doubt)
        // What passes by less at once is time that passes.
        time.now += 599
        try await service.purgeDue(&doubt)
        #expect(exists(path))
        time.now += 1
        try await service.purgeDue(&doubt)
        #expect(!exists(path))
    }

    @Test func aClockThatIsSetRightIsBelievedAtOnceAndAShortDiskWaitsForNone() async throws {
        let (old, young) = (try await study(1, age: 101), try await study(2, age: 51))
        let time = SetTime(now)
        let clock = WallClock(now: { time.now }, sleep: { _ in }, elapsed: { .zero })
        var doubt = ClockDoubt(clock, latestArrival: nil)
        time.now += 86_400
        try await retention(keep: .seconds(100), clock: clock).purgeDue(&doubt)
        #expect(exists(old))
        time.now -= 86_400
        try await retention(keep: .seconds(100), clock: clock).purgeDue(&doubt)
        #expect(!exists(old))
        #expect(exists(young))
        time.now += 86_400
        try await retention(keep: .seconds(100), isShort: true, clock: clock).purgeDue(&doubt)
        #expect(!exists(young))
    }

    @Test func aClockFarAheadOfTheLatestImageIsDoubtedAtTheStart() {
        let clock = WallClock(now: { now }, sleep: { _ in })
        for (age, isDoubted) in [(900.0, true), (899, false), (-900, false)] {
            let doubt = ClockDoubt(clock, latestArrival: now - age)
            #expect(doubt.holds(at: now) == isDoubted)
            #expect(!doubt.holds(at: now + 600))
        }
    }

    @Test func whatACrashLeftIsRemovedAtTheNextStart() async throws {
        let path = try await study(1, age: 101)
        // Marked, and then the node ended.
        _ = try await ledger.purgeOldestStudy(receivedBefore: now)
        #expect(exists(path))
        #expect(try await mender().mend() == 0)
        #expect(!exists(path))
        #expect(!exists(URL(fileURLWithPath: path).deletingLastPathComponent().path))
        #expect(try await ledger.instances(ofStudy: UID("1.2.1")!).map(\.isPurged) == [true])
    }

    @Test func aFolderThatCannotBeListedKeepsNoOtherFromBeingMended() async throws {
        let paths = [try await study(1, age: 101), try await study(2, age: 101)]
        for _ in paths { _ = try await ledger.purgeOldestStudy(receivedBefore: now) }
        // Named like folders of studies, and none: whatever their order.
        let files = ["1.2.0", "1.2.3"].map { spool.studies.appendingPathComponent($0).path }
        for file in files { try Data().write(to: URL(fileURLWithPath: file)) }
        #expect(try await mender().mend() == 0)
        for path in paths { #expect(!exists(path)) }
        for file in files { #expect(exists(file)) }
        // The folder of all studies has to be there.
        try FileManager.default.removeItem(at: spool.studies)
        await #expect(throws: (any Error).self) { try await mender().mend() }
    }

    @Test func whatIsSentAgainAndNotRecordedYetOutlivesACrash() async throws {
        let path = try await study(1, age: 101)
        try await retention(keep: .seconds(100)).purgeDue()
        // Acknowledged, and then the node ended.
        try FileManager.default.createDirectory(
            at: URL(fileURLWithPath: path).deletingLastPathComponent(), withIntermediateDirectories: true)
        try write(path, at: now)
        // Nobody is there who could read it.
        await #expect(throws: WorkerError(.start, "")) { try await mender().mend() }
        #expect(exists(path))
    }

    @Test func thatNoWorkerStartsIsNoFaultOfAnImage() async throws {
        let frames = ["/x", "/y"].map { FrameLocation(path: $0) }
        await #expect(throws: WorkerError(.start, "")) { try await decoder().planes(of: frames) }
    }

    /// Ends before it says anything.
    private func decoder() -> DecodeClient {
        DecodeClient(program: WorkerProgram(path: "/bin/false", arguments: []), logger: Logger(label: "test"))
    }

    private func mender() -> SpoolMender {
        SpoolMender(
            spool: spool, ledger: ledger, decoder: decoder(), clock: .system, logger: Logger(label: "test"))
    }
}

extension Retention {
    /// By a clock that is not doubted.
    fileprivate func purgeDue() async throws {
        var doubt = ClockDoubt(.system, latestArrival: nil)
        try await purgeDue(&doubt)
    }
}

/// `@unchecked Sendable` is safe because `value` is guarded by `lock`.
private final class SetTime: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Date
    init(_ value: Date) { self.value = value }
    var now: Date {
        get { lock.withLock { value } }
        set { lock.withLock { value = newValue } }
    }
}
