import Foundation
import Testing
import WorkerProtocol

@testable import ICHModel

/// What of a series is not analysed, and what is no loss.
@Suite struct LeftOutTests {
    private func assess(_ records: [InstanceRecord]) throws -> SeriesSelection.Assessment {
        let selection = SeriesSelection(records)
        #expect(SeriesSelection(records.reversed()) == selection)
        return try #require(selection.series.first)
    }

    /// More images of the same series.
    private func more(
        _ count: Int, from first: Int = 1000, at position: (Int) -> Double,
        change: (inout InstanceRecord) -> Void = { _ in }
    ) -> [InstanceRecord] {
        (0..<count).map { index in
            var record = Records.make(index: first + index)
            record.image.position = [-125, -125, position(index)]
            record.image.instanceNumber = first + index
            change(&record)
            return record
        }
    }

    /// A gantry tilted about the row direction; the table moves along z.
    private func tilt(_ record: inout InstanceRecord, degrees: Double) {
        let angle = degrees * .pi / 180
        record.image.orientation = [1, 0, 0, 0, cos(angle), -sin(angle)]
    }

    @Test func nothingOfAPlainSeriesIsLeftOut() throws {
        #expect(try assess(Records.series()).leftOut.isEmpty)
        let tilted = try assess(Records.series { tilt(&$0, degrees: 18.5) })
        #expect(tilted.leftOut.isEmpty)
        #expect(tilted.instances.count == 28)
    }

    /// As GE HiSpeed writes it: two thicknesses, an acquisition for each image, gantry tilt.
    @Test func twoThicknessesInOneTiltedSeriesAreOneStack() throws {
        let records = (0..<28).map { index in
            Records.make(index: index) {
                tilt(&$0, degrees: 18.5)
                let isLower = index < 14
                $0.image.position = [-125, -123.54, isLower ? Double(index) * 4.22 : 56 + Double(index - 14) * 7.38]
                $0.image.sliceThickness = isLower ? 4 : 7
                $0.image.acquisitionNumber = index + 1
            }
        }
        let series = try assess(records)
        #expect(series.leftOut.isEmpty)
        #expect(series.instances == records.map(\.sopInstanceUID))
    }

    @Test func anotherTiltIsLeftOut() throws {
        let vertex = more(12) { 100 + Double($0) * 5 }
        let base = Records.series(count: 20) { tilt(&$0, degrees: 15) }
        let series = try assess(base + vertex)
        #expect(series.instances.count == 20)
        #expect(series.leftOut == ["12 images of another orientation not analysed"])
    }

    @Test func jitterOfTheNormalDoesNotSplitAStack() throws {
        let records = Records.series().enumerated().map { index, record in
            var record = record
            tilt(&record, degrees: 0.573 + (index.isMultiple(of: 2) ? 0.004 : -0.004))
            return record
        }
        let series = try assess(records)
        #expect(series.instances.count == 28)
        #expect(series.leftOut.isEmpty)
    }

    @Test func imagesWithoutGeometryOrPixelsAreLeftOut() throws {
        let placeless = more(3, at: { _ in 0 }) { $0.image.position = nil }
        let far = more(1, from: 1100, at: { _ in 5001 })
        let empty = more(1, from: 1200, at: { _ in 50 }) { $0.image.hasPixelData = false }
        let series = try assess(Records.series() + placeless + far + empty)
        #expect(
            series.leftOut == [
                "4 images without position, orientation or pixel spacing not analysed",
                "1 image without pixel data not analysed",
            ])
        let atLimit = try SliceGeometry(more(1, at: { _ in 5000 })[0].image)
        #expect(atLimit.positionMillimetres == 5000)
    }

    @Test func whatIsMixedInIsNoLoss() throws {
        let scout = more(1, at: { _ in 0 }) {
            $0.image.imageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            $0.image.position = nil
        }
        let namelessScout = more(1, from: 1100, at: { _ in 0 }) { $0.image.orientation = [0, 1, 0, 0, 0, -1] }
        let derived = more(2, from: 1200, at: { _ in 300 }) { $0.image.imageType = ["DERIVED", "SECONDARY", "AXIAL"] }
        let reformat = more(2, from: 1300, at: { _ in 300 }) {
            $0.image.imageType = ["DERIVED", "PRIMARY", "MPR"]
            $0.image.pixelSpacing = nil
        }
        let capture = more(1, from: 1400, at: { _ in 0 }) {
            $0.sopClassUID = Records.uid("1.2.840.10008.5.1.4.1.1.7")
            $0.image.position = nil
        }
        #expect(try assess(Records.series() + scout + namelessScout + derived + reformat + capture).leftOut.isEmpty)
    }

    private func acquisition(_ number: Int, _ records: [InstanceRecord]) -> [InstanceRecord] {
        records.map { record in
            var record = record
            record.image.acquisitionNumber = number
            return record
        }
    }

    @Test func aRepetitionMayReachOneSpacingBeyond() throws {
        let first = acquisition(1, Records.series())
        // The whole head is at 0…135 mm.
        let within = acquisition(2, more(3) { 130 + Double($0) * 5 })
        let series = try assess(first + within)
        #expect(series.instances.count == 28)
        #expect(series.leftOut.isEmpty)
        let beyond = acquisition(2, more(4) { 130 + Double($0) * 5 })
        #expect(try assess(first + beyond).leftOut == ["1 image at other positions not analysed"])
    }

    @Test func anAcquisitionThatFillsAHoleIsNoRepetition() throws {
        var first = acquisition(1, Records.series())
        first.remove(at: 10)
        let fill = acquisition(2, more(2) { 45 + Double($0) * 5 })
        let series = try assess(first + fill)
        #expect(series.leftOut == ["1 image at other positions not analysed"])
    }

    @Test func ofImagesAtOnePositionTheLatestIsTaken() throws {
        let repeated = more(4) { 20 + Double($0) * 5 }
        let series = try assess(Records.series() + repeated)
        #expect(series.instances.count == 28)
        #expect(Set(repeated.map(\.sopInstanceUID)).isSubset(of: series.instances))
        #expect(series.leftOut.isEmpty)
    }

    @Test func anotherFieldOfViewIsAnotherStack() throws {
        let narrow = more(10, at: { Double($0) * 5 }) {
            $0.image.pixelSpacing = [0.3, 0.3]
            $0.image.position?[0] = -75
        }
        let covered = try assess(Records.series() + narrow)
        #expect(covered.instances.count == 28)
        #expect(covered.leftOut.isEmpty)
        let shifted = more(3, at: { 150 + Double($0) * 5 }) { $0.image.position?[1] = -100 }
        #expect(try assess(Records.series() + shifted).leftOut == ["3 images at other positions not analysed"])
    }

    /// Above the head, each beside all others.
    private func unlike(_ count: Int, spacing: Double) -> [InstanceRecord] {
        more(count, at: { 150 + Double($0) * spacing }) { record in
            record.image.position?[0] = Double(record.image.instanceNumber ?? 0) * 3
        }
    }

    @Test func groupsOfUnlikeImagesAreLimited() throws {
        #expect(SliceStack.mostGroups == 32)
        let atLimit = try assess(Records.series() + unlike(31, spacing: 5))
        #expect(atLimit.leftOut == ["31 images at other positions not analysed"])
        let beyond = try assess(Records.series() + unlike(40, spacing: 5))
        #expect(beyond.verdict == .chosen)
        #expect(beyond.instances.count == 28)
        #expect(
            beyond.leftOut == [
                "31 images at other positions not analysed",
                "9 images beyond the first 32 groups of unlike images not analysed",
            ])
    }

    /// Each with each they would take many minutes.
    @Test(.timeLimit(.minutes(1))) func manyUnlikeImagesAreNotComparedEachWithEach() throws {
        let selection = SeriesSelection(Records.series() + unlike(20_000, spacing: 0.1))
        #expect(try #require(selection.series.first).leftOut.count == 2)
    }

    @Test func aWiderFieldThanANarrowOneIsLeftOut() throws {
        let narrow = Records.series { $0.image.pixelSpacing = [0.2, 0.2] }
        let wide = more(20, at: { Double($0) * 5 })
        #expect(try assess(narrow + wide).leftOut == ["20 images of a wider field of view not analysed"])
    }

    @Test func aSpacingOfTwiceTheThicknessIsADefect() throws {
        func series(spacing: Double, thickness: Double?) throws -> [String] {
            let records = Records.series(count: 15).enumerated().map { index, record in
                var record = record
                record.image.position = [-125, -125, Double(index) * spacing]
                record.image.sliceThickness = thickness
                return record
            }
            return try assess(records).leftOut
        }
        #expect(
            try series(spacing: 10, thickness: 5)
                == ["spacing of 10.0 mm is about twice the slice thickness or more"])
        #expect(try series(spacing: 9.5, thickness: 5).isEmpty)
        #expect(try series(spacing: 9.51, thickness: 5).count == 1)
        #expect(try series(spacing: 10, thickness: nil).isEmpty)
    }

    @Test func everySecondSliceMissingInOneStretchIsADefect() throws {
        let records = Records.series(count: 30).enumerated().filter { $0.offset < 14 || $0.offset.isMultiple(of: 2) }
            .map(\.element)
        #expect(try assess(records).leftOut == ["spacing of 10.0 mm is about twice the slice thickness or more"])
    }

    @Test func thumbnailsAreRefused() throws {
        func verdict(_ rows: Int, _ columns: Int) -> SeriesSelection.Verdict? {
            let records = Records.series {
                $0.image.rows = rows
                $0.image.columns = columns
            }
            return SeriesSelection(records).series.first?.verdict
        }
        #expect(verdict(64, 64) == .chosen)
        #expect(verdict(63, 512) == .refused(.smallerThan(pixels: 64)))
        #expect(verdict(512, 63) == .refused(.smallerThan(pixels: 64)))
        #expect(SelectionReason.smallerThan(pixels: 64).description == "fewer than 64 rows or columns")
    }
}
