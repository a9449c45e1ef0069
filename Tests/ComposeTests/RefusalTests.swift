import Foundation
import Testing
import WorkerProtocol

@Suite struct RefusalTests {
    @Test(arguments: ["", ".", "..", ".hidden", "../report.dcm", "a/report.dcm", "/tmp/report.dcm", "a\u{0}b", "a b"])
    func refusesFileNamesThatAreNotPlain(name: String) async throws {
        let bench = try await ComposeBench()
        var request = try bench.request(flagged: 1, captures: true)
        request.captures[0].fileName = name
        let reason = try await bench.refusal(request, bulk: [request.captures[0].examplePixels])
        #expect(reason?.contains("plain name") == true)
        #expect(try bench.outputNames == [])
        request.captures = []
        request.report.fileName = name
        #expect(try await bench.refusal(request)?.contains("plain name") == true)
        #expect(try bench.outputNames == [])
    }

    @Test func refusesPixelsOfAnotherSizeAndGoesOn() async throws {
        let bench = try await ComposeBench()
        let request = try bench.request(flagged: 3, captures: true)
        var bulk = request.captures.map(\.examplePixels)
        bulk[1].removeLast()
        #expect(try await bench.refusal(request, bulk: bulk)?.contains("767 bytes of pixels") == true)
        #expect(try bench.outputNames == [])
        bulk[1] = request.captures[1].examplePixels
        #expect(try await bench.composed(request, bulk: bulk).count == 4)
    }

    @Test func replacesNoFile() async throws {
        let bench = try await ComposeBench()
        let request = try bench.request(flagged: 1, captures: true)
        let taken = bench.output.appendingPathComponent("capture-0.dcm")
        try Data("mine".utf8).write(to: taken)
        #expect(try await bench.refusal(request, bulk: [request.captures[0].examplePixels])?.contains("exists") == true)
        #expect(try bench.outputNames == ["capture-0.dcm"])
        #expect(try Data(contentsOf: taken) == Data("mine".utf8))
    }

    @Test func saysWhetherTheDiskIsAtFaultOrTheRequest() async throws {
        let bench = try await ComposeBench()
        var request = try bench.request()
        let folders: [(String, WorkerError.Code)] = [
            (bench.output.appendingPathComponent("missing").path, .system), (bench.spool.path, .failed),
        ]
        for (folder, expected) in folders {
            request.outputDirectory = folder
            guard case .failed(let code, _) = try await bench.compose(request) else {
                Issue.record("\(folder)")
                continue
            }
            #expect(code == expected)
        }
    }

    @Test func refusesPathsOutsideOfItsFolders() async throws {
        let bench = try await ComposeBench()
        let outside = try SourceSlice().write(in: bench.root)
        var request = try bench.request(over: [SourceSlice()], flagged: 1)
        request.identitySourcePath = outside
        #expect(try await bench.refusal(request) != nil)
        request.identitySourcePath = "\(bench.spool.path)/../\(SourceSlice.uid(2)).dcm"
        #expect(try await bench.refusal(request) != nil)
        request = try bench.request()
        request.outputDirectory = bench.spool.path
        #expect(try await bench.refusal(request) != nil)
        try FileManager.default.createSymbolicLink(
            atPath: bench.spool.appendingPathComponent("link.dcm").path, withDestinationPath: outside)
        request = try bench.request()
        request.identitySourcePath = bench.spool.appendingPathComponent("link.dcm").path
        #expect(try await bench.refusal(request) != nil)
    }

    @Test func refusesSequencesNestedBeyondTheLimit() async throws {
        let bench = try await ComposeBench()
        let limit = ObjectLimits.widest.sequenceDepth
        #expect(try await bench.composed(try bench.request(over: [SourceSlice(nesting: limit)])).count == 1)
        for depth in [limit + 1, 100_000] {
            let request = try bench.request(over: [SourceSlice(sopUID: SourceSlice.uid(depth), nesting: depth)])
            #expect(try await bench.refusal(request)?.contains("nest") == true)
        }
    }

    @Test func refusesSourcesThatAreCutShort() async throws {
        let bench = try await ComposeBench()
        let whole = SourceSlice(nesting: 3).encoded()
        var request = try bench.request(over: [SourceSlice()])
        for length in stride(from: 0, to: whole.count - 520, by: 37) {
            try whole.prefix(length).write(to: URL(fileURLWithPath: request.identitySourcePath))
            request.report.fileName = "\(length).dcm"
            // A cut between two elements after the Study Instance UID leaves enough.
            if let reason = try await bench.refusal(request) { #expect(reason.contains("source")) }
        }
        // The worker is there yet.
        try whole.write(to: URL(fileURLWithPath: request.identitySourcePath))
        request.report.fileName = "whole.dcm"
        #expect(try await bench.composed(request).count == 1)
    }

    @Test func refusesASliceOtherThanTheNamedOne() async throws {
        let bench = try await ComposeBench()
        var request = try bench.request(flagged: 1, captures: true)
        let pixels = request.captures[0].examplePixels
        request.captures[0].sources[0].image.sopInstanceUID = SourceSlice.uid(999)
        #expect(try await bench.refusal(request, bulk: [pixels])?.contains("not the named slice") == true)
        let other = SourceSlice(studyUID: SourceSlice.uid(55), sopUID: SourceSlice.uid(56))
        request.captures[0].sources = [CaptureSource(path: try other.write(in: bench.spool), image: other.reference)]
        #expect(try await bench.refusal(request, bulk: [pixels])?.contains("another study") == true)
        #expect(try bench.outputNames == [])
    }

    @Test func refusesContentThatContradictsItself() async throws {
        let bench = try await ComposeBench()
        let changes: [(inout ReportContent) -> Void] = [
            { $0.studyProbability = 1.5 }, { $0.studyProbability = nil }, { $0.presence = .absent },
            { $0.imageLibrary = [] }, { $0.contentDate = "2025-01-02" }, { $0.contentTime = "03:04" },
            { $0.timezoneOffset = "CET" }, { $0.device.manufacturer = #"A\B"# }, { $0.comment = "" },
            { $0.device.stationName = "SEVENTEEN LETTERS" }, { $0.flaggedSlices[0].probability = -0.1 },
        ]
        for (index, change) in changes.enumerated() {
            var request = try bench.request(flagged: 1)
            change(&request.report)
            #expect(try await bench.refusal(request) != nil, "\(index)")
        }
        #expect(try bench.outputNames == [])
    }

    @Test func refusesAHeatmapOverSeveralSlicesAndASummaryOfTooMany() async throws {
        let bench = try await ComposeBench()
        let request = try bench.request(over: SourceSlice.series(count: 10), flagged: 10, captures: true)
        func refusal(_ kind: CaptureKind, of count: Int) async throws -> String? {
            var one = request
            one.captures = [.exampleSummary(of: Array(request.captures.prefix(count)))]
            (one.captures[0].kind, one.report.fileName) = (kind, "report-\(count).dcm")
            one.captures[0].fileName = "capture-\(count).dcm"
            return try await bench.refusal(one, bulk: one.captures.map(\.examplePixels))
        }
        #expect(try await refusal(.heatmap, of: 2) != nil)
        #expect(try await refusal(.summary, of: 10) != nil)
        #expect(try bench.outputNames == [])
        #expect(try await refusal(.summary, of: 9) == nil)
    }

    @Test func refusesKeyObjectsThatNameNothing() async throws {
        let bench = try await ComposeBench()
        let changes: [(inout KeyObjectContent) -> Void] = [
            { $0.images = [] }, { $0.description = "" }, { $0.description = "a\u{1b}" }, { $0.images[0].frames = [0] },
            { $0.contentDate = "" }, { $0.revision = 0 }, { $0.fileName = "report.dcm" },
        ]
        for (index, change) in changes.enumerated() {
            var request = try bench.request(flagged: 1, keyObjects: true)
            if var keyObjects = request.keyObjects {
                change(&keyObjects)
                request.keyObjects = keyObjects
            }
            #expect(try await bench.refusal(request) != nil, "\(index)")
        }
        #expect(try bench.outputNames == [])
    }

    @Test func leavesNothingWhenTheDaemonGoesAway() async throws {
        let bench = try await ComposeBench()
        let request = try bench.request(flagged: 2, captures: true)
        // The second capture's pixels never come.
        try await bench.worker.send(request, bulk: [request.captures[0].examplePixels])
        try await Task.sleep(for: .milliseconds(300))
        #expect(try bench.outputNames.count == 2)
        #expect(await bench.worker.stop() == .exited(code: 0))
        #expect(try bench.outputNames == [])
    }
}
