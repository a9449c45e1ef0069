import Foundation
import Testing
import WorkerProtocol

@Suite struct CaptureTests {
    private func capture(of slice: SourceSlice, _ change: (inout CaptureContent) -> Void = { _ in }) async throws -> (
        bench: ComposeBench, path: String, pixels: Data
    ) {
        let bench = try await ComposeBench()
        var request = try bench.request(over: [slice], flagged: 1, captures: true)
        change(&request.captures[0])
        let pixels = request.captures[0].examplePixels
        return (bench, try await bench.composed(request, bulk: [pixels])[1], pixels)
    }

    @Test func passesTheValidatorWithThePlaneOfItsSlice() async throws {
        let (bench, path, pixels) = try await capture(of: SourceSlice(instanceNumber: 7))
        defer { withExtendedLifetime(bench) {} }
        #expect(try Tool.errors(of: path) == [])
        let expected = [
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT", "ConversionType": "WSD",
            "SeriesNumber": "9003", "SeriesDescription": "AI ICH heatmap", "InstanceNumber": "7",
            "ImageType": #"DERIVED\SECONDARY\OTHER\HEATMAP"#, "BurnedInAnnotation": "NO",
            "RecognizableVisualFeatures": "NO", "ContentQualification": "RESEARCH", "LossyImageCompression": "00",
            "ImagePositionPatient": #"-10\-20\35"#, "ImageOrientationPatient": #"1\0\0\0\1\0"#,
            "PixelSpacing": #"0.5\0.5"#, "FrameOfReferenceUID": "\(SourceSlice.uid(9))",
            "PhotometricInterpretation": "RGB", "SpatialLocationsPreserved": "YES",
            "ReferencedSOPInstanceUID": "\(SourceSlice.uid(2))", "StudyInstanceUID": "\(SourceSlice.uid(0))",
            "PatientName": "PHANTOM^HEAD",
        ]
        for (keyword, value) in expected { #expect(try Tool.values(keyword, of: path) == [value], "\(keyword)") }
        for code in ["109102", "121322", "130402"] { #expect(try Tool.values("CodeValue", of: path).contains(code)) }
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)).suffix(pixels.count) == pixels)
    }

    @Test func hasNoPlaneWhenItsPixelsLieElsewhere() async throws {
        let (bench, path, _) = try await capture(of: SourceSlice()) { $0.columns = 20 }
        defer { withExtendedLifetime(bench) {} }
        #expect(try Tool.errors(of: path) == [])
        #expect(try Tool.values("ImagePositionPatient", of: path) == [])
        #expect(try Tool.value("SpatialLocationsPreserved", of: path) == "NO")
    }

    @Test func isLossyWhenItsSliceWas() async throws {
        let (bench, path, _) = try await capture(of: SourceSlice(isLossy: true))
        defer { withExtendedLifetime(bench) {} }
        #expect(try Tool.value("LossyImageCompression", of: path) == "01")
        #expect(try Tool.value("LossyImageCompressionRatio", of: path) == "10.5")
    }

    @Test func mayHaveAnOddNumberOfPixelBytes() async throws {
        let (bench, path, pixels) = try await capture(of: SourceSlice(rows: 5, columns: 7))
        defer { withExtendedLifetime(bench) {} }
        #expect(try Tool.errors(of: path) == [])
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)).suffix(pixels.count + 1) == pixels + [0])
    }

    @Test func comesInTheOrderOfTheRequest() async throws {
        let bench = try await ComposeBench()
        let request = try bench.request(flagged: 3, captures: true)
        let paths = try await bench.composed(request, bulk: request.captures.map(\.examplePixels))
        #expect(
            paths.map { URL(fileURLWithPath: $0).lastPathComponent } == [
                "report.dcm", "capture-0.dcm", "capture-1.dcm", "capture-2.dcm",
            ])
        #expect(try bench.outputNames == ["capture-0.dcm", "capture-1.dcm", "capture-2.dcm", "report.dcm"])
    }
}
