import Testing

@testable import ICHModel

@Suite struct BrainCheckTests {
    private func millilitres(_ plane: Plane, pixelSpacing: Double = 2) -> Double {
        let area = BrainCheck.enclosedArea(
            plane.values.map(Float.init), rows: plane.rows, columns: plane.columns,
            pixelSpacing: [pixelSpacing, pixelSpacing])
        return area * 150 / 1000
    }

    private func middle(_ change: (inout [Int16]) -> Void = { _ in }) throws -> Plane {
        let plane = try SyntheticHead().plane(at: 15)
        var values = plane.values
        change(&values)
        return try Plane(rows: plane.rows, columns: plane.columns, values: values)
    }

    @Test func brainInASkullCounts() throws {
        let head = millilitres(try middle())
        #expect(head > 1500 && head < 2500)
    }

    @Test func aLargeSkullDefectIsNoReasonToRefuse() throws {
        let plane = try middle { values in
            for row in 0..<96 {
                for column in 0..<80
                where column > 40 && abs(row - 48) < (column - 40) && values[row * 80 + column] == 900 {
                    values[row * 80 + column] = 40
                }
            }
        }
        #expect(millilitres(plane) > 800)
    }

    @Test func plasticWaterAirAndMuscleWithoutBoneDoNotCount() throws {
        for inside: Int16 in [-1000, 0, 100] {
            let plane = try middle { values in
                for index in values.indices where values[index] > -500 && values[index] < 500 { values[index] = inside }
            }
            #expect(millilitres(plane) == 0)
        }
        let bare = try middle { values in
            for index in values.indices where values[index] == 900 { values[index] = -1024 }
        }
        #expect(millilitres(bare) == 0)
    }

    @Test func tissueBehindLungsDoesNotCount() throws {
        let plane = try middle { values in
            for row in 0..<96 {
                for column in 0..<80 {
                    let (x, y) = (Double(column - 40), Double(row - 48))
                    let radius = (x * x + y * y).squareRoot()
                    if radius > 12, radius < 24, values[row * 80 + column] < 500 { values[row * 80 + column] = -800 }
                    if radius >= 24, values[row * 80 + column] < 500 { values[row * 80 + column] = -100 }
                }
            }
        }
        #expect(millilitres(plane) == 0)
    }
}
