import Foundation
import Testing
import WorkerProtocol

@testable import ICHModel

@Suite struct StudyEncoderTests {
    private let package: ModelPackage
    private let threshold = ModelPackage.Threshold(name: "balanced", value: 0.5)

    init() throws { package = try FakePackage.load() }

    private func finding(_ outcome: StudyEncoder.Outcome) throws -> Finding {
        guard case .finding(let finding) = outcome else {
            Issue.record("no finding: \(outcome)")
            throw ModelError(.inference, "no finding")
        }
        return finding
    }

    private func analyse(
        _ head: SyntheticHead, order: [Int], encodeEvery: Int = .max, settleAt: Int? = nil
    ) async throws -> Finding {
        let encoder = try head.encoder(package, FakeEngine())
        let slices = try head.slices()
        for (step, index) in order.enumerated() {
            try await encoder.add(slices[index].0, plane: slices[index].1)
            if step % encodeEvery == encodeEvery - 1 { try await encoder.encodePending() }
            if step == settleAt { try await encoder.settle() }
        }
        return try finding(try await encoder.finish(threshold: threshold))
    }

    @Test(arguments: [5.0, 2.5, 1.25, 0.7]) func orderOfArrivalDoesNotMatter(spacing: Double) async throws {
        var head = SyntheticHead()
        head.spacing = spacing
        head.count = Int(150 / spacing)
        let straight = try await analyse(head, order: Array(0..<head.count))
        var generator = SplitMix(state: 7)
        for round in 0..<3 {
            let order = Array(0..<head.count).shuffled(using: &generator)
            let shuffled = try await analyse(head, order: order, encodeEvery: 3 + round, settleAt: 10 * round)
            #expect(shuffled == straight)
        }
        let backwards = try await analyse(head, order: (0..<head.count).reversed(), encodeEvery: 1)
        #expect(backwards == straight)
    }

    @Test func wrongSpacingInTheHeaderIsMendedFromThePositions() async throws {
        let head = SyntheticHead(spacing: 2.5, count: 60)
        let straight = try await analyse(head, order: Array(0..<60))
        #expect(straight.slicesPerSlab == 2)
        let encoder = try head.encoder(package, FakeEngine())
        for index in 0..<60 {
            var record = try head.record(at: index)
            record.image.spacingBetweenSlices = 5
            record.image.sliceThickness = 5
            try await encoder.add(try StudySlice(record, contentDigest: "d\(index)"), plane: try head.plane(at: index))
            if index % 4 == 3 { try await encoder.encodePending() }
        }
        #expect(try finding(try await encoder.finish(threshold: threshold)) == straight)
    }

    @Test func anEndWithinTheBrainIsSaid() async throws {
        let head = SyntheticHead()
        let whole = try await analyse(head, order: Array(0..<30))
        #expect(whole.endsWithinBrain.isEmpty)
        #expect(try await analyse(head, order: Array(8..<30)).endsWithinBrain == [.lower])
        let cut = try await analyse(head, order: Array(0..<24))
        #expect(cut.endsWithinBrain == [.upper])
    }

    @Test func mostIsEncodedBeforeTheEndOnceSettled() async throws {
        let head = SyntheticHead()
        let engine = FakeEngine()
        let encoder = try head.encoder(package, engine)
        for (slice, plane) in try head.slices() {
            try await encoder.add(slice, plane: plane)
            try await encoder.encodePending()
        }
        try await encoder.settle()
        #expect(await encoder.progress == .init(slices: 30, slabs: 30, encodedSlabs: 30))
        _ = try await encoder.finish(threshold: threshold)
        let calls = await encoder.calls
        #expect(calls.contains { $0.phase == .completion } == false)
        #expect(calls.allSatisfy { $0.planeCount <= 8 })
        #expect(await engine.planeCount == calls.reduce(0) { $0 + $1.planeCount })
    }

    @Test func theSameSliceAgainChangesNothing() async throws {
        let head = SyntheticHead()
        let encoder = try head.encoder(package, FakeEngine())
        let slices = try head.slices()
        for (slice, plane) in slices { try await encoder.add(slice, plane: plane) }
        #expect(try await encoder.add(slices[4].0, plane: slices[4].1) == .unchanged)
        #expect(await encoder.progress.slices == 30)
    }

    @Test(arguments: [5.0, 2.5]) func aReplacedSliceEncodesOnlyItsSlabAgain(spacing: Double) async throws {
        let head = SyntheticHead(spacing: spacing, count: Int(150 / spacing))
        let engine = FakeEngine()
        let original = try head.slices()
        let changedIndex = original.count / 2
        let changed = StudySlice(
            sopInstanceUID: original[changedIndex].0.sopInstanceUID, contentDigest: "other",
            geometry: original[changedIndex].0.geometry)
        var values = original[changedIndex].1.values
        values[48 * 80 + 40] = 70
        let plane = try Plane(rows: 96, columns: 80, values: values)
        let planes = Dictionary(uniqueKeysWithValues: original.map { ($0.0.sopInstanceUID, $0.1) })
        let encoder = StudyEncoder(package: package, engine: engine) { uids in
            var found: [UID: Plane] = [:]
            for uid in uids { found[uid] = uid == changed.sopInstanceUID ? plane : planes[uid] }
            return found
        }
        for (slice, plane) in original { try await encoder.add(slice, plane: plane) }
        let before = try finding(try await encoder.finish(threshold: threshold))
        let encoded = await engine.planeCount
        #expect(try await encoder.add(changed, plane: plane) == .replaced)
        let after = try finding(try await encoder.finish(threshold: threshold))
        #expect(await engine.planeCount == encoded + 1)
        #expect(before.slices.count == after.slices.count)
        #expect(zip(before.slices, after.slices).count { $0.logit != $1.logit } == 1)
    }

    @Test func aPlaneThatCannotBeSuppliedAgainIsAnError() async throws {
        let head = SyntheticHead(spacing: 2.5, count: 60)
        let encoder = StudyEncoder(package: package, engine: FakeEngine()) { _ in [:] }
        let slices = try head.slices()
        for (slice, plane) in slices { try await encoder.add(slice, plane: plane) }
        await encoder.remove(sopInstanceUID: slices[20].0.sopInstanceUID)
        await #expect(throws: ModelError(.missingPlane, "")) { try await encoder.finish(threshold: threshold) }
    }

    @Test func refusesAnotherSizeAndMoreThanTheLimits() async throws {
        let head = SyntheticHead()
        let encoder = StudyEncoder(package: package, engine: FakeEngine(), limits: .init(slices: 3)) { _ in [:] }
        let slices = try head.slices()
        for (slice, plane) in slices.prefix(3) { try await encoder.add(slice, plane: plane) }
        await #expect(throws: ModelError(.limit, "")) { try await encoder.add(slices[3].0, plane: slices[3].1) }
        let small = try Plane(rows: 2, columns: 2, values: [0, 0, 0, 0])
        await #expect(throws: ModelError(.slice, "")) { try await encoder.add(slices[1].0.changed(), plane: small) }
        let narrow = StudyEncoder(package: package, engine: FakeEngine(), limits: .init(pixelBytes: 50_000)) { _ in [:]
        }
        try await narrow.add(slices[0].0, plane: slices[0].1)
        try await narrow.add(slices[1].0, plane: slices[1].1)
        await #expect(throws: ModelError(.limit, "")) { try await narrow.add(slices[2].0, plane: slices[2].1) }
    }

    @Test func takesAsManySlabsAsTheLimitAndNoMore() async throws {
        let head = SyntheticHead(spacing: 2.5, count: 60)
        let slices = try head.slices()
        let encoder = StudyEncoder(package: package, engine: FakeEngine(), limits: .init(slabs: 3)) { _ in [:] }
        for (slice, plane) in slices.prefix(6) { try await encoder.add(slice, plane: plane) }
        await #expect(throws: ModelError(.limit, "")) { try await encoder.add(slices[6].0, plane: slices[6].1) }
        #expect(await encoder.progress == .init(slices: 6, slabs: 3, encodedSlabs: 0))
    }

    @Test func withoutBrainThereIsNoFinding() async throws {
        var head = SyntheticHead()
        head.brain = 100
        let encoder = try head.encoder(package, FakeEngine())
        for (slice, plane) in try head.slices() { try await encoder.add(slice, plane: plane) }
        guard case .noBrainTissue(let check) = try await encoder.finish(threshold: threshold) else {
            Issue.record("a phantom was analysed")
            return
        }
        #expect(check.brainMillilitres == 0)
    }

    @Test func aLogitThatIsNoNumberGivesNoFinding() async throws {
        let head = SyntheticHead()
        let encoder = try head.encoder(package, FakeEngine(logitOffset: .nan))
        for (slice, plane) in try head.slices() { try await encoder.add(slice, plane: plane) }
        await #expect(throws: ModelError(.notFinite, "")) { try await encoder.finish(threshold: threshold) }
    }

    @Test func withoutSlicesItThrows() async throws {
        let encoder = StudyEncoder(package: package, engine: FakeEngine()) { _ in [:] }
        await #expect(throws: ModelError(.slice, "")) { try await encoder.finish(threshold: threshold) }
    }
}

@Suite struct FindingTests {
    private func finding(offset: Float, _ change: (inout [String: Any]) -> Void = { _ in }) async throws -> Finding? {
        let head = SyntheticHead()
        let package = try FakePackage.load(change: change)
        let encoder = try head.encoder(package, FakeEngine(logitOffset: offset))
        for (slice, plane) in try head.slices() { try await encoder.add(slice, plane: plane) }
        let outcome = try await encoder.finish(threshold: try package.threshold(named: "balanced"))
        guard case .finding(let finding) = outcome else { return nil }
        return finding
    }

    @Test func aNegativeStudyFlagsNothing() async throws {
        let finding = try #require(try await finding(offset: -1000))
        #expect(finding.isPositive == false)
        #expect(finding.flaggedSlices.isEmpty)
        #expect(finding.slices.allSatisfy { $0.lesionMap == nil })
    }

    @Test func aPositiveStudyFlagsSlicesWithMaps() async throws {
        let finding = try #require(try await finding(offset: 1000))
        #expect(finding.isPositive)
        #expect(finding.flaggedSlices.count == 30)
        let map = try #require(finding.slices[0].lesionMap)
        #expect(map.count == 16)
        #expect(map.allSatisfy { (0...1).contains($0) })
        #expect(finding.slices.allSatisfy { $0.instances == [$0.representative] })
        #expect(finding.slices.map(\.positionMillimetres) == finding.slices.map(\.positionMillimetres).sorted())
    }

    @Test func aPositiveStudyWithoutASliceAboveTheThresholdFlagsTheHighest() async throws {
        let finding = try #require(
            try await finding(offset: 1000) {
                $0["calibration"] = ["study": ["a": 1, "b": 0], "slice": ["a": 1, "b": -1e6]]
            })
        #expect(finding.flaggedSlices.count == 1)
        #expect(finding.flaggedSlices[0].logit == finding.slices.map(\.logit).max())
    }

    @Test func survivesCoding() async throws {
        let finding = try #require(try await finding(offset: 1000))
        let json = try JSONEncoder().encode(finding)
        #expect(try JSONDecoder().decode(Finding.self, from: json) == finding)
    }

    @Test func heatmapsFillTheBoxAndNothingElse() throws {
        let geometry = HeatmapGeometry(box: StudyBox(x: 2, y: -1, size: 4), mapSize: 2, rows: 4, columns: 8)
        let image = try geometry.upsample([0.2, 0.4, 0.6, 0.8])
        #expect(image[0] == 0)
        #expect(image[1 * 8 + 6] == 0)
        #expect(image[3 * 8 + 3] == 0)
        #expect(image[2 * 8 + 2] == 0.6)
        #expect(image[2 * 8 + 5] == 0.8)
        // Row 0 is the second of the box: a quarter of the way from the first map row to the second.
        #expect(abs(image[0 * 8 + 2] - 0.3) < 1e-6)
        #expect(throws: ModelError(.inference, "")) { try geometry.upsample([1]) }
    }
}

extension StudySlice {
    func changed() -> StudySlice {
        StudySlice(sopInstanceUID: sopInstanceUID, contentDigest: contentDigest + "'", geometry: geometry)
    }
}

/// The same order in every run.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
