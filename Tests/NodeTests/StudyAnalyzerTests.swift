import AlertDispatcher
import Foundation
import Ledger
import Logging
import Testing
import WorkerProtocol

@testable import ICHModel
@testable import StoreSCP
@testable import ichnode

/// What is analysed depends neither on what was encoded ahead nor on when it came.
@Suite struct StudyAnalyzerTests {
    private let study = UID("1.2.3")!

    /// Axial images of one series, 5 mm apart.
    private func images(
        _ numbers: ClosedRange<Int>, side: Int, series: String = "1.2.3.4", patient: String = "P1"
    ) -> [StoredInstance] {
        numbers.map { number in
            var record = InstanceRecord(
                sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("\(series).\(side).\(number)")!,
                studyInstanceUID: study, seriesInstanceUID: UID(series)!,
                transferSyntaxUID: UID("1.2.840.10008.1.2.1")!)
            record.patient.id = patient
            record.series.modality = "CT"
            record.series.bodyPartExamined = "HEAD"
            record.image.imageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            record.image.position = [-120, -120, Double(number) * 5]
            record.image.orientation = [1, 0, 0, 0, 1, 0]
            record.image.pixelSpacing = [2, 2]
            record.image.sliceThickness = 5
            (record.image.rows, record.image.columns) = (side, side)
            (record.image.samplesPerPixel, record.image.bitsAllocated, record.image.bitsStored) = (1, 16, 12)
            record.image.photometricInterpretation = "MONOCHROME2"
            record.image.hasPixelData = true
            return StoredInstance(record: record, path: "/spool/\(side)/\(series)/\(number)", receivedAt: .now)
        }
    }

    private func tools() throws -> StudyAnalyzer.Tools {
        let model = try #require(
            try FileManager.default.contentsOfDirectory(atPath: Repository.file("Models")).sorted().first)
        return .init(
            package: try ModelPackage(directory: Repository.file("Models/\(model)")), engine: NoFindings(),
            decoder: Air(), clock: .system, logger: Logger(label: "test"))
    }

    /// - Returns: the sides of the images that were analysed.
    private func analyse(_ batches: [[StoredInstance]], ahead: Int) async throws -> [Int] {
        let analyzer = StudyAnalyzer(tools: try tools())
        for batch in batches.prefix(ahead) { await analyzer.encodeAhead(batch) }
        let analysis = try await analyzer.analyse(
            AssembledStudy(
                studyInstanceUID: study, instances: batches.flatMap(\.self), origin: StudyOrigin(),
                decision: .complete(.grace), lastArrival: .now),
            threshold: .init(name: "balanced", value: 0.5))
        #expect(analysis.seriesInstanceUID == UID("1.2.3.4"))
        return analysis.report?.images.compactMap(\.record.image.rows) ?? []
    }

    @Test(arguments: 0...2) func imagesOfAnotherSizeThatComeFirstDoNotKeepTheOthersOut(ahead: Int) async throws {
        let sides = try await analyse([images(1...20, side: 96), images(1...30, side: 128)], ahead: ahead)
        #expect(sides == Array(repeating: 128, count: 30))
    }

    @Test(arguments: 0...3) func imagesThatAreChosenAgainAreEncodedAgain(ahead: Int) async throws {
        let sides = try await analyse(
            [images(1...20, side: 96), images(1...30, side: 128), images(21...50, side: 96)], ahead: ahead)
        #expect(sides == Array(repeating: 96, count: 50))
    }

    @Test func whereNoSeriesIsNamedEachIsLookedAtForABrain() async throws {
        func series(_ uid: String, _ change: (inout InstanceRecord) -> Void = { _ in }) -> [StoredInstance] {
            images(1...30, side: 64, series: uid).map { instance in
                var instance = instance
                instance.record.series.bodyPartExamined = nil
                change(&instance.record)
                return instance
            }
        }
        func analyse(_ instances: [StoredInstance]) async throws -> StudyAnalyzer.Analysis {
            try await StudyAnalyzer(tools: try tools()).analyse(
                AssembledStudy(
                    studyInstanceUID: study, instances: instances, origin: StudyOrigin(), decision: .complete(.grace),
                    lastArrival: .now),
                threshold: .init(name: "balanced", value: 0.5))
        }
        let none = try await analyse(series("1.2.3.4") + series("1.2.3.5"))
        #expect(none.outcome == .notHeadCT)
        #expect(none.encoderCalls > 0 && none.seriesInstanceUID == UID("1.2.3.5"))
        #expect(none.verdicts.map(\.reason).first == "no brain tissue")
        #expect(none.brainless == [UID("1.2.3.4")!: true])
        // What cannot be decoded of the first could be the head.
        var broken = series("1.2.3.4")
        broken[7].path = "/spool/none/7"
        let part = try await analyse(broken + series("1.2.3.5"))
        #expect(part.outcome == .undetermined && part.report != nil)
        // Nor does it say anything of one within it.
        let frame = UID("1.2.9")!
        var within = series("1.2.3.4") { $0.series.frameOfReferenceUID = frame }
        let other = series("1.2.3.5") { $0.series.frameOfReferenceUID = frame }
        #expect(try await analyse(within + other).seriesInstanceUID == UID("1.2.3.4"))
        within[7].path = "/spool/none/7"
        #expect(try await analyse(within + other).seriesInstanceUID == UID("1.2.3.5"))
        // A head that cannot be analysed is none the less one.
        let contrast = series("1.2.3.5") {
            $0.series.bodyPartExamined = "HEAD"
            $0.series.contrastBolusAgent = "IOMERON"
        }
        let refused = try await analyse(series("1.2.3.4") + contrast)
        #expect(refused.outcome == .undetermined && refused.reason == "contrast agent given")
        let many = try await analyse((0..<7).flatMap { series("1.2.3.4\($0)") })
        #expect(many.outcome == .undetermined && many.reason == "no brain tissue")
    }

    @Test func whatMadeAStudyCompleteSaysNothingOfAnotherSeries() async throws {
        func reason(
            _ rule: CompletionPolicy.Rule, about series: String, declaring count: Int? = nil, without gap: Int? = nil
        ) async throws -> String {
            var instances = images(1...30, side: 64)
            for index in instances.indices {
                instances[index].record.image.acquisitionNumber = 2
                instances[index].record.series.imagesInAcquisition = count
            }
            if let gap { instances.remove(at: gap) }
            return try await StudyAnalyzer(tools: try tools()).analyse(
                AssembledStudy(
                    studyInstanceUID: study, instances: instances, origin: StudyOrigin(), decision: .complete(rule),
                    lastArrival: .now, decidedSeries: UID(series)),
                threshold: .init(name: "balanced", value: 0.5)
            ).reason
        }
        let (own, other) = ("1.2.3.4", "1.2.3.9")
        #expect(try await reason(.declared, about: own) == "no brain tissue")
        #expect(
            try await reason(.declared, about: other) == "no brain tissue; complete by the count of another series")
        #expect(try await reason(.held, about: other, declaring: 30) == "no brain tissue")
        #expect(
            try await reason(.grace, about: other, declaring: 40)
                == "no brain tissue; 30 of 40 images that the scanner declared")
        #expect(try await reason(.quiet, about: other, declaring: 40) == "no brain tissue")
        #expect(
            try await reason(.quiet, about: other, without: 14)
                == "no brain tissue; no slice at 75.0 mm along the normal")
        #expect(try await reason(.quiet, about: own, without: 14) == "no brain tissue")
    }

    /// Two patients, so that nothing is composed.
    @Test func aSeriesThatWasSettledAfterTheStudyWasAssembledKeepsItsPlace() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("pipeline-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let ledger = try SQLiteLedger(path: folder.appendingPathComponent("l.sqlite").path)
        let settled = images(1...30, side: 64)
        // Would be chosen, being the first.
        let later = images(1...30, side: 64, series: "1.2.3.3", patient: "P2")
        try await ledger.recordInstances(settled)
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 30, because: "a test")
        try await ledger.conclude(
            AnalysisEntry(
                studyInstanceUID: study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c",
                route: "default", startedAt: .now, completedAt: .now, outcome: .negative, reason: "", completion: "",
                studyProbability: nil, threshold: nil, flaggedSlices: 0, seriesInstanceUID: UID("1.2.3.4")),
            objects: [], deliveries: [])
        try await ledger.recordInstances(later)

        let logger = Logger(label: "test")
        let assembler = StudyAssembler(
            policy: .init(grace: .milliseconds(1)), ledger: ledger, clock: .system, logger: logger,
            evidence: { _, _ in SeriesEvidence() })
        // As it was before the analysis ended.
        await assembler.resume(study, instances: settled + later, settledSeries: nil, wasAssembled: true)
        let terms = StudyPipeline.Terms(
            rules: SelectionRules(),
            routes: RouteTable([Route(name: "default", destinations: [], threshold: "0.5")]),
            alerts: AlertDesk([], mostStudyAge: .seconds(86400)))
        let pipeline = StudyPipeline(
            tools: try tools(), assembler: assembler, ledger: ledger,
            composer: ReportComposer(
                program: WorkerProgram(path: "/bin/false", arguments: []), results: folder, installation: "test",
                stationName: "test", softwareVersion: "1", algorithm: .init(name: "m", version: "1", digest: "d"),
                logger: logger),
            terms: terms, findings: FindingFiles(results: folder, logger: logger))
        let running = [Task { try await assembler.run() }, Task { try await pipeline.run() }]
        defer { for each in running { each.cancel() } }
        // Patience for a busy machine.
        var looks = 0
        while try await ledger.history(ofStudy: study).analyses.count < 2, looks < 3000 {
            looks += 1
            try await Task.sleep(for: .milliseconds(10))
        }
        let detail = try #require(try await ledger.study(study))
        #expect(detail.analyses.last?.outcome == .undetermined)
        #expect(detail.series.map(\.seriesInstanceUID.string) == ["1.2.3.3", "1.2.3.4"])
        #expect(detail.series.map(\.verdict) == ["candidate", "chosen"])
    }
}

/// Images of air; their paths say of which size.
private struct Air: PlaneDecoder {
    func planes(of frames: [FrameLocation]) async throws -> [FrameLocation: DecodeClient.Outcome] {
        var outcomes: [FrameLocation: DecodeClient.Outcome] = [:]
        for frame in frames {
            guard let side = Int(frame.path.split(separator: "/")[1]) else {
                outcomes[frame] = .failed("a test")
                continue
            }
            let plane = DecodedPlane(
                path: frame.path, frame: 0, frameCount: 1, rows: side, columns: side, dataSetDigest: frame.path)
            outcomes[frame] = .plane(.init(plane: plane, hounsfield: Array(repeating: -1024, count: side * side)))
        }
        return outcomes
    }
}

/// Nothing that is air gets as far as `score`.
private struct NoFindings: InferenceEngine {
    func encode(planes: [Float], count: Int) async throws -> [EncodedPlane] {
        Array(repeating: EncodedPlane(embedding: [], logits: [], lesionMap: []), count: count)
    }

    func score(embeddings: [Float], logits: [Float], count: Int) async throws -> StudyScores {
        throw ModelError(.inference, "nothing to score")
    }
}
