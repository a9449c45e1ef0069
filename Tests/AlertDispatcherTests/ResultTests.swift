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

@Suite struct RouteTableTests {
    private let table = RouteTable([
        Route(name: "ct1", callingAETitles: [AETitle("CT1")!], destinations: ["a"]),
        Route(name: "stroke", calledAETitles: [AETitle("STROKE")!], destinations: ["b"]),
        Route(name: "both", callingAETitles: [AETitle("CT2")!], calledAETitles: [AETitle("ICH")!], destinations: ["c"]),
    ])

    @Test(
        arguments: [
            ("CT1", "ICH", "ct1"), ("CT1", "STROKE", "ct1"), ("CT9", "STROKE", "stroke"), ("CT2", "ICH", "both"),
            ("CT9", "ICH", nil), (nil, "STROKE", "stroke"), (nil, nil, nil),
        ] as [(String?, String?, String?)])
    func theFirstThatTakesTheStudyHasIt(calling: String?, called: String?, expected: String?) {
        let route = table.route(calling: calling.flatMap { AETitle($0) }, called: called.flatMap { AETitle($0) })
        #expect(route?.name == expected)
    }
}

@Suite struct HeatmapRendererTests {
    private func slice(activation: (Int, Int) -> Float, hounsfield: Int16 = 40, side: Int = 256) -> HeatmapSlice {
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

    @Test func theMarkIsWholeInASmallPicture() {
        let side = 128
        let pixels = HeatmapRenderer().render(slice(activation: { _, _ in 0 }, hounsfield: -1000, side: side))
        let lowest = pixels.suffix(21 * side * 3)
        let white = stride(from: lowest.startIndex, to: lowest.endIndex, by: 3).count {
            lowest[$0..<$0 + 3].allSatisfy { $0 == 255 }
        }
        let dots = "RESEARCH USENOT FOR DIAGNOSIS".map { BitmapFont.dots(of: $0).count }.reduce(0, +)
        #expect(white == dots)
    }

    @Test func saysHowHighTheActivationIs() {
        func thirdLine(_ activation: Float) -> Int {
            let pixels = HeatmapRenderer().render(slice(activation: { _, _ in activation }, hounsfield: -1000))
            return (21..<29).flatMap { row in (0..<128).filter { pixel(pixels, row, $0) == [255, 255, 255] } }.count
        }
        for (activation, text) in [(0.1, "0.10"), (0.97, "0.97"), (1.5, "1.00")] as [(Float, String)] {
            let dots = "ACTIVATION UP TO \(text)".map { BitmapFont.dots(of: $0).count }.reduce(0, +)
            #expect(thirdLine(activation) == dots)
        }
    }
}

/// Of the colour map, in steps of one 32nd.
@Suite struct ColourMapTests {
    private typealias Components = SIMD3<Double>

    private static let colours = (0...32).map { step -> Components in
        let colour = ColourMap.heat.colour(at: Float(step) / 32)
        return Components(Double(colour.red), Double(colour.green), Double(colour.blue))
    }

    /// IEC 61966-2-1.
    private static func linear(_ colour: Components) -> Components {
        var result = colour
        for index in 0..<3 {
            let value = colour[index]
            result[index] = value <= 0.04045 ? value / 12.92 : pow((value + 0.055) / 1.055, 2.4)
        }
        return result
    }

    /// CIE 1976 L*, 0…100, of linear components.
    private static func lightness(_ linear: Components) -> Double {
        let luminance = (linear * Components(0.2126, 0.7152, 0.0722)).sum()
        return luminance > 0.008856 ? 116 * cbrt(luminance) - 16 : 903.3 * luminance
    }

    private static func steps(_ values: [Double]) -> [Double] { zip(values, values.dropFirst()).map { $1 - $0 } }

    @Test func lightnessRisesEvenly() {
        let lightness = Self.colours.map { Self.lightness(Self.linear($0)) }
        let steps = Self.steps(lightness)
        let mean = (lightness[32] - lightness[0]) / 32
        #expect(mean > 2)
        #expect(steps.allSatisfy { (0.75 * mean...1.35 * mean).contains($0) }, "\(steps)")
    }

    /// Machado, Oliveira and Fernandes 2009, severity 1: rows of the matrix for linear components.
    private static let deficiencies: [(name: String, rows: [Components])] = [
        (
            "protanopia",
            [
                Components(0.152286, 1.052583, -0.204868), Components(0.114503, 0.786281, 0.099216),
                Components(-0.003882, -0.048116, 1.051998),
            ]
        ),
        (
            "deuteranopia",
            [
                Components(0.367322, 0.860646, -0.227968), Components(0.280085, 0.672501, 0.047413),
                Components(-0.011820, 0.042940, 0.968881),
            ]
        ),
        (
            "tritanopia",
            [
                Components(1.255528, -0.076749, -0.178779), Components(-0.078411, 0.930809, 0.147602),
                Components(0.004733, 0.691367, 0.303900),
            ]
        ),
    ]

    /// One of L* is about what an eye tells apart.
    @Test func everyStepIsSeenWithoutRedGreenOrBlueCones() {
        for (name, rows) in Self.deficiencies {
            let lightness = Self.colours.map { colour -> Double in
                let linear = Self.linear(colour)
                let seen = Components(rows.map { ($0 * linear).sum() })
                return Self.lightness(seen.clamped(lowerBound: .zero, upperBound: .one))
            }
            let steps = Self.steps(lightness)
            #expect(steps.allSatisfy { $0 > 1 }, "\(name): \(steps)")
        }
    }
}
