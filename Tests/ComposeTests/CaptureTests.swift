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

    @Test func aSummaryIsASeriesOfItsOwnWithoutPlaneAndNamesAllItsSlices() async throws {
        let bench = try await ComposeBench()
        // Of the size of its slices: even then its pixels lie elsewhere.
        var slices = SourceSlice.series(count: 3).map { slice in
            var slice = slice
            (slice.rows, slice.columns) = (40, 60)
            return slice
        }
        slices[1].isLossy = true
        var request = try bench.request(over: slices, flagged: 3, captures: true)
        request.captures = [.exampleSummary(of: request.captures)]
        request.captures[0].revision = 2
        let pixels = request.captures[0].examplePixels
        let path = try await bench.composed(request, bulk: [pixels])[1]
        #expect(try Tool.errors(of: path) == [])
        let expected = [
            "Modality": ["OT"], "SeriesNumber": ["9004"], "SeriesDescription": ["AI ICH summary (revised 2)"],
            "SeriesInstanceUID": ["\(SourceSlice.uid(24))"], "InstanceNumber": ["1"],
            "ImageType": [#"DERIVED\SECONDARY\OTHER\SUMMARY"#], "ImagePositionPatient": [], "PixelSpacing": [],
            "FrameOfReferenceUID": [], "SpatialLocationsPreserved": ["NO", "NO", "NO"],
            "ReferencedSOPInstanceUID": (100...102).map { "\(SourceSlice.uid($0))" },
            "LossyImageCompression": ["01"], "PatientName": ["PHANTOM^HEAD"], "BurnedInAnnotation": ["NO"],
        ]
        for (keyword, values) in expected { #expect(try Tool.values(keyword, of: path) == values, "\(keyword)") }
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)).suffix(pixels.count) == pixels)
    }

    @Test func comesInTheOrderOfTheRequest() async throws {
        let bench = try await ComposeBench()
        let request = try bench.request(flagged: 3, captures: true, keyObjects: true)
        let paths = try await bench.composed(request, bulk: request.captures.map(\.examplePixels))
        let names = ["report.dcm", "capture-0.dcm", "capture-1.dcm", "capture-2.dcm", "key-objects.dcm"]
        #expect(paths.map { URL(fileURLWithPath: $0).lastPathComponent } == names)
        #expect(try bench.outputNames == names.sorted())
    }
}
