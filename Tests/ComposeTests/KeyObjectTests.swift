import Foundation
import Testing
import WorkerProtocol

@Suite struct KeyObjectTests {
    private func keyObjects(
        _ change: (inout KeyObjectContent) -> Void = { _ in }
    ) async throws -> (bench: ComposeBench, path: String) {
        let bench = try await ComposeBench()
        var request = try bench.request(flagged: 3, keyObjects: true)
        var content = try #require(request.keyObjects)
        change(&content)
        request.keyObjects = content
        return (bench, try await bench.composed(request)[1])
    }

    @Test func passesTheValidatorsAndNamesEverySlice() async throws {
        let (bench, path) = try await keyObjects()
        defer { withExtendedLifetime(bench) {} }
        #expect(try Tool.errors(of: path) == [])
        let expected = [
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.59", "Modality": "KO", "SeriesNumber": "9002",
            "SeriesDescription": "AI ICH key objects", "SOPInstanceUID": "\(SourceSlice.uid(40))",
            "SeriesInstanceUID": "\(SourceSlice.uid(41))", "StudyInstanceUID": "\(SourceSlice.uid(0))",
            "PatientName": "PHANTOM^HEAD", "AccessionNumber": "A0001", "ContentDate": "20250102",
            "TimezoneOffsetFromUTC": "+0100", "ContentQualification": "RESEARCH", "TemplateIdentifier": "2010",
            "SpecificCharacterSet": "ISO_IR 192",
        ]
        for (keyword, value) in expected { #expect(try Tool.values(keyword, of: path).contains(value), "\(keyword)") }
        let tree = try Tool.tree(of: path)
        #expect(tree.contains(#"(113000,DCM,"Of Interest")"#))
        #expect(tree.contains(#"TEXT:(113012,DCM,"Key Object Description")"#))
        #expect(tree.contains(#"(121005,DCM,"Observer Type")=(121007,DCM,"Device")"#))
        #expect(tree.components(separatedBy: "contains IMAGE:").count == 4)
        // In the tree and in the evidence.
        let referenced = try Tool.values("ReferencedSOPInstanceUID", of: path)
        for number in 100...102 { #expect(referenced.filter { $0 == "\(SourceSlice.uid(number))" }.count == 2) }
        let dump = try Tool.run("/usr/bin/dcmdump", ["+L", path]).text
        #expect(!dump.contains("1.2.276.0.7230010") && !dump.contains("OFFIS"))
    }

    @Test func namesFramesOfAMultiFrameImage() async throws {
        let (bench, path) = try await keyObjects {
            $0.images[1].sopClassUID = UID(literal: "1.2.840.10008.5.1.4.1.1.2.1")
            $0.images[1].frames = [7]
        }
        defer { withExtendedLifetime(bench) {} }
        #expect(try Tool.errors(of: path) == [])
        #expect(try Tool.values("ReferencedFrameNumber", of: path) == ["7"])
    }

    @Test func listsImagesOfSeveralSeriesAsEvidence() async throws {
        let capture = ImageReference(
            sopClassUID: UID(literal: "1.2.840.10008.5.1.4.1.1.7"), sopInstanceUID: SourceSlice.uid(2000),
            seriesInstanceUID: SourceSlice.uid(23))
        let (bench, path) = try await keyObjects { $0.images.append(capture) }
        defer { withExtendedLifetime(bench) {} }
        #expect(try Tool.errors(of: path) == [])
        let sequence = try Tool.run(
            "/usr/bin/dcmdump", ["-Un", "+P", "CurrentRequestedProcedureEvidenceSequence", path]
        ).text
        for uid in [SourceSlice.uid(1), SourceSlice.uid(23), SourceSlice.uid(2000), SourceSlice.uid(102)] {
            #expect(sequence.contains("[\(uid)]"))
        }
    }

    @Test func aRevisionSaysSo() async throws {
        let (bench, path) = try await keyObjects { $0.revision = 3 }
        defer { withExtendedLifetime(bench) {} }
        #expect(try Tool.value("SeriesDescription", of: path) == "AI ICH key objects (revised 3)")
    }
}
