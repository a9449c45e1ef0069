import Foundation
import GRDB
import Synchronization
import Testing
import WorkerProtocol

@testable import Ledger

/// Copies of the ledger, what becomes of one that is restored, and of one of another version.
@Suite struct LedgerBackupTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("backup-\(UUID().uuidString)")
    private let study = UID("1.2.3")!

    init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

    private var ledgerPath: String { path("ledger.sqlite") }
    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    private func files(_ prefix: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasPrefix(prefix) }.sorted()
    }

    private func instance(_ number: Int, of study: UID? = nil) -> StoredInstance {
        let study = study ?? self.study
        let record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("\(study).4.\(number)")!,
            studyInstanceUID: study, seriesInstanceUID: UID("\(study).4")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        return StoredInstance(
            record: record, path: "/old/data/spool/studies/\(study)/\(number).dcm",
            receivedAt: Date(timeIntervalSince1970: Double(number)))
    }

    private func object(_ name: String) -> ComposedObject {
        ComposedObject(
            path: "/old/data/results/\(study)/\(name).dcm", sopClassUID: UID("1.2.840.10008.5.1.4.1.1.88.22")!,
            sopInstanceUID: UID("2.25.\(name)")!)
    }

    private func conclude(_ uid: UID, in ledger: SQLiteLedger, seeing count: Int) async throws {
        _ = try await ledger.beginAnalysis(ofStudy: uid, seeing: count, because: "a test")
        let analysis = AnalysisEntry(
            studyInstanceUID: uid, revisionDigest: "r", modelDigest: "m", configurationDigest: "c", route: "default",
            startedAt: .now, completedAt: .now, outcome: .positive, reason: "", completion: "grace",
            studyProbability: 0.9, threshold: 0.5, flaggedSlices: 1)
        try await ledger.conclude(
            analysis, objects: [object("1"), object("2")],
            deliveries: [
                NewDelivery(destination: "pacs", priority: 0, objects: [object("1")], alternatives: [object("2")])
            ])
    }

    // MARK: Copying

    @Test func aCopyOfALedgerThatIsWrittenIsWholeAndOneFile() async throws {
        let ledger = try SQLiteLedger(path: ledgerPath)
        try await ledger.recordInstances((1...2000).map { instance($0) })
        let writing = Task {
            // One transaction each: all of a study or nothing.
            for number in 1...300 {
                let uid = UID("1.2.4.\(number)")!
                try await ledger.recordInstances((1...10).map { instance($0, of: uid) })
            }
        }
        var counts: [Int] = []
        while counts.count < 3 || (counts[0] == counts.last && counts.count < 50) {
            let target = path("copy-\(counts.count).sqlite")
            try LedgerCopy.make(of: ledgerPath, at: target)
            let mode = try FileManager.default.attributesOfItem(atPath: target)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            let copy = try DatabaseQueue(path: target)
            let (count, torn) = try await copy.read { database in
                (
                    try Int.fetchOne(database, sql: "SELECT count(*) FROM instance") ?? 0,
                    try Int.fetchOne(
                        database,
                        sql: """
                            SELECT count(*) FROM (SELECT study_uid FROM instance WHERE study_uid <> '1.2.3'
                                                  GROUP BY study_uid HAVING count(*) <> 10)
                            """)
                )
            }
            try copy.close()
            #expect(torn == 0)
            counts.append(count)
        }
        try await writing.value
        #expect(counts[0] >= 2000 && counts == counts.sorted() && counts.last != counts[0])
        #expect(try files("copy").count == counts.count)
        #expect(try LedgerCopy.schemaVersion(of: path("copy-2.sqlite")) == SQLiteLedger.schemaVersion)
    }

    @Test func nothingIsOverwrittenByACopyAndADamagedLedgerGivesNone() async throws {
        let ledger = try SQLiteLedger(path: ledgerPath)
        try await ledger.recordInstances((1...500).map { instance($0) })
        try Data("mine".utf8).write(to: URL(fileURLWithPath: path("taken")))
        #expect(throws: LedgerError.self) { try LedgerCopy.make(of: ledgerPath, at: path("taken")) }
        #expect(try String(contentsOfFile: path("taken"), encoding: .utf8) == "mine")
        try await ledger.database.writeWithoutTransaction { _ = try $0.checkpoint(.truncate) }
        try ledger.database.close()
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: ledgerPath))
        let middle = try file.seekToEnd() / 2 / 4096 * 4096
        try file.seek(toOffset: middle)
        try file.write(contentsOf: Data(repeating: 0x5A, count: 4096))
        try file.close()
        #expect { try LedgerCopy.make(of: ledgerPath, at: path("copy.sqlite")) } throws: { "\($0)".contains("damaged") }
    }

    // MARK: Restoring

    @Test func aRestoredLedgerNamesTheFilesWhereTheyAre() async throws {
        let ledger = try SQLiteLedger(path: ledgerPath)
        var enhanced = instance(2)
        enhanced.record.multiFrame = MultiFrame([FrameAttributes()])
        try await ledger.recordInstances([instance(1), enhanced])
        try await conclude(study, in: ledger, seeing: 2)
        try ledger.database.close()
        let losses = try RestoredLedger.settle(ledgerPath, from: "/old/data", to: "/new/é") { _ in true }
        #expect(losses == .init())
        let restored = try SQLiteLedger(path: ledgerPath)
        let instances = try await restored.instances(ofStudy: study)
        #expect(instances.map(\.path) == ["/new/é/spool/studies/1.2.3/1.dcm", "/new/é/spool/studies/1.2.3/2.dcm"])
        #expect(instances[1].record.multiFrame != nil && !instances.contains(where: \.isPurged))
        #expect(
            try await restored.resultObjects(ofStudy: study).map(\.path) == [
                "/new/é/results/1.2.3/1.dcm", "/new/é/results/1.2.3/2.dcm",
            ])
        let delivery = try #require(try await restored.deliveries(ofStudy: study).first)
        #expect(delivery.state == .pending)
        #expect(delivery.objects.map(\.object.path) == ["/new/é/results/1.2.3/1.dcm"])
        #expect(delivery.objects[0].alternatives?.map(\.path) == ["/new/é/results/1.2.3/2.dcm"])
    }

    @Test func ofOtherNamesOfTheDataDirectoryARestoredLedgerHasNone() async throws {
        let ledger = try SQLiteLedger(path: ledgerPath)
        var enhanced = instance(1)
        enhanced.record.multiFrame = MultiFrame([FrameAttributes()])
        try await ledger.recordInstances([enhanced])
        try await conclude(study, in: ledger, seeing: 1)
        #expect(try LedgerCopy.roots(in: ledgerPath) == ["/old/data"])
        // A start after the move has recorded what is in the spool by its other name too.
        var again = enhanced
        again.path = again.path.replacing("/old/data", with: "/moved")
        try await ledger.recordInstances([again])
        #expect(try await ledger.instances(ofStudy: study).count == 2)
        try ledger.database.close()
        _ = try RestoredLedger.settle(ledgerPath, from: "/moved", aliases: ["/old/data"], to: "/new") { _ in true }
        #expect(try LedgerCopy.roots(in: ledgerPath) == ["/new"])
        let restored = try SQLiteLedger(path: ledgerPath)
        let instances = try await restored.instances(ofStudy: study)
        #expect(instances.count == 1 && !instances[0].isPurged && instances[0].record.multiFrame != nil)
    }

    @Test func imagesThatDidNotComeWithItCountAsRemovedAndOpenStudiesAreNamed() async throws {
        let ledger = try SQLiteLedger(path: ledgerPath)
        let (waiting, whole) = (UID("1.2.5")!, UID("1.2.6")!)
        try await ledger.recordInstances([instance(1), instance(2)])
        try await conclude(study, in: ledger, seeing: 2)
        try await ledger.recordInstances([instance(3, of: waiting), instance(4, of: waiting), instance(5, of: whole)])
        try ledger.database.close()
        let losses = try RestoredLedger.settle(ledgerPath, from: "/old/data", to: "/old/data") { path in
            path.hasSuffix("4.dcm") || path.hasSuffix("5.dcm")
        }
        #expect(losses.images == 3 && losses.open == [waiting, whole] && losses.openWithoutImages == [waiting])
        let toldLater = try RestoredLedger.losses(of: ledgerPath)
        #expect(toldLater.open == losses.open && toldLater.openWithoutImages == losses.openWithoutImages)
        let restored = try SQLiteLedger(path: ledgerPath)
        #expect(try await restored.instances(ofStudy: study).allSatisfy(\.isPurged))
        #expect(try await restored.instances(ofStudy: waiting).map(\.isPurged) == [true, false])
        // It is still to be concluded, and says what it lacks.
        #expect(try await restored.unconcludedStudies() == [waiting, whole])
        let detail = try #require(try await restored.study(waiting))
        #expect(detail.events.last?.kind == "restored" && detail.events.last?.text.hasPrefix("1 images") == true)
        // Sent again it counts as new.
        #expect(try await restored.recordInstances([instance(3, of: waiting), instance(4, of: waiting)]).count == 1)
        #expect(try await restored.instances(ofStudy: waiting).allSatisfy { !$0.isPurged })
        // Retention does not take up what has no files.
        let hasFiles = try await restored.database.read { database in
            try String.fetchAll(database, sql: "SELECT study_uid FROM study WHERE has_files = 1 ORDER BY 1")
        }
        #expect(hasFiles == ["1.2.5", "1.2.6"])
    }

    // MARK: Versions

    private final class Told: Sendable {
        private let said = Mutex<[String]>([])
        var texts: [String] { said.withLock { $0 } }
        @Sendable func note(_ text: String) { said.withLock { $0.append(text) } }
    }

    private func leaveLedger(upTo migration: String) throws {
        let database = try DatabaseQueue(path: ledgerPath)
        try LedgerSchema.migrator.migrate(database, upTo: migration)
        try database.write { database in
            try database.execute(
                sql: """
                    INSERT INTO study (study_uid, state, first_received_at, last_received_at)
                    VALUES ('1.2.3', 'receiving', 1, 1)
                    """)
        }
        try database.close()
    }

    @Test func anEarlierLedgerIsRestoredInThePresentSchema() async throws {
        try leaveLedger(upTo: "decisions and retention")
        let losses = try RestoredLedger.settle(ledgerPath, from: "/old/data", to: "/new") { _ in false }
        #expect(losses.open == [study] && losses.images == 0)
        #expect(try LedgerCopy.schemaVersion(of: ledgerPath) == SQLiteLedger.schemaVersion)
    }

    @Test func anEarlierLedgerStaysBesideTheOneThatIsBroughtUpToDate() async throws {
        try leaveLedger(upTo: "columns of instances")
        for number in [1, 2] { try Data().write(to: URL(fileURLWithPath: path("ledger-schema-\(number).sqlite"))) }
        let told = Told()
        let ledger = try SQLiteLedger(path: ledgerPath, progress: told.note)
        #expect(told.texts.contains { $0.hasPrefix("copying") } && told.texts.contains { $0.hasPrefix("bringing") })
        #expect(try await ledger.study(study) != nil)
        #expect(try LedgerCopy.schemaVersion(of: path("ledger-schema-3.sqlite")) == 3)
        try ledger.database.close()
        // Once, and not at the next start.
        try FileManager.default.removeItem(atPath: path("ledger-schema-3.sqlite"))
        try SQLiteLedger(path: ledgerPath).database.close()
        #expect(try files("ledger-schema") == ["ledger-schema-1.sqlite", "ledger-schema-2.sqlite"])
    }

    @Test func theLatestCopiesAreKept() throws {
        try leaveLedger(upTo: "operator alerts")
        for number in 1...4 { try Data().write(to: URL(fileURLWithPath: path("ledger-schema-\(number).sqlite"))) }
        try SQLiteLedger(path: ledgerPath).database.close()
        #expect(try files("ledger-schema") == [3, 4, 8].map { "ledger-schema-\($0).sqlite" })
    }

    /// All migrations there are, then one that succeeds, and one that does not.
    private func failingUpgrade() throws -> LedgerUpgrade {
        var migrator = LedgerSchema.migrator
        migrator.registerMigration("one more") { try $0.execute(sql: "DROP TABLE event; CREATE TABLE more (a)") }
        migrator.registerMigration("fails") { try $0.execute(sql: "INSERT INTO nowhere VALUES (1)") }
        return LedgerUpgrade(database: try DatabasePool(path: ledgerPath), migrator: migrator)
    }

    @Test func aMigrationThatFailsLeavesTheLedgerAsItWas() async throws {
        let ledger = try SQLiteLedger(path: ledgerPath)
        try await ledger.recordInstances([instance(1)])
        try await ledger.recordEvent("kept", "text", ofStudy: study)
        try ledger.database.close()
        let upgrade = try failingUpgrade()
        #expect { try upgrade.run() } throws: { "\($0)".contains("It is as it was") }
        try upgrade.database.close()
        let again = try SQLiteLedger(path: ledgerPath)
        #expect(try await again.study(study)?.events.map(\.kind) == ["kept"])
        #expect(try LedgerCopy.schemaVersion(of: ledgerPath) == SQLiteLedger.schemaVersion)
        let copy = path("ledger-schema-\(SQLiteLedger.schemaVersion).sqlite")
        #expect(try LedgerCopy.schemaVersion(of: copy) == SQLiteLedger.schemaVersion)
    }

    @Test func withoutRoomNothingIsMigrated() throws {
        try SQLiteLedger(path: ledgerPath).database.close()
        let bytes = try #require(FileManager.default.attributesOfItem(atPath: ledgerPath)[.size] as? Int)
        var upgrade = try failingUpgrade()
        upgrade.freeBytes = { _ in 3 * bytes - 1 }
        #expect { try upgrade.run() } throws: { "\($0)".contains("make room") }
        #expect(try files("ledger-schema") == [])
        // At the limit there is room.
        upgrade.freeBytes = { _ in 3 * bytes }
        #expect { try upgrade.run() } throws: { "\($0)".contains("It is as it was") }
        try upgrade.database.close()
    }

    @Test func aLaterLedgerIsRefusedAndLeftAlone() throws {
        try SQLiteLedger(path: ledgerPath).database.close()
        let database = try DatabaseQueue(path: ledgerPath)
        try database.write { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('of tomorrow')") }
        try database.close()
        let names = try files("")
        #expect { try LedgerExamination.examine(ledgerPath, seconds: 60) } throws: { "\($0)".contains("later version") }
        #expect(try files("") == names)
        #expect { try SQLiteLedger(path: ledgerPath) } throws: { "\($0)".contains("later version") }
        #expect { try RestoredLedger.settle(ledgerPath, from: "/a", to: "/b") { _ in true } } throws: {
            "\($0)".contains("later version")
        }
        #expect(try LedgerCopy.schemaVersion(of: ledgerPath) == SQLiteLedger.schemaVersion + 1)
    }

    @Test func anExaminationFindsDamageAndChangesNothing() async throws {
        let ledger = try SQLiteLedger(path: ledgerPath)
        try await ledger.recordInstances((1...2000).map { instance($0) })
        #expect(try LedgerExamination.examine(ledgerPath, seconds: 60))
        try ledger.database.close()
        // The ledger's readers end last, and leave the write-ahead log.
        let queue = try DatabaseQueue(path: ledgerPath)
        try await queue.writeWithoutTransaction { _ = try $0.checkpoint(.truncate) }
        try queue.close()
        let names = try files("")
        #expect(names == ["ledger.sqlite"])
        #expect(try LedgerExamination.examine(ledgerPath, seconds: 60))
        let bytes = try Data(contentsOf: URL(fileURLWithPath: ledgerPath))
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: ledgerPath))
        try file.seek(toOffset: UInt64(bytes.count / 2))
        try file.write(contentsOf: Data(repeating: 0xA5, count: bytes.count / 4))
        try file.close()
        #expect(throws: (any Error).self) { try LedgerExamination.examine(ledgerPath, seconds: 60) }
        #expect(try files("") == names)
    }
}
