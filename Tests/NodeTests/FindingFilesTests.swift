import Console
import Foundation
import Ledger
import Logging
import Testing
import WorkerProtocol

@testable import ICHModel
@testable import ichnode

@Suite struct FindingFilesTests {
    private let study = UID("1.2.3")!
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("findings-\(UUID())")
    private var files: FindingFiles { FindingFiles(results: folder, logger: Logger(label: "findings")) }

    private func instance(_ number: Int, version: Int = 1) -> StoredInstance {
        var record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.4.\(number)")!,
            studyInstanceUID: study, seriesInstanceUID: UID("1.2.3.4")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2.1")!, version: version)
        record.image.position = [-120, -120, Double(number) * 2]
        record.image.orientation = [1, 0, 0, 0, 1, 0]
        record.image.pixelSpacing = [0.5, 0.4]
        (record.image.rows, record.image.columns, record.image.instanceNumber) = (512, 512, 100 + number)
        return StoredInstance(record: record, path: "/spool/\(number)", receivedAt: .now)
    }

    private func finding(slices: Int, each: Int) -> Finding {
        Finding(
            modelName: "m", modelVersion: "1", modelDigest: "d", classes: ["any"], probability: 0.75,
            classProbabilities: [0.75], threshold: .init(name: "balanced", value: 0.5), isPositive: true,
            sliceThreshold: 0.5,
            slices: (0..<slices).map { slice in
                let instances = (0..<each).map { UID("1.2.3.4.\(slice * each + $0 + 1)")! }
                return AnalysedSlice(
                    instances: instances, representative: instances[each / 2],
                    positionMillimetres: Double(slice * each * 2), probability: 0.5, logit: 0,
                    attention: 1 / Double(slices), isFlagged: slice == 0, lesionMap: [0, 0.25, 0.5, 1])
            }, box: StudyBox(x: -3, y: 7, size: 500), rows: 512, columns: 512, mapSize: 2, slicesPerSlab: each,
            spacingMillimetres: 2, brain: BrainCheck(brainMillilitres: 1000), endsWithinBrain: [])
    }

    private func record(slices: Int = 3, each: Int = 3) throws -> FindingRecord {
        let known = (1...(slices * each)).map { instance($0, version: $0 == 2 ? 4 : 1) }
        return try #require(
            FindingRecord(
                finding(slices: slices, each: each),
                Dictionary(uniqueKeysWithValues: known.map { ($0.record.sopInstanceUID, $0) })))
    }

    @Test func whatIsKeptIsReadAgain() async throws {
        let record = try record()
        #expect(record.flaw == nil)
        #expect(record.images.map(\.positionMillimetres) == (1...9).map { Double($0) * 2 })
        #expect(record.images[1].version == 4)
        #expect(record.slices.map(\.representative) == [1, 4, 7])
        #expect(record.slices[0].map == Data([0, 0, 0, 64, 0, 128, 255, 255]))
        await files.keep(record, of: study, as: "ab12")
        #expect(try files.read("ab12", of: study) == record)
        #expect(try files.read("ab13", of: study) == nil)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path + "/1.2.3")
        #expect(names == ["finding-ab12.json"])
    }

    @Test func theLargestFindingFits() async throws {
        let record = try record(slices: 512, each: 4)
        #expect(record.flaw == nil)
        await files.keep(record, of: study, as: "ab")
        #expect(try files.read("ab", of: study) == record)
        var larger = record
        larger.slices.append(record.slices[0])
        await files.keep(larger, of: study, as: "cd")
        #expect(try files.read("cd", of: study) == nil)
    }

    @Test func aFindingOfUnknownImagesIsNone() throws {
        #expect(FindingRecord(finding(slices: 2, each: 1), [UID("1.2.3.4.1")!: instance(1)]) == nil)
    }

    @Test func whatCannotBeWrittenIsLeft() async throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        // A file where the study's folder would be.
        try Data().write(to: folder.appendingPathComponent("1.2.3"))
        await files.keep(try record(), of: study, as: "ab")
        #expect(throws: WorkerError.self) { try files.read("ab", of: study) }
        await files.keep(nil, of: UID("1.2.4")!, as: "ab")
        #expect(try files.read("ab", of: UID("1.2.4")!) == nil)
    }

    @Test(arguments: ["../ab", "..%2fab", "AB", "ab.json", "é"])
    func aNameThatIsNoneIsNotLookedFor(name: String) async throws {
        await files.keep(try record(), of: study, as: "ab")
        #expect(try files.read(name, of: study) == nil)
    }

    @Test(arguments: ["", "{}", "[1, 2", "{\"images\": []}"])
    func whatIsNoFindingIsSaidToBeNone(text: String) throws {
        let place = folder.appendingPathComponent("1.2.3")
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        try Data(text.utf8).write(to: place.appendingPathComponent("finding-ab.json"))
        #expect(throws: WorkerError.self) { try files.read("ab", of: study) }
        try FileManager.default.createSymbolicLink(
            at: place.appendingPathComponent("finding-cd.json"),
            withDestinationURL: place.appendingPathComponent("finding-ab.json"))
        #expect(throws: WorkerError.self) { try files.read("cd", of: study) }
    }

    @Test func keepsWhatWasUsedLast() {
        var recent = RecentlyUsed<Int, Data>(mostBytes: 10)
        for key in 1...3 { recent[key] = Data(count: 3) }
        #expect(recent[1]?.count == 3)
        recent[4] = Data(count: 3)
        #expect(recent[2] == nil)
        #expect(recent[1] != nil)
        recent[5] = Data(count: 11)
        #expect(recent[5] == nil)
        #expect(recent.bytes == 9)
        recent[1] = Data(count: 4)
        #expect(recent.bytes == 10)
    }
}

@Suite struct ViewerImagesTests {
    private let study = UID("1.2.3")!
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("viewer-\(UUID())")

    /// Two images of a concluded study, of which the finding knows a third version of the second.
    private func images() async throws -> (images: ViewerImages, ledger: SQLiteLedger) {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let ledger = try SQLiteLedger(path: folder.appendingPathComponent("ledger.sqlite").path)
        let stored = (1...2).map { number in
            let record = InstanceRecord(
                sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.4.\(number)")!,
                studyInstanceUID: study, seriesInstanceUID: UID("1.2.3.4")!,
                transferSyntaxUID: UID("1.2.840.10008.1.2.1")!)
            return StoredInstance(record: record, path: "/nowhere/\(number)", receivedAt: .now)
        }
        try await ledger.recordInstances(stored)
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 2, because: "")
        let entry = AnalysisEntry(
            studyInstanceUID: study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c", route: "default",
            startedAt: .now, completedAt: .now, outcome: .negative, reason: "", completion: "", studyProbability: 0.1,
            threshold: 0.5, flaggedSlices: 0)
        try await ledger.conclude(entry, objects: [], deliveries: [])
        let record = FindingRecord(
            seriesInstanceUID: UID("1.2.3.4")!,
            images: (1...2).map {
                .init(
                    sopInstanceUID: UID("1.2.3.4.\($0)")!, frame: nil, version: $0 == 1 ? 1 : 3, instanceNumber: $0,
                    positionMillimetres: Double($0))
            },
            slices: [
                .init(
                    imageCount: 2, representative: 0, positionMillimetres: 1, probability: 0, attention: 1,
                    isFlagged: false, map: nil)
            ], probability: 0.1, threshold: 0.5, thresholdName: "balanced", isPositive: false, sliceThreshold: 0.5,
            rows: 1, columns: 1, pixelSpacing: nil, orientation: nil, box: .init(x: 0, y: 0, size: 1), mapSize: 1)
        let logger = Logger(label: "viewer")
        let findings = FindingFiles(results: folder.appendingPathComponent("results"), logger: logger)
        await findings.keep(record, of: study, as: "ab")
        // What would decode has no program: nothing here gets so far, unless it says so.
        let program = WorkerProgram(path: "/nowhere/ichnode-dicom", arguments: [])
        return (
            ViewerImages(findings: findings, ledger: ledger, program: program, clock: .system, logger: logger), ledger
        )
    }

    @Test func opensOnlyWhatTheLedgerListsInTheVersionThatWasAnalysed() async throws {
        let (images, _) = try await images()
        func slice(_ index: Int, _ name: String = "ab", _ study: UID = UID("1.2.3")!) async throws {
            _ = try await images.slice(index, of: name, study: study, isGzipped: false)
        }
        await #expect(throws: WorkerError.self) { try await slice(0) }
        await #expect(throws: ImageRefusal.removed) { try await slice(1) }
        await #expect(throws: ImageRefusal.unknown) { try await slice(2) }
        await #expect(throws: ImageRefusal.unknown) { try await slice(-1) }
        await #expect(throws: ImageRefusal.unknown) { try await slice(0, "cd") }
        await #expect(throws: ImageRefusal.unknown) { try await slice(0, "ab", UID("1.2.4")!) }
    }

    @Test func saysThatImagesWereRemoved() async throws {
        let (images, ledger) = try await images()
        _ = try await ledger.record(.ignored, onStudy: study)
        #expect(try await ledger.purgeOldestStudy(receivedBefore: .distantFuture)?.study == study)
        await #expect(throws: ImageRefusal.removed) {
            try await images.slice(0, of: "ab", study: study, isGzipped: false)
        }
        #expect(try await images.finding("ab", ofStudy: study) != nil)
    }

    @Test func tellsOfTheMapsColoursFromWhereItDraws() async throws {
        let shades = try await images().images.shades
        #expect(shades.count == 256)
        let first = try #require(shades.firstIndex { $0.opacity > 0 })
        #expect((38...40).contains(first))
        #expect(shades[255].opacity == 153)
        #expect(zip(shades, shades.dropFirst()).allSatisfy { $0.opacity <= $1.opacity })
    }
}
