import Foundation
import Ledger
import Testing
import WorkerProtocol

@testable import AlertDispatcher

@Suite struct SummaryRendererTests {
    private let text = SummaryText(
        title: "AI: INTRACRANIAL HEMORRHAGE SUSPECTED",
        lines: [
            "Study probability 0.934, operating point 0.500 (balanced)", "Model: ich-lite0-192 1.0.0",
            "Completeness: associations ended and grace passed", "Shown: all flagged images (3)",
        ], noun: "image")

    private func slice(rows: Int = 512, columns: Int = 512, hounsfield: Int16 = 40, activation: Float = 0)
        -> HeatmapSlice
    {
        HeatmapSlice(
            rows: rows, columns: columns, hounsfield: [Int16](repeating: hounsfield, count: rows * columns),
            activation: [Float](repeating: activation, count: rows * columns), probability: 0.9, instanceNumber: 12)
    }

    private func count(_ canvas: Canvas, _ matches: (UInt8, UInt8, UInt8) -> Bool) -> Int {
        stride(from: 0, to: canvas.pixels.count, by: 3).count {
            matches(canvas.pixels[$0], canvas.pixels[$0 + 1], canvas.pixels[$0 + 2])
        }
    }

    @Test(
        arguments: [(512, 512), (16, 16), (2048, 2048), (1, 1), (512, 300), (40, 2000), (2000, 40)], [1, 2, 4, 5, 9])
    func showsAllSlicesWithinItsSize(size: (rows: Int, columns: Int), slices: Int) {
        let one = slice(rows: size.rows, columns: size.columns)
        let canvas = SummaryRenderer().render([HeatmapSlice](repeating: one, count: slices), text: text)
        #expect(canvas.columns == 1024 && (1...1024).contains(canvas.rows))
        // Each as large as the next, and of the slice's shape.
        let grey = count(canvas) { $0 == 128 && $1 == 128 && $2 == 128 }
        #expect(grey > 0 && grey.isMultiple(of: slices))
        let shape = Double(size.columns) / Double(size.rows)
        let columns = (Double(grey / slices) * shape).squareRoot()
        #expect(columns <= 1024 && columns / shape <= 1024)
    }

    @Test func showsActivationInColourAndNoColourWithoutIt() {
        func coloured(_ activation: Float) -> Int {
            let canvas = SummaryRenderer().render([slice(activation: activation)], text: text)
            return count(canvas) { red, _, blue in Int(red) > Int(blue) + 40 }
        }
        // The colour map's bar and the mark are there in both.
        #expect(coloured(0.9) - coloured(0) > 300_000)
    }

    @Test func showsTheHeadAndNotTheAirAroundIt() {
        var one = slice(hounsfield: -1000)
        for row in 150..<350 { for column in 200..<360 { one.hounsfield[row * 512 + column] = 40 } }
        func grey(_ slices: [HeatmapSlice]) -> Int {
            count(SummaryRenderer().render(slices, text: text)) { $0 == 128 && $1 == 128 && $2 == 128 }
        }
        let whole = grey([slice()])
        #expect(grey([one]) > whole / 2)
        // Activation is never cut off.
        one.activation[5 * 512 + 5] = 1
        #expect(grey([one]) < whole / 4)
    }

    @Test func marksResearchUseAcrossTheWholeWidth() {
        let canvas = SummaryRenderer().render([slice(hounsfield: -1000)], text: text)
        let amber = count(canvas) { $0 == 255 && $1 == 194 && $2 == 8 }
        #expect(amber > 1024 * 15)
    }

    @Test func longTextIsBrokenBetweenWordsAndEndsInDots() {
        let word = "balanced "
        #expect(SummaryRenderer.wrapped("short") == ["short"])
        let lines = SummaryRenderer.wrapped(String(repeating: word, count: 15).trimmingCharacters(in: .whitespaces))
        #expect(lines.count == 2)
        #expect(lines.allSatisfy { $0.count <= 83 && $0.hasPrefix("balanced") && $0.hasSuffix("balanced") })
        let endless = SummaryRenderer.wrapped(String(repeating: "x", count: 500))
        #expect(endless.map(\.count) == [83, 83])
        #expect(endless[1].hasSuffix("x.."))
        #expect(SummaryRenderer.wrapped(String(repeating: "x", count: 166)).map(\.count) == [83, 83])
        #expect(SummaryRenderer.wrapped("größer") == ["gr??er"])
    }

    @Test func resamplingKeepsAnEvenPictureEvenAndAveragesWhereItShrinks() {
        var canvas = Canvas(rows: 8, columns: 8)
        canvas.fill(rows: 0..<8, columns: 0..<8, Colour(grey: 0.4))
        #expect(Set(canvas.resampled(rows: 3, columns: 21).pixels) == [102])
        for column in stride(from: 0, to: 8, by: 2) {
            canvas.fill(rows: 0..<8, columns: column..<column + 1, Colour(grey: 0))
        }
        // Stripes finer than the new pixels become grey between the two.
        #expect(canvas.resampled(rows: 2, columns: 2).pixels.allSatisfy { (30...72).contains($0) })
    }
}

@Suite struct SummaryTextTests {
    private static func flagged(_ probability: Double, number: Int) -> StudyReport.Flagged {
        StudyReport.Flagged(
            instance: .example(number: number), probability: probability, attention: 0.1, slice: nil)
    }

    @Test func theMostSuspiciousAreTakenInTheOrderOfSlices() {
        let probabilities = [0.5, 0.9, 0.5, 0.5, 0.95, 0.6]
        let flagged = probabilities.enumerated().map { Self.flagged($1, number: $0) }
        func numbers(_ most: Int) -> [Int] {
            ReportComposer.mostSuspicious(most, of: flagged).map(\.instanceNumber)
        }
        #expect(numbers(3) == [1, 4, 5])
        // Of equals the first, and none of them before a higher one.
        #expect(numbers(4) == [0, 1, 4, 5])
        #expect(numbers(9) == [0, 1, 2, 3, 4, 5])
    }

    @Test func saysProbabilityThresholdModelCompletenessAndWhatIsShown() {
        let report = StudyReport(
            studyInstanceUID: UID("1.2")!, revisionDigest: "r", revision: 2, presence: .present,
            reason: "no slice at 12.0 mm along the normal", studyProbability: 0.9344, thresholdName: "balanced",
            threshold: 0.5, images: [], flagged: (0..<12).map { Self.flagged(0.9, number: $0) }, seriesText: "",
            completionText: "deadline passed", startedAt: Date(timeIntervalSince1970: 0))
        let text = ReportText.summary(
            report, algorithm: .init(name: "ich\u{7}lite", version: "1.2", digest: ""), shown: 9)
        #expect(text.title.hasSuffix("SUSPECTED (REVISED 2)"))
        #expect(
            text.lines == [
                "Study probability 0.934, operating point 0.500 (balanced)", "Model: ich lite 1.2",
                "Completeness: deadline passed", "Limits: no slice at 12.0 mm along the normal",
                "Shown: the 9 most suspicious of 12 flagged images, in their order",
            ])
    }
}

extension StoredInstance {
    fileprivate static func example(number: Int) -> StoredInstance {
        var image = ImageAttributes()
        image.instanceNumber = number
        let record = InstanceRecord(
            sopClassUID: UID(literal: "1.2.840.10008.5.1.4.1.1.2"), sopInstanceUID: UID("1.2.3.\(number)")!,
            studyInstanceUID: UID(literal: "1.2"), seriesInstanceUID: UID(literal: "1.2.3"),
            transferSyntaxUID: UID(literal: "1.2.840.10008.1.2.1"), image: image)
        return StoredInstance(record: record, path: "/\(number).dcm", receivedAt: Date(timeIntervalSince1970: 0))
    }
}
