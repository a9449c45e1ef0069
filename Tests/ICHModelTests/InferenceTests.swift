import Foundation
import Testing
import WorkerProtocol

@testable import ICHModel

/// What `Training/reference/phantom.json` says: the same package run by the training side's code.
private struct Reference: Decodable {
    let formula: String
    let encoderSHA256: String
    let planes: Int
    let rows: Int
    let columns: Int
    let positions: [Double]
    let planeSums: [Int]
    let box: StudyBox
    let inputMean: [Double]
    let probes: [[Int]]
    let probeValues: [[Float]]
    let encoderLogits: [[Float]]
    let mapMaximum: [Float]
    let studyLogits: [Float]
    let sliceLogits: [Double]
    let attention: [Double]
    let studyProbability: Double
    let sliceProbabilities: [Double]

    enum CodingKeys: String, CodingKey {
        case formula, planes, rows, columns, attention
        case encoderSHA256 = "encoder_sha256"
        case positions = "positions_mm"
        case planeSums = "plane_sums_hu"
        case box = "study_box"
        case inputMean = "input_mean_hu"
        case probes = "input_probes_row_column"
        case probeValues = "input_probe_hu"
        case encoderLogits = "encoder_logits"
        case mapMaximum = "lesion_map_maximum"
        case studyLogits = "study_logits"
        case sliceLogits = "slice_logits"
        case studyProbability = "study_probability"
        case sliceProbabilities = "slice_probabilities"
    }
}

/// Keeps what the encoder was given and what it answered.
private actor RecordingEngine: InferenceEngine {
    let engine: any InferenceEngine
    private(set) var inputs: [[Float]] = []
    private(set) var answers: [EncodedPlane] = []
    private(set) var scores: StudyScores?

    init(_ engine: any InferenceEngine) { self.engine = engine }

    func encode(planes: [Float], count: Int) async throws -> [EncodedPlane] {
        let length = planes.count / count
        let encoded = try await engine.encode(planes: planes, count: count)
        for index in 0..<count { inputs.append(Array(planes[(index * length)..<((index + 1) * length)])) }
        answers += encoded
        return encoded
    }

    func score(embeddings: [Float], logits: [Float], count: Int) async throws -> StudyScores {
        let scores = try await engine.score(embeddings: embeddings, logits: logits, count: count)
        self.scores = scores
        return scores
    }
}

@Suite(.enabled(if: Places.shippedModel != nil, "no package in Models")) struct ShippedModelTests {
    private func package() throws -> ModelPackage { try ModelPackage(directory: try #require(Places.shippedModel)) }

    @Test(.enabled(if: FileManager.default.fileExists(atPath: Places.reference), "no Training/reference/phantom.json"))
    func agreesWithTheTrainingSideOnThePhantom() async throws {
        let json = try Data(contentsOf: URL(fileURLWithPath: Places.reference))
        let reference = try JSONDecoder().decode(Reference.self, from: json)
        let package = try package()
        try #require(
            reference.encoderSHA256 == package.encoder.sha256, "write the reference again: it is of another package")
        let slices = try SelfTestPhantom.slices()
        #expect(reference.formula == SelfTestPhantom.formula)
        #expect(slices.allSatisfy { $0.plane.rows == reference.rows && $0.plane.columns == reference.columns })
        #expect(slices.map(\.slice.position) == reference.positions)
        #expect(slices.map { $0.plane.values.reduce(0) { $0 + Int($1) } } == reference.planeSums)

        let engine = RecordingEngine(try OpenVINOEngine(package: package, threads: 2))
        let encoder = StudyEncoder(package: package, engine: engine) { _ in [:] }
        for (slice, plane) in slices { try await encoder.add(slice, plane: plane) }
        let outcome = try await encoder.finish(threshold: try package.threshold(named: "balanced"))
        guard case .finding(let finding) = outcome else {
            Issue.record("no finding: \(outcome)")
            return
        }
        #expect(finding.box == reference.box)
        await compare(engine, reference)
        #expect(abs(finding.probability - reference.studyProbability) < 1e-3)
        for (slice, index) in zip(finding.slices, reference.sliceLogits.indices) {
            #expect(abs(slice.logit - reference.sliceLogits[index]) < 1e-2)
            #expect(abs(slice.probability - reference.sliceProbabilities[index]) < 1e-3)
            #expect(abs(slice.attention - reference.attention[index]) < 1e-3)
        }
    }

    private func compare(_ engine: RecordingEngine, _ reference: Reference) async {
        let (inputs, answers) = await (engine.inputs, engine.answers)
        #expect(inputs.count == reference.inputMean.count)
        for (index, input) in inputs.enumerated() {
            let side = Int(Double(input.count).squareRoot())
            let mean = input.reduce(0.0) { $0 + Double($1) } / Double(input.count)
            #expect(abs(mean - reference.inputMean[index]) < 0.01)
            for (probe, wanted) in zip(reference.probes, reference.probeValues[index]) {
                #expect(abs(input[probe[0] * side + probe[1]] - wanted) < 0.01)
            }
            for (logit, wanted) in zip(answers[index].logits, reference.encoderLogits[index]) {
                #expect(abs(logit - wanted) < 1e-2)
            }
            #expect(abs((answers[index].lesionMap.max() ?? 0) - reference.mapMaximum[index]) < 1e-2)
        }
        let scores = await engine.scores
        for (logit, wanted) in zip(scores?.studyLogits ?? [], reference.studyLogits) {
            #expect(abs(logit - wanted) < 1e-2)
        }
    }

    @Test func refusesInputsOfAnotherSize() async throws {
        let engine = try OpenVINOEngine(package: try package(), threads: 1)
        await #expect(throws: ModelError(.inference, "")) { try await engine.encode(planes: [1, 2, 3], count: 1) }
        await #expect(throws: ModelError(.inference, "")) { try await engine.encode(planes: [], count: 0) }
        await #expect(throws: ModelError(.inference, "")) {
            try await engine.score(embeddings: [], logits: [], count: 1)
        }
    }

    @Test func aPlaneIsEncodedTheSameInAnyBatch() async throws {
        let package = try package()
        let engine = try OpenVINOEngine(package: package, threads: 2)
        let size = package.inputSize * package.inputSize
        let planes = (0..<(8 * size)).map { index in Float((index * 31) % 977 % 140 - 40) }
        let together = try await engine.encode(planes: planes, count: 8)
        let alone = try await engine.encode(planes: Array(planes[(3 * size)..<(4 * size)]), count: 1)
        let difference = zip(together[3].logits, alone[0].logits).map { abs($0 - $1) }.max() ?? 0
        #expect(difference < 1e-4)
    }
}

@Suite(
    .enabled(if: Places.shippedModel != nil && Places.executable != nil, "needs a package in Models and ichnode infer"),
    .serialized
) struct InferenceChildTests {
    private func child(_ deadlines: InferenceChild.Deadlines = .init()) throws -> (InferenceChild, ModelPackage) {
        let package = try ModelPackage(directory: try #require(Places.shippedModel))
        let executable = try #require(Places.executable)
        return (InferenceChild(package: package, executable: executable, threads: 2, deadlines: deadlines), package)
    }

    private func planes(_ package: ModelPackage, count: Int) -> [Float] {
        (0..<(count * package.inputSize * package.inputSize)).map { Float($0 % 140 - 40) }
    }

    @Test func answersAsTheEngineInThisProcessDoes() async throws {
        let (child, package) = try child()
        let input = planes(package, count: 2)
        let encoded = try await child.encode(planes: input, count: 2)
        let own = try OpenVINOEngine(package: package, threads: 2)
        #expect(encoded == (try await own.encode(planes: input, count: 2)))
        let (embeddings, logits) = (encoded.flatMap(\.embedding), encoded.flatMap(\.logits))
        let scores = try await child.score(embeddings: embeddings, logits: logits, count: 2)
        #expect(scores == (try await own.score(embeddings: embeddings, logits: logits, count: 2)))
        #expect(await child.restartCount == 0)
        await child.stop()
    }

    @Test func startsAnotherAfterItWasKilled() async throws {
        let (child, package) = try child()
        let input = planes(package, count: 1)
        let first = try await child.encode(planes: input, count: 1)
        kill(try #require(await child.processID), SIGKILL)
        #expect(try await child.encode(planes: input, count: 1) == first)
        #expect(await child.restartCount == 1)
        await child.stop()
    }

    @Test func aRequestInFlightIsTriedOnceMore() async throws {
        let (child, package) = try child()
        let input = planes(package, count: 64)
        try await child.prepare()
        let process = try #require(await child.processID)
        async let encoded = child.encode(planes: input, count: 64)
        try await Task.sleep(for: .milliseconds(100))
        kill(process, SIGKILL)
        #expect(try await encoded.count == 64)
        #expect(await child.restartCount == 1)
        await child.stop()
    }

    @Test func aChildThatDoesNotAnswerIsKilled() async throws {
        let (child, package) = try child(.init(encode: .milliseconds(300)))
        try await child.prepare()
        let process = try #require(await child.processID)
        kill(process, SIGSTOP)
        await #expect(throws: WorkerError(.deadline, "")) {
            try await child.encode(planes: planes(package, count: 1), count: 1)
        }
        #expect(kill(process, 0) != 0)
        #expect(await child.processID == nil)
        await child.stop()
    }

    @Test func callsFromManyTasksAreAnsweredOneByOne() async throws {
        let (child, package) = try child()
        let input = planes(package, count: 1)
        let answers = try await withThrowingTaskGroup(of: [EncodedPlane].self) { group in
            for _ in 0..<6 { group.addTask { try await child.encode(planes: input, count: 1) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(answers.allSatisfy { $0 == answers[0] })
        await child.stop()
    }

    @Test(arguments: [
        (TinyNetworks(logitWeight: .nan), "a number that is not finite"),
        (TinyNetworks(doublesSliceLogits: true), "more elements than expected"),
    ]) func wrongAnswersOfTheChildAreSaid(networks: TinyNetworks, expected: String) async throws {
        let (folder, package) = try networks.package()
        let child = InferenceChild(package: package, executable: try #require(Places.executable), threads: 1)
        let error = await #expect(throws: ModelError.self) { try await SelfTest.run(package, child) }
        #expect(error?.reason.contains(expected) == true, "\(error?.reason ?? "")")
        await child.stop()
        withExtendedLifetime(folder) {}
    }

    @Test func wrongShapesOfBothNetworksComeFromTheChild() async throws {
        let (folder, package) = try TinyNetworks(embedding: 5).package { $0["embedding_size"] = 7 }
        let child = InferenceChild(package: package, executable: try #require(Places.executable), threads: 1)
        let error = await #expect(throws: ModelError.self) { try await child.prepare() }
        #expect(error?.reason.contains("encoder.bin: embedding is [-1, 5]") == true)
        #expect(error?.reason.contains("head.bin: embedding is [1, -1, 5]") == true)
        await child.stop()
        withExtendedLifetime(folder) {}
    }

    /// Of the same sizes, which alone would not show it.
    @Test func aPackageThatWasChangedUnderTheNodeIsNotAnalysedWith() async throws {
        let (folder, package) = try TinyNetworks().package()
        let child = InferenceChild(package: package, executable: try #require(Places.executable), threads: 1)
        try await child.prepare()
        await child.stop()
        try TinyNetworks(logitWeight: 2e-4).write(to: folder)
        let error = await #expect(throws: ModelError.self) { try await child.prepare() }
        #expect(error?.reason.contains("restart the node") == true, "\(error?.reason ?? "")")
        #expect(await child.processID == nil)
        try TinyNetworks().write(to: folder)
        try await child.prepare()
        await child.stop()
        withExtendedLifetime(folder) {}
    }

    @Test func anImpossiblePackageIsSaidClearly() async throws {
        let folder = try TemporaryFolder()
        try FakePackage.write(to: folder)
        let package = try ModelPackage(directory: folder.path)
        let child = InferenceChild(package: package, executable: try #require(Places.executable), threads: 1)
        await #expect(throws: ModelError(.package, "")) { try await child.prepare() }
        await child.stop()
    }
}
