import AlertDispatcher
import Foundation
import Ledger
import Logging
import Testing
import WorkerProtocol

@testable import ICHModel
@testable import StoreSCP
@testable import ichnode

/// What is analysed does not depend on what was encoded ahead.
@Suite struct StudyAnalyzerTests {
    private let study = UID("1.2.3")!

    /// Axial images of one series, 5 mm apart.
    private func images(_ numbers: ClosedRange<Int>, side: Int) -> [StoredInstance] {
        numbers.map { number in
            var record = InstanceRecord(
                sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.4.\(side).\(number)")!,
                studyInstanceUID: study, seriesInstanceUID: UID("1.2.3.4")!,
                transferSyntaxUID: UID("1.2.840.10008.1.2.1")!)
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
            return StoredInstance(record: record, path: "/spool/\(side)/\(number)", receivedAt: .now)
        }
    }

    /// - Returns: the sides of the images that were analysed.
    private func analyse(_ batches: [[StoredInstance]], ahead: Int) async throws -> [Int] {
        let model = try #require(
            try FileManager.default.contentsOfDirectory(atPath: Repository.file("Models")).sorted().first)
        let analyzer = StudyAnalyzer(
            tools: .init(
                package: try ModelPackage(directory: Repository.file("Models/\(model)")), engine: NoFindings(),
                decoder: Air(), clock: .system, logger: Logger(label: "test")))
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
}

/// Images of air; their paths say of which size.
private struct Air: PlaneDecoder {
    func planes(of frames: [FrameLocation]) async throws -> [FrameLocation: DecodeClient.Outcome] {
        var outcomes: [FrameLocation: DecodeClient.Outcome] = [:]
        for frame in frames {
            let side = try #require(Int(frame.path.split(separator: "/")[1]))
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
