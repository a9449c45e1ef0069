import Foundation
import Testing
import WorkerProtocol

@testable import AlertDispatcher

@Suite struct ResultNamingTests {
    private func naming(revision: String = "r", model: String = "m", installation: String = "i") -> ResultNaming {
        ResultNaming(
            installation: installation, study: UID("1.2.3")!, revisionDigest: revision, modelDigest: model,
            configurationDigest: "c")
    }

    @Test func theSameAnalysisHasTheSameUIDForEver() {
        // The value is written down: a change of it would send every result a second time.
        #expect(naming().uid(.report).string == "2.25.\(Self.expected)")
    }

    private static let expected = "54190195707771046537546018316392165299"

    @Test func whateverDiffersHasAnotherUID() {
        let uids = [
            naming().uid(.report), naming().uid(.reportSeries), naming(revision: "r2").uid(.report),
            naming(model: "m2").uid(.report), naming(installation: "i2").uid(.report),
            naming().uid(.report, sopClass: ReportClass.enhanced.sopClassUID),
            naming().uid(.report, source: UID("1.2")!), naming().uid(.summary), naming().uid(.summarySeries),
            naming().uid(.keyObjects), naming().uid(.keyObjectsSeries), naming().uid(.capture),
        ]
        #expect(Set(uids).count == uids.count)
    }
}

@Suite struct HeatmapRendererTests {
    private func slice(activation: (Int, Int) -> Float, hounsfield: Int16 = 40) -> HeatmapSlice {
        let side = 256
        var map = [Float](repeating: 0, count: side * side)
        for row in 0..<side { for column in 0..<side { map[row * side + column] = activation(row, column) } }
        return HeatmapSlice(
            rows: side, columns: side, hounsfield: [Int16](repeating: hounsfield, count: side * side), activation: map,
            probability: 0.9, instanceNumber: 12)
    }

    private func pixel(_ pixels: [UInt8], _ row: Int, _ column: Int) -> [UInt8] {
        Array(pixels[(row * 256 + column) * 3..<(row * 256 + column) * 3 + 3])
    }

    @Test func withoutActivationTheSliceIsGreyInTheBrainWindow() {
        let pixels = HeatmapRenderer().render(slice(activation: { _, _ in 0 }))
        #expect(pixels.count == 256 * 256 * 3)
        #expect(pixel(pixels, 128, 128) == [128, 128, 128])
        let dark = HeatmapRenderer().render(slice(activation: { _, _ in 0 }, hounsfield: -1000))
        #expect(pixel(dark, 128, 128) == [0, 0, 0])
    }

    @Test func activationColoursItsPlaceAndNoOther() {
        let pixels = HeatmapRenderer().render(slice(activation: { row, _ in row < 128 ? 0.9 : 0 }))
        let hot = pixel(pixels, 100, 128)
        #expect(hot[0] > hot[2])
        #expect(pixel(pixels, 160, 128) == [128, 128, 128])
    }

    @Test func anatomyStaysVisibleBeneathFullActivation() {
        func red(_ hounsfield: Int16) -> UInt8 {
            pixel(HeatmapRenderer().render(slice(activation: { _, _ in 1 }, hounsfield: hounsfield)), 128, 128)[2]
        }
        #expect(red(80) > red(0) + 60)
    }

    @Test func theMarkOfResearchUseIsDrawn() {
        let pixels = HeatmapRenderer().render(slice(activation: { _, _ in 0 }, hounsfield: -1000))
        let white = (240..<256).flatMap { row in (0..<200).filter { pixel(pixels, row, $0) == [255, 255, 255] } }
        #expect(white.count > 100)
    }

    @Test func lightnessOfTheColourMapRises() {
        let lightness = (0...20).map { step -> Float in
            let colour = ColourMap.heat.colour(at: Float(step) / 20)
            return 0.2126 * colour.red + 0.7152 * colour.green + 0.0722 * colour.blue
        }
        #expect(zip(lightness, lightness.dropFirst()).allSatisfy { $0 < $1 })
    }
}
