import Foundation
import Testing
import WorkerProtocol

@testable import ICHModel

@Suite struct SliceGeometryTests {
    private func geometry(_ orientation: [Double], _ position: [Double]) throws -> SliceGeometry {
        try SliceGeometry(
            Records.make {
                $0.image.orientation = orientation
                $0.image.position = position
            }.image)
    }

    @Test func positionRunsAlongTheNormalOfATiltedGantry() throws {
        let tilted = [1, 0, 0, 0, 0.9483237, -0.3173047]
        let first = try geometry(tilted, [-125, -123.54, 5.836])
        let second = try geometry(tilted, [-125, -123.54, 10.056])
        #expect(abs(second.positionMillimetres - first.positionMillimetres - 4.0019) < 1e-3)
        #expect(abs(first.tiltDegrees - 18.5) < 0.01)
        #expect(first.isAxial)
    }

    @Test func normalPointsToTheHeadWhateverTheDirectionOfColumns() throws {
        #expect(try geometry([1, 0, 0, 0, -1, 0], [0, 0, 7]).positionMillimetres == 7)
        #expect(try geometry([1, 0, 0, 0, 1, 0], [0, 0, 7]).positionMillimetres == 7)
    }

    @Test(arguments: [[1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]]) func coronalAndSagittalAreNotAxial(
        orientation: [Double]
    ) throws {
        #expect(try geometry(orientation, [0, 0, 0]).isAxial == false)
    }

    @Test func refusesWhatCannotBePlaced() {
        let bad: [(inout ImageAttributes) -> Void] = [
            { $0.position = nil }, { $0.position = [1, 2] }, { $0.position = [0, 0, .nan] }, { $0.orientation = nil },
            { $0.orientation = [1, 0, 0, 1, 0, 0] }, { $0.pixelSpacing = [0, 0] }, { $0.pixelSpacing = nil },
            { $0.rows = 0 }, { $0.position = [0, 0, 5000.1] },
            { $0.columns = 5000 },
        ]
        for change in bad {
            var image = Records.make().image
            change(&image)
            #expect(throws: ModelError(.slice, "")) { try SliceGeometry(image) }
        }
    }

    @Test func planesClipToTheRangeAndRefuseAnotherSize() throws {
        let plane = try Plane(rows: 1, columns: 3, values: [-2000, 40, 30000])
        #expect(plane.values == [-1024, 40, 3071])
        #expect(throws: ModelError(.slice, "")) { try Plane(rows: 2, columns: 2, values: [1, 2, 3]) }
        #expect(try Plane(rows: 1, columns: 2, littleEndian: [0x28, 0x00, 0x18, 0xFC]).values == [40, -1000])
    }
}

@Suite struct SliceContiguityTests {
    private func positions(_ intervals: [Double], from start: Double = -30) -> [Double] {
        intervals.reduce(into: [start]) { $0.append($0[$0.count - 1] + $1) }
    }

    @Test func evenSpacingHasNoGap() {
        let result = SliceContiguity(positions: positions(Array(repeating: 5, count: 30)).shuffled())
        #expect(result.isContiguous)
        #expect(result.stretches.count == 1)
    }

    @Test func mixedSpacingOfAnOlderScannerHasNoGap() {
        let intervals = Array(repeating: 4.22, count: 13) + [1.14] + Array(repeating: 7.38, count: 13)
        let result = SliceContiguity(positions: positions(intervals))
        #expect(result.isContiguous)
        #expect(result.stretches.map(\.spacing).map { ($0 * 100).rounded() / 100 } == [4.22, 7.38])
    }

    @Test func oneMissingSliceIsAGap() {
        var all = positions(Array(repeating: 5, count: 20))
        all.remove(at: 10)
        let result = SliceContiguity(positions: all)
        #expect(result.missingPositions == [20])
        #expect(result.isContiguous == false)
    }

    @Test func missingSlicesAreCountedByTheLargestSpacingNextToThem() {
        let intervals = Array(repeating: 4.0, count: 5) + [24.0] + Array(repeating: 8.0, count: 5)
        let result = SliceContiguity(positions: positions(intervals, from: 0))
        #expect(result.missingPositions == [28, 36])
    }

    @Test func atOneAndAHalfSpacingsThereIsNoGapYet() {
        let edge = Array(repeating: 4.0, count: 5) + [6.0] + Array(repeating: 4.0, count: 5)
        #expect(SliceContiguity(positions: positions(edge)).gaps.isEmpty)
        let beyond = Array(repeating: 4.0, count: 5) + [6.1] + Array(repeating: 4.0, count: 5)
        #expect(SliceContiguity(positions: positions(beyond)).gaps.count == 1)
    }

    @Test func jitterWithinTenPercentIsOneStretch() {
        let result = SliceContiguity(positions: positions([0.62, 0.63, 0.62, 0.63, 0.63, 0.62]))
        #expect(result.stretches.count == 1)
        #expect(result.isContiguous)
    }

    @Test func equalPositionsAreReported() {
        let result = SliceContiguity(positions: [0, 5, 10, 10.001, 15, 20, 20, 20])
        #expect(result.duplicates == [10, 20])
        #expect(result.gaps.isEmpty)
    }

    @Test func aFewSlicesAreMeasuredByTheirMedian() {
        #expect(SliceContiguity(positions: []).isContiguous)
        #expect(SliceContiguity(positions: [3]).isContiguous)
        #expect(SliceContiguity(positions: [0, 5, 20]).missingPositions == [])
        #expect(SliceContiguity(positions: [0, 5, 10, 25]).missingPositions == [15, 20])
    }

    @Test func anOutlierMakesNoMillionsOfPositions() {
        let result = SliceContiguity(positions: (0..<200).map { Double($0) * 0.025 } + [5000])
        #expect(result.missingCount > 190_000)
        #expect(result.missingPositions.count == SliceContiguity.mostListed)
        #expect(SliceContiguity(positions: [0, 1, 2, 3, 4, 1e300]).missingCount == 999_999)
    }
}

@Suite struct SlabPlanTests {
    private func slices(_ positions: [Double]) throws -> [StudySlice] {
        try positions.enumerated().map { index, z in
            try StudySlice(
                Records.make(index: index) { $0.image.position = [0, 0, z] }, contentDigest: "d\(index)")
        }
    }

    @Test func thickSlicesAreTheirOwnSlabs() throws {
        let plan = SlabPlan(try slices([10, 0, 5]), grid: .init(spacing: 5, thickness: 5))
        #expect(plan.grid.slicesPerSlab == 1)
        #expect(plan.slabs.map(\.position) == [0, 5, 10])
    }

    @Test func gridIsAnchoredAtZeroAndTakesTheLowerEdge() throws {
        let plan = SlabPlan(try slices([-2.5, 0, 2.5, 5, 7.5]), grid: .init(spacing: 2.5, thickness: 5))
        #expect(plan.slabs.map(\.key) == [.cell(-1), .cell(0), .cell(1)])
        #expect(plan.slabs.map(\.members.count) == [1, 2, 2])
    }

    @Test func roundsTheNumberOfSlicesHalfAway() {
        #expect(SlabPlan.Grid(spacing: 2, thickness: 5).slicesPerSlab == 3)
        #expect(SlabPlan.Grid(spacing: 3.4, thickness: 5).slicesPerSlab == 1)
        #expect(SlabPlan.Grid(spacing: 40, thickness: 5).slicesPerSlab == 1)
        #expect(SlabPlan.Grid(spacing: nil, thickness: 5).slicesPerSlab == 1)
    }
}
