import AlertDispatcher
import Foundation
import Testing
import WorkerProtocol

/// Reports are read back from their files.
@Suite struct DescribeTests {
    private func reader(_ results: URL) -> ReportReader {
        ReportReader(
            program: WorkerProgram(
                path: WorkerProgram.beside("ichnode-dicom"), arguments: ["describe", "--results", results.path]))
    }

    @Test(arguments: ReportClass.allCases)
    func saysWhatTheReportHoldsInDocumentOrder(reportClass: ReportClass) async throws {
        let bench = try await ComposeBench()
        var request = try bench.request(flagged: 2, reportClass: reportClass)
        request.report.comment = "Verdacht auf Blutung – 疑い <b>."
        let path = try await bench.composed(request)[0]
        let document = try await reader(bench.output).document(at: path)
        let header = Dictionary(document.header.map { ($0.name, $0.value) }) { first, _ in first }
        #expect(header["PatientName"] == "PHANTOM^HEAD" && header["AccessionNumber"] == "A0001")
        #expect(header["SOPInstanceUID"] == "\(SourceSlice.uid(20))" && header["CompletionFlag"] == "COMPLETE")
        #expect(header["PredecessorDocuments"] == nil)
        let content = document.content
        #expect(content[0] == .init(level: 1, valueType: "CONTAINER", name: "Imaging Measurement Report", value: ""))
        // As many items as DCMTK's own program prints lines for.
        let tree = try Tool.tree(of: path).split(separator: "\n").filter {
            $0.trimmingCharacters(in: .whitespaces).hasPrefix("<") && !$0.contains("</")
        }
        #expect(content.count == tree.count)
        let comment = try #require(content.first { $0.name == "Comment" })
        #expect(comment == .init(level: 3, valueType: "TEXT", name: "Comment", value: request.report.comment))
        let numbers = content.filter { $0.valueType == "NUM" }
        #expect(numbers.map(\.value) == ["0.934", "0.75", "0.125", "0.75", "0.125"])
        let code = try #require(content.last { $0.valueType == "CODE" })
        #expect((code.name, code.value) == ("Intracranial hemorrhage", "Present"))
        let images = content.filter { $0.valueType == "IMAGE" }.map(\.value)
        #expect(images.first == "\(SourceSlice.series(count: 1)[0].reference.sopInstanceUID)")
    }

    @Test func namesTheReportThatItSupersedes() async throws {
        let bench = try await ComposeBench()
        var request = try bench.request()
        request.report.revision = 2
        request.report.predecessor = ImageReference(
            sopClassUID: ReportClass.enhanced.sopClassUID, sopInstanceUID: SourceSlice.uid(50),
            seriesInstanceUID: SourceSlice.uid(51))
        let document = try await reader(bench.output).document(at: try await bench.composed(request)[0])
        #expect(document.header.contains { $0.name == "PredecessorDocuments" && $0.value == "1" })
    }

    @Test func readsWhatNamesImagesByOddUIDs() async throws {
        let bench = try await ComposeBench()
        let odd = SourceSlice(sopUID: UID(literal: "1.2.840.113619.2.03.4"))
        let path = try await bench.composed(try bench.request(over: [odd], flagged: 1))[0]
        let content = try await reader(bench.output).document(at: path).content
        #expect(content.contains { $0.valueType == "IMAGE" && $0.value == "\(odd.sopUID)" })
    }

    @Test func saysWhyWhatCannotBeReadIsNot() async throws {
        let bench = try await ComposeBench()
        let reader = reader(bench.output)
        let picture = try await bench.composed(
            try bench.request(flagged: 1, captures: true),
            bulk: [
                CaptureContent.example(0, SourceSlice.series(count: 1)[0], path: "").examplePixels
            ])[1]
        let outside = try bench.request().identitySourcePath
        let damaged = bench.output.appendingPathComponent("damaged.dcm")
        try Data("no DICOM".utf8).write(to: damaged)
        for path in [picture, outside, damaged.path, bench.output.path + "/../spool/x.dcm", bench.output.path] {
            await #expect(throws: WorkerError.self, "\(path)") { _ = try await reader.document(at: path) }
        }
        let outsideReason = await #expect(throws: WorkerError.self) { _ = try await reader.document(at: outside) }
        #expect(outsideReason?.reason.contains("outside") == true)
        // The next one is read all the same.
        var again = try bench.request()
        again.report.fileName = "again.dcm"
        #expect(try await !reader.document(at: try await bench.composed(again)[0]).items.isEmpty)
    }
}
