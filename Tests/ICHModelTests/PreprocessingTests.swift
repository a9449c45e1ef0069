import Testing

@testable import ICHModel

/// Expected numbers are from torch 2.15 (`interpolate`, bilinear, antialias) and numpy 2.4 (`percentile`).
@Suite struct PreprocessingTests {
    private func pattern(_ size: Int) -> [Float] {
        (0..<(size * size)).map { index in
            let (row, column) = (index / size, index % size)
            return Float((row * 7 + column * 13 + row * column) % 29 * 10 - 100)
        }
    }

    private func resize(_ size: Int, to output: Int) -> [Float] {
        TriangleResize(from: size, to: output)
            .resize(pattern(size), rows: size, columns: size, box: StudyBox(x: 0, y: 0, size: size))
    }

    @Test func resizesDownAsTorchDoes() {
        let expected: [Float] = [
            -32.2222, 77.037, 50.9091, 43.3333, 34.4444, 3.7037, 2.5926, 0.303, 4.1975, 6.6667, 66.6667, 39.596,
            43.5537,
            82.9293, -11.5151, 86.6666, 31.358, 19.697, 59.1358, 93.3333, 4.4444, 50.0, 4.2424, 20.0, 65.5556,
        ]
        for (value, wanted) in zip(resize(7, to: 5), expected) { #expect(abs(value - wanted) < 1e-3) }
        let coarse: [Float] = [
            24.1671, 27.0952, 5.6952, 22.5618, 38.9302, 39.6882, 25.6902, 24.1286, 40.746, 37.3044, 29.8328, 46.119,
            43.4009, 49.6508, 50.9571, 50.3004,
        ]
        for (value, wanted) in zip(resize(13, to: 4), coarse) { #expect(abs(value - wanted) < 1e-3) }
    }

    @Test func resizesUpAsTorchDoes() {
        let expected: [Float] = [
            -100.0, -43.125, 38.125, 119.375, 110.0, 10.0, 73.125, 130.0, -69.375, -10.5859, 65.4688, 70.1562, 63.5156,
            45.5469, 47.9688, 51.25,
        ]
        for (value, wanted) in zip(resize(5, to: 8), expected) { #expect(abs(value - wanted) < 1e-3) }
    }

    @Test func resizesAHeadSizedCropAsTorchDoes() {
        let result = resize(300, to: 192)
        let places: [(Int, Int, Float)] = [
            (0, 0, -19.0117), (191, 191, -19.0117), (3, 100, 1.8905), (96, 96, 65.0784), (150, 7, 41.0633),
        ]
        for (row, column, wanted) in places { #expect(abs(result[row * 192 + column] - wanted) < 5e-3) }
        let mean = result.reduce(0.0) { $0 + Double($1) } / Double(result.count)
        #expect(abs(mean - 43.493757) < 1e-3)
    }

    @Test func takesAirOutsideTheImage() {
        let values = [Float](repeating: 50, count: 16)
        let result = TriangleResize(from: 8, to: 8)
            .resize(values, rows: 4, columns: 4, box: StudyBox(x: -2, y: -2, size: 8))
        #expect(result[0] == -1024)
        #expect(result[2 * 8 + 2] == 50)
        #expect(result[5 * 8 + 5] == 50)
        #expect(result[6 * 8 + 5] == -1024)
    }

    @Test func percentilesAreNumpys() {
        let values: [Double] = [3, 1, 4, 1, 5, 9, 2, 6]
        #expect(Percentile.linear(values, 90) == 6.8999999999999995)
        #expect(Percentile.linear(values, 10) == 1.0)
        #expect(Percentile.linear([7], 90) == 7)
        #expect(Percentile.linear([1, 2], 50) == 1.5)
        #expect(Percentile.linear([10, 20, 30], 10) == 12)
    }

    @Test(arguments: [(2.5, 3), (-2.5, -3), (2.4, 2), (-2.4, -2), (0.0, 0), (0.5, 1)])
    func roundsHalvesAwayFromZero(value: Double, wanted: Int) {
        #expect(Percentile.roundHalfAway(value) == wanted)
    }

    private func box(_ picture: [String]) -> SkullBox? {
        let values = picture.flatMap { $0.map { $0 == "#" ? Float(251) : 250 } }
        return SkullBox.find(in: values, rows: picture.count, columns: picture[0].count, threshold: 250)
    }

    @Test func boxesTheLargestComponent() {
        #expect(box(["##...", "##..#", "....#", "....#"]) == SkullBox(x0: 0, y0: 0, x1: 1, y1: 1))
        #expect(box(["##...", "#...#", "....#", "...##"]) == SkullBox(x0: 3, y0: 1, x1: 4, y1: 3))
    }

    @Test func diagonalPixelsAreNotConnected() {
        #expect(box(["#....", ".##..", "....."]) == SkullBox(x0: 1, y0: 1, x1: 2, y1: 1))
    }

    @Test func joinsArmsThatMeetBelow() {
        #expect(box(["#...#", "#.#.#", "#####"]) == SkullBox(x0: 0, y0: 0, x1: 4, y1: 2))
        #expect(box(["#.###", "#.#.#", "###.#", "....#"]) == SkullBox(x0: 0, y0: 0, x1: 4, y1: 3))
    }

    @Test func ofEqualComponentsTakesTheFirstInRowMajorOrder() {
        #expect(box(["...#.", "##.#."]) == SkullBox(x0: 3, y0: 0, x1: 3, y1: 1))
        #expect(box([".##..", "#....", "#..##"]) == SkullBox(x0: 1, y0: 0, x1: 2, y1: 0))
    }

    @Test func nothingAboveTheThresholdHasNoBox() {
        #expect(box(["....", "...."]) == nil)
    }

    @Test func withoutBoneTheWholeImageIsTakenAndCentred() {
        #expect(StudyBox.of([], rows: 100, columns: 60, margin: 0.08) == StudyBox(x: -20, y: 0, size: 100))
    }

    @Test func smallBoxesDoNotMoveTheStudyBox() {
        let heads = (0..<20).map { SkullBox(x0: 10 + $0 % 2, y0: 5, x1: 109, y1: 124) }
        let vertex = SkullBox(x0: 50, y0: 60, x1: 60, y1: 70)
        let box = StudyBox.of(heads, rows: 128, columns: 128, margin: 0.08)
        #expect(StudyBox.of(heads + [vertex], rows: 128, columns: 128, margin: 0.08) == box)
        // Extents 100 × 120, side 1.08 · 120 = 129.6, centre (60, 65).
        #expect(box == StudyBox(x: -5, y: 0, size: 130))
    }
}
