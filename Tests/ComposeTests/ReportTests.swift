import Foundation
import Testing
import WorkerProtocol

@Suite struct ReportTests {
    @Test(arguments: ReportClass.allCases)
    func passesTheValidatorsInEveryClass(reportClass: ReportClass) async throws {
        for presence in [Presence.present, .absent, .undetermined] {
            let bench = try await ComposeBench()
            let request = try bench.request(
                flagged: presence == .present ? 2 : 0, presence: presence, reportClass: reportClass)
            let path = try await bench.composed(request)[0]
            #expect(try Tool.errors(of: path) == [])
            let tree = try Tool.tree(of: path)
            #expect(try Tool.value("SOPClassUID", of: path) == "\(reportClass.sopClassUID)")
            #expect(tree.contains(#"(121049,DCM,"Language of Content Item and Descendants")=(en-US"#))
            #expect(tree.contains(#"(121058,DCM,"Procedure reported")=(25045-6"#))
        }
    }

    @Test func saysPresenceInCID240() async throws {
        let bench = try await ComposeBench()
        for (presence, code) in [(Presence.present, "52101004"), (.absent, "272519000"), (.undetermined, "373068000")] {
            var request = try bench.request(presence: presence)
            request.report.fileName = "\(presence).dcm"
            let tree = try Tool.tree(of: try await bench.composed(request)[0])
            // In the study's measurement group and in the qualitative evaluations.
            #expect(tree.components(separatedBy: "(1386000,SCT,\"Intracranial hemorrhage\")=(\(code),SCT,").count == 3)
        }
    }

    @Test func hasNoNumbersWhereNothingWasAnalysed() async throws {
        let bench = try await ComposeBench()
        let tree = try Tool.tree(of: try await bench.composed(try bench.request(presence: .undetermined))[0])
        #expect(!tree.contains("contains NUM"))
        #expect(tree.contains(#"contains CODE:(121071,DCM,"Finding")"#))
    }

    @Test func describesEveryFlaggedSlice() async throws {
        let bench = try await ComposeBench()
        let path = try await bench.composed(try bench.request(flagged: 3))[0]
        let tree = try Tool.tree(of: path)
        let count = { (text: String) in tree.components(separatedBy: text).count - 1 }
        // The study's group and three of slices; viewers need both tracking items in each.
        #expect(count(#"CONTAINER:(125007,DCM,"Measurement Group")"#) == 4)
        #expect(count(#"(112039,DCM,"Tracking Identifier")"#) == 4)
        #expect(count(#"(112040,DCM,"Tracking Unique Identifier")"#) == 4)
        #expect(tree.contains(#""ICH slice 2""#))
        #expect(count(#"NUM:(122157,DCM,"Probability")="0.75""#) == 3)
        #expect(count(#"NUM:(130404,DCM,"Saliency")="0.125""#) == 3)
        #expect(count(#"(111001,DCM,"Algorithm Name")"#) == 7)
        #expect(count(#"inferred from IMAGE:(121112,DCM,"Source of Measurement")"#) == 6)
        #expect(count(#"contains IMAGE:(260753009,SCT,"Source")"#) == 3)
    }

    @Test func carriesIdentityAndHeader() async throws {
        let bench = try await ComposeBench()
        let path = try await bench.composed(try bench.request())[0]
        let expected = [
            "SpecificCharacterSet": "ISO_IR 192", "PatientName": "PHANTOM^HEAD", "PatientID": "PHANTOM-1",
            "IssuerOfPatientID": "EXAMPLE HOSPITAL", "PatientBirthDate": "19500101", "PatientSex": "O",
            "StudyInstanceUID": "\(SourceSlice.uid(0))", "StudyDate": "20240506", "StudyTime": "070809.5",
            "AccessionNumber": "A0001", "ReferringPhysicianName": "DOCTOR^REFERRING", "StudyID": "S1",
            "StudyDescription": "CT HEAD", "SeriesInstanceUID": "\(SourceSlice.uid(21))", "SeriesNumber": "9001",
            "SeriesDescription": "AI ICH triage SR", "SOPInstanceUID": "\(SourceSlice.uid(20))", "Modality": "SR",
            "ContentDate": "20250102", "ContentTime": "030405.678901", "TimezoneOffsetFromUTC": "+0100",
            "CompletionFlag": "COMPLETE", "VerificationFlag": "UNVERIFIED", "ContentQualification": "RESEARCH",
            "TemplateIdentifier": "1500", "TransferSyntaxUID": "1.2.840.10008.1.2.1",
            "MediaStorageSOPInstanceUID": "\(SourceSlice.uid(20))", "DeviceUID": "\(SourceSlice.uid(30))",
        ]
        for (keyword, value) in expected { #expect(try Tool.values(keyword, of: path).contains(value), "\(keyword)") }
        var again = try bench.request()
        again.report.fileName = "again.dcm"
        guard case .composed(_, let identity) = try await bench.compose(again) else {
            throw WorkerError(.failed, "nothing was composed")
        }
        var study = StudyAttributes()
        (study.date, study.time, study.accessionNumber) = ("20240506", "070809.5", "A0001")
        (study.description, study.timezoneOffset) = ("CT HEAD", "-0330")
        #expect(
            identity
                == CarriedIdentity(
                    patient: PatientIdentity(
                        name: "PHANTOM^HEAD", id: "PHANTOM-1", issuerOfID: "EXAMPLE HOSPITAL", birthDate: "19500101",
                        sex: "O"),
                    study: study, referringPhysicianName: "DOCTOR^REFERRING"))
        // Neither the library's name nor its UIDs.
        let dump = try Tool.run("/usr/bin/dcmdump", ["+L", path]).text
        #expect(!dump.contains("1.2.276.0.7230010") && !dump.contains("OFFIS"))
    }

    @Test func isTheSameBytesWhenComposedAgain() async throws {
        let bench = try await ComposeBench()
        var request = try bench.request(flagged: 2)
        let first = try Data(contentsOf: URL(fileURLWithPath: try await bench.composed(request)[0]))
        request.report.fileName = "again.dcm"
        let second = try Data(contentsOf: URL(fileURLWithPath: try await bench.composed(request)[0]))
        #expect(first == second)
    }

    @Test func namesTwoThousandSlices() async throws {
        let bench = try await ComposeBench()
        var request = try bench.request(over: SourceSlice.series(count: 1), flagged: 1)
        request.report.imageLibrary = SourceSlice.series(count: 2000).map(\.reference)
        let before = try bench.processorSeconds
        let path = try await bench.composed(request)[0]
        // Of the worker: how long it waits for a processor is the machine's affair.
        #expect(try bench.processorSeconds - before < 2)
        // Each in the library and in the evidence; the flagged one in its group as well.
        #expect(try Tool.values("ReferencedSOPInstanceUID", of: path).count == 2 * 2000 + 3)
        #expect(try Tool.errors(of: path) == [])
    }

    /// With the UIDs that scanners send, and without a date or frame of reference that is none.
    @Test(arguments: [
        ("20240229", "1.2.03"), ("00000000", "=name"), ("20241399", ""), ("2024XX06", "1..2"), ("20230229", "1.2\\3"),
    ])
    func composesWhateverTheHeadersHold(date: String, frame: String) async throws {
        let bench = try await ComposeBench()
        let odd = SourceSlice(
            studyUID: UID(literal: "1.2.840.113619.2.03.4"), seriesUID: UID(literal: "1.2.840.113619.2.03.4.05"),
            sopUID: UID(literal: "1.2.840.113619.2.03.4.05.006"), studyDate: date, frameOfReferenceUID: frame)
        var request = try bench.request(over: [odd], flagged: 1, captures: true, keyObjects: true)
        request.report.revision = 2
        request.report.predecessor = ImageReference(
            sopClassUID: ReportClass.enhanced.sopClassUID, sopInstanceUID: UID(literal: "1.2.03"),
            seriesInstanceUID: UID(literal: "1.2.04"))
        // A dose report, which is no image, and a class that nobody knows.
        for (index, sopClass) in ["1.2.840.10008.5.1.4.1.1.88.67", "1.2.03.4"].enumerated() {
            request.report.imageLibrary.append(
                ImageReference(
                    sopClassUID: try #require(UID(sopClass)), sopInstanceUID: SourceSlice.uid(70 + index),
                    seriesInstanceUID: SourceSlice.uid(77)))
        }
        let paths = try await bench.composed(request, bulk: request.captures.map(\.examplePixels))
        #expect(paths.count == 3)
        for path in paths {
            #expect(try Tool.values("StudyInstanceUID", of: path).contains("\(odd.studyUID)"))
            #expect(try Tool.values("ReferencedSOPInstanceUID", of: path).contains("\(odd.sopUID)"))
        }
        #expect(try Tool.values("ReferencedSOPClassUID", of: paths[0]).contains("1.2.03.4"))
        // Of the image library.
        #expect(try Tool.values("Date", of: paths[0]) == (date == "20240229" ? [date] : []))
        #expect(try Tool.values("UID", of: paths[0]).contains(frame) == (frame == "1.2.03"))
        #expect(try Tool.values("FrameOfReferenceUID", of: paths[1]) == (frame == "1.2.03" ? [frame] : []))
    }

    @Test func makesALibraryGroupForEachSeries() async throws {
        let bench = try await ComposeBench()
        var request = try bench.request()
        for index in 0..<2 { request.report.imageLibrary[index + 2].seriesInstanceUID = SourceSlice.uid(77) }
        let path = try await bench.composed(request)[0]
        let tree = try Tool.tree(of: path)
        #expect(tree.components(separatedBy: "Image Library Group").count == 3)
        #expect(tree.components(separatedBy: "Target Region").count == 2)
        #expect(try Tool.errors(of: path) == [])
    }

    @Test func aRevisionNamesWhatItSupersedes() async throws {
        let bench = try await ComposeBench()
        var request = try bench.request(flagged: 1, captures: true)
        request.report.revision = 2
        request.report.predecessor = ImageReference(
            sopClassUID: ReportClass.enhanced.sopClassUID, sopInstanceUID: SourceSlice.uid(40),
            seriesInstanceUID: SourceSlice.uid(41))
        request.captures[0].revision = 2
        let paths = try await bench.composed(request, bulk: request.captures.map(\.examplePixels))
        #expect(try Tool.errors(of: paths[0]) == [])
        let dump = try Tool.run("/usr/bin/dcmdump", ["-Un", "+P", "PredecessorDocumentsSequence", paths[0]]).text
        #expect(dump.contains("[\(SourceSlice.uid(40))]") && dump.contains("[\(SourceSlice.uid(41))]"))
        #expect(try Tool.value("SeriesDescription", of: paths[0]) == "AI ICH triage SR (revised 2)")
        #expect(try Tool.value("SeriesDescription", of: paths[1])?.hasSuffix("(revised 2)") == true)
        // A first report has none.
        var first = try bench.request()
        first.report.fileName = "first.dcm"
        let plain = try await bench.composed(first)[0]
        #expect(try Tool.values("PredecessorDocumentsSequence", of: plain).isEmpty)
    }
}
