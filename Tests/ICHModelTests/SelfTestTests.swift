import Foundation
import Testing
import WorkerProtocol

@testable import ICHModel

/// Packages with real networks, whole and faulty.
@Suite struct SelfTestTests {
    private func engine(_ package: ModelPackage) throws -> OpenVINOEngine {
        try OpenVINOEngine(package: package, threads: 1)
    }

    private func section(_ test: SelfTest) -> [String: Any] {
        [
            "formula": test.formula, "study_logits": test.studyLogits, "slice_logits": test.sliceLogits,
            "study_probability": test.studyProbability, "slice_probabilities": test.sliceProbabilities,
        ]
    }

    private func refusal(_ networks: TinyNetworks, change: (inout [String: Any]) -> Void = { _ in }) throws -> String {
        let (folder, package) = try networks.package(change: change)
        return try withExtendedLifetime(folder) {
            let error = #expect(throws: ModelError.self) { try engine(package) }
            #expect(error?.code == .package)
            return try #require(error).reason
        }
    }

    // MARK: Self-test

    @Test func aPackageAgreesWithItself() async throws {
        let networks = TinyNetworks()
        let (plainFolder, plain) = try networks.package()
        #expect(plain.selfTest == nil)
        let found = try await SelfTest.run(plain, try engine(plain))
        #expect(found.studyLogits.count == 2)
        #expect(found.sliceLogits.count == 6)
        #expect(Set(found.sliceLogits).count > 1)
        #expect(abs(found.studyProbability - 1 / (1 + exp(-found.studyLogits[0]))) < 1e-9)
        let (folder, package) = try networks.package { $0["self_test"] = section(found) }
        let stored = try #require(package.selfTest)
        #expect(stored.differences(from: try await SelfTest.run(package, try engine(package))).isEmpty)
        withExtendedLifetime((plainFolder, folder)) {}
    }

    private let wanted = SelfTest(
        formula: SelfTestPhantom.formula, studyLogits: [1, 2], sliceLogits: [0, 1], studyProbability: 0.7,
        sliceProbabilities: [0.5, 0.6])

    private func differing(
        formula: String = SelfTestPhantom.formula, study: [Double] = [1, 2], slices: [Double] = [0, 1],
        probability: Double = 0.7
    ) -> [String] {
        wanted.differences(
            from: SelfTest(
                formula: formula, studyLogits: study, sliceLogits: slices, studyProbability: probability,
                sliceProbabilities: [0.5, 0.6]))
    }

    @Test func differencesAreSaidWithTheirSize() {
        #expect(differing(study: [1, 2.0099], probability: 0.7009).isEmpty)
        #expect(
            differing(study: [1, 2.0101]) == ["self-test differs by 0.0101 in study logits, at most 0.01 is allowed"])
        #expect(differing(slices: [0, 0.5]) == ["self-test differs by 0.5 in slice logits, at most 0.01 is allowed"])
        #expect(differing(probability: 0.7011).count == 1)
        #expect(differing(slices: [0]) == ["self-test has 1 slice logits where the package says 2"])
        #expect(differing(study: [1, .nan]).count == 1)
        #expect(differing(study: [5, 5], probability: 0.1).count == 2)
        #expect(differing(formula: "a cube").first?.contains("another phantom") == true)
        #expect(differing(formula: SelfTestPhantom.formula.replacingOccurrences(of: ". ", with: ".\n ")).isEmpty)
    }

    @Test func aSelfTestThatDoesNotFitThePackageIsRefused() throws {
        var stored = section(wanted)
        stored["study_logits"] = [1.0]
        let short = #expect(throws: ModelError.self) { try FakePackage.load { $0["self_test"] = stored } }
        #expect(short?.reason.contains("self_test.study_logits") == true)
        stored["study_logits"] = "many"
        let words = #expect(throws: ModelError.self) { try FakePackage.load { $0["self_test"] = stored } }
        #expect(words?.reason.contains("self_test.study_logits") == true)
    }

    // MARK: Networks of other sizes and stores

    @Test func weightsInHalfPrecisionAndAWideEmbeddingAnswerTheSame() async throws {
        let networks = TinyNetworks(embedding: 6720)
        let (folder, package) = try networks.package()
        var halved = networks
        halved.halfPrecision = true
        let (halfFolder, half) = try halved.package()
        let (first, second) = (
            try await SelfTest.run(package, try engine(package)), try await SelfTest.run(half, try engine(half))
        )
        #expect(half.embeddingSize == 6720)
        let largest = zip(first.sliceLogits, second.sliceLogits).map { abs($0 - $1) }.max() ?? 1
        // Half precision keeps 11 bits of 1e-4: the sums are of the order of 100.
        #expect(largest < 0.01 * (first.sliceLogits.map(abs).max() ?? 0))
        withExtendedLifetime((folder, halfFolder)) {}
    }

    @Test func everyWrongShapeOfBothNetworksIsNamed() throws {
        let reason = try refusal(TinyNetworks(embedding: 5)) {
            $0["embedding_size"] = 7
            $0["map_size"] = 8
        }
        #expect(reason.contains("encoder.bin: embedding is [-1, 5], model.json says [-1, 7]"))
        #expect(reason.contains("lesion_map is [-1, 4, 4], model.json says [-1, 8, 8]"))
        #expect(reason.contains("head.bin: embedding is [1, -1, 5], model.json says [1, -1, 7]"))
    }

    @Test func anInputOfAnotherSizeIsNamed() throws {
        let reason = try refusal(TinyNetworks()) { $0["input_size"] = 64 }
        #expect(reason.contains("hounsfield is [-1, 1, 32, 32], model.json says [-1, 1, 64, 64]"))
        #expect(!reason.contains("head.bin"))
    }

    @Test func swappedNetworksAreNamed() throws {
        let reason = try refusal(TinyNetworks()) { ($0["encoder"], $0["head"]) = ($0["head"], $0["encoder"]) }
        #expect(reason.contains("inputs, not"))
    }

    // MARK: Wrong answers

    @Test func notANumberIsRefused() async throws {
        let (folder, package) = try TinyNetworks(logitWeight: .nan).package()
        await #expect(throws: ModelError(.notFinite, "")) { try await SelfTest.run(package, try engine(package)) }
        withExtendedLifetime(folder) {}
    }

    @Test func twoLogitsForEachSliceAreRefused() async throws {
        let (folder, package) = try TinyNetworks(doublesSliceLogits: true).package()
        let engine = try engine(package)
        let error = await #expect(throws: ModelError.self) { try await SelfTest.run(package, engine) }
        #expect(error?.code == .inference)
        #expect(error?.reason.contains("more elements than expected") == true)
        withExtendedLifetime(folder) {}
    }

    @Test func answersOfAnotherSizeThanThePackageSaysAreRefused() throws {
        let sizes = ModelSizes(try FakePackage.load())
        let whole = [Float](repeating: 1, count: 2 * sizes.floatsPerPlane)
        #expect(try sizes.split(whole, count: 2).count == 2)
        #expect(throws: ModelError(.inference, "")) { try sizes.split(Array(whole.dropLast()), count: 2) }
        #expect(throws: ModelError(.notFinite, "")) { try sizes.split(whole.dropLast() + [.infinity], count: 2) }
        let good = StudyScores(studyLogits: [0, 1], attention: [1], sliceLogits: [0])
        try sizes.check(good, count: 1)
        #expect(throws: ModelError(.inference, "")) { try sizes.check(good, count: 2) }
        #expect(throws: ModelError(.inference, "")) {
            try sizes.check(.init(studyLogits: [0], attention: [1], sliceLogits: [0]), count: 1)
        }
        #expect(throws: ModelError(.notFinite, "")) {
            try sizes.check(.init(studyLogits: [0, .nan], attention: [1], sliceLogits: [0]), count: 1)
        }
    }

    // MARK: Files

    @Test func everyFaultyFileIsNamed() throws {
        let folder = try TemporaryFolder()
        try FakePackage.write(to: folder)
        #expect(ModelPackage.faults(inDirectory: folder.path).isEmpty)
        try folder.write("changed", to: "encoder.onnx")
        try FileManager.default.removeItem(atPath: folder.path + "/head.onnx")
        let faults = ModelPackage.faults(inDirectory: folder.path)
        #expect(faults.count == 2)
        #expect(faults.first?.reason.contains("encoder.onnx is not the file that model.json names") == true)
        #expect(faults.last?.reason.contains("cannot read") == true)
        try folder.write("[]", to: "model.json")
        #expect(ModelPackage.faults(inDirectory: folder.path).count == 1)
        try FileManager.default.removeItem(atPath: folder.path + "/model.json")
        #expect(ModelPackage.faults(inDirectory: folder.path).first?.reason.contains("cannot read") == true)
    }
}
