import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Ledger
import Logging
import Testing
import WorkerProtocol

@testable import Console

/// One finding, and one image of it; what is asked for otherwise is refused as told.
private struct FixedImages: StudyImages {
    var record: FindingRecord?
    var refusal: ImageRefusal?
    let shades = [HeatmapShade(), HeatmapShade(red: 1, green: 2, blue: 3, opacity: 4)]

    func finding(_ name: String, ofStudy uid: UID) async throws -> FindingRecord? {
        if let refusal { throw refusal }
        return record
    }

    func slice(_ index: Int, of name: String, study uid: UID, isGzipped: Bool) async throws -> ViewedSlice {
        if let refusal { throw refusal }
        guard index == 0 else { throw ImageRefusal.unknown }
        return ViewedSlice(rows: 1, columns: 2, pixels: Data([0, 1, 2, 3]), isGzipped: isGzipped)
    }
}

@Suite struct StudyViewerTests {
    private static let study = UID("1.2.3")!
    private static let series = UID("1.2.3.4")!
    private static let hostile = "<script>alert(\"x\")</script>"

    static func record(
        images: Int = 4, slices: Int = 2, orientation: [Double]? = [1, 0, 0, 0, 1, 0], isPositive: Bool = true
    ) -> FindingRecord {
        let each = images / max(1, slices)
        return FindingRecord(
            seriesInstanceUID: series,
            images: (0..<images).map {
                .init(
                    sopInstanceUID: UID("1.2.3.4.\($0)")!, frame: nil, version: 1, instanceNumber: $0 + 1,
                    positionMillimetres: Double($0) * 2.5)
            },
            slices: (0..<slices).map {
                .init(
                    imageCount: each, representative: $0 * each, positionMillimetres: Double($0) * 5,
                    probability: 0.25 + Double($0) / 1000, attention: 1 / Double(slices),
                    isFlagged: isPositive && $0 == 1, map: Data(count: 8))
            }, probability: 0.9, threshold: 0.34, thresholdName: "balanced", isPositive: isPositive,
            sliceThreshold: 0.5, rows: 512, columns: 512, pixelSpacing: [0.5, 0.5], orientation: orientation,
            box: .init(x: -10, y: 20, size: 480), mapSize: 2)
    }

    private func console(
        _ images: FixedImages?, outcome: Outcome? = .positive, reason: String = "", probability: Double? = 0.9
    ) async throws -> Router<ConsoleContext> {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("viewer-\(UUID()).sqlite")
        let ledger = try SQLiteLedger(path: file.path)
        var record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.4.0")!,
            studyInstanceUID: Self.study, seriesInstanceUID: Self.series,
            transferSyntaxUID: UID("1.2.840.10008.1.2.1")!)
        record.patient.name = Self.hostile
        try await ledger.recordInstances([StoredInstance(record: record, path: "/spool/0", receivedAt: .now)])
        if let outcome {
            try await ledger.recordVerdicts(
                [
                    SeriesVerdictEntry(
                        seriesInstanceUID: Self.series, number: 2, description: Self.hostile, instanceCount: 1,
                        verdict: "chosen", reason: "")
                ], ofStudy: Self.study)
            let entry = AnalysisEntry(
                studyInstanceUID: Self.study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c",
                route: "default", startedAt: .now, completedAt: .now, outcome: outcome, reason: reason, completion: "",
                studyProbability: probability, threshold: 0.34, flaggedSlices: 1)
            try await ledger.conclude(entry, objects: [], deliveries: [])
        }
        return ConsoleServer(
            ConsoleSettings(),
            parts: .init(
                ledger: ledger, actions: RecordedActions(), registry: MetricsRegistry(), clock: .system,
                peers: FixedPeers(),
                notReady: { nil }, images: images),
            gate: FixedGate(visitor: Visitor(user: "viewer", role: .viewer)), logger: Logger(label: "viewer")
        ) { _ in }.router
    }

    private func get(
        _ path: String, _ router: Router<ConsoleContext>, _ headers: HTTPFields = [:]
    ) async throws -> TestResponse {
        try await Application(router: router).test(.router) { client in
            try await client.executeRequest(uri: path, method: .get, headers: headers, body: nil)
        }
    }

    private func page(_ router: Router<ConsoleContext>) async throws -> String {
        String(buffer: try await get("/studies/1.2.3/images", router).body)
    }

    @Test func showsTheLatestFindingAndEscapesWhatComesFromOutside() async throws {
        let html = try await page(try await console(FixedImages(record: Self.record())))
        let name = AnalysisEntry.findingName(revision: "r", model: "m", configuration: "c")
        #expect(html.contains("data-source=\"/studies/1.2.3/images/\(name)\""))
        #expect(html.contains("4 images, averaged to 2 slices, 1 flagged"))
        #expect(html.contains("max=\"3\""))
        #expect(html.contains("class=\"bar flagged\""))
        #expect(!html.contains(Self.hostile))
        #expect(html.contains("&lt;script&gt;"))
        #expect(html.firstMatch(of: /\sstyle=|<style/) == nil, "the policy forbids inline styles")
    }

    @Test func anUndeterminedStudyShowsNoProbabilityThatCouldPassForANegative() async throws {
        let images = FixedImages(record: Self.record(isPositive: false))
        let html = try await page(try await console(images, outcome: .undetermined, reason: "incomplete"))
        #expect(html.contains("Undetermined, no negative: incomplete."))
        #expect(!html.contains("study probability"))
        #expect(try await page(try await console(images, outcome: .negative)).contains("study probability"))
    }

    @Test func saysWhyThereIsNothingToSee() async throws {
        #expect(try await page(try await console(nil)).contains("images are not shown by this node"))
        let none = FixedImages()
        #expect(try await page(try await console(none, outcome: nil)).contains("not analysed yet"))
        let held = try await console(none, outcome: .undetermined, reason: Self.hostile, probability: nil)
        #expect(try await page(held).contains("not analysed: &lt;script&gt;"))
        #expect(try await page(try await console(none)).contains("no finding was kept"))
        let broken = FixedImages(refusal: .undecodable("damaged"))
        #expect(try await page(try await console(broken)).contains("damaged"))
    }

    @Test(
        arguments: [
            (ImageRefusal.unknown, 404), (.removed, 410), (.undecodable("<b>"), 422), (.busy, 503),
        ])
    func saysInAProblemWhyNot(refusal: ImageRefusal, status: Int) async throws {
        let router = try await console(FixedImages(refusal: refusal))
        for path in ["/studies/1.2.3/images/ab/0", "/studies/1.2.3/images/ab"] {
            let response = try await get(path, router)
            #expect(response.status.code == status)
            #expect(response.headers[.contentType] == "application/problem+json")
            #expect(String(buffer: response.body).contains("\"detail\":"))
        }
    }

    @Test(
        arguments: [
            "/studies/9.9/images", "/studies/x/images", "/studies/x/images/ab", "/studies/x/images/ab/0",
            "/studies/1.2.3/images/ab/x", "/studies/1.2.3/images/ab/-1", "/studies/1.2.3/images/ab/1",
            "/studies/1.2.3/images/ab/99999999999999999999", "/studies/..%2F..%2Fetc/images",
        ])
    func knowsNothingElse(path: String) async throws {
        let router = try await console(FixedImages(record: Self.record()))
        #expect(try await get(path, router).status == .notFound)
    }

    @Test func sendsPixelsThatNobodyKeeps() async throws {
        let router = try await console(FixedImages(record: Self.record()))
        let plain = try await get("/studies/1.2.3/images/ab/0", router)
        #expect(Array(buffer: plain.body) == [0, 1, 2, 3])
        #expect(plain.headers[.cacheControl] == "private, no-store")
        #expect(plain.headers[.contentEncoding] == nil)
        let small = try await get("/studies/1.2.3/images/ab/0", router, [.acceptEncoding: "br, gzip"])
        #expect(small.headers[.contentEncoding] == "gzip")
    }

    @Test func asksForTheRightToSeePatients() throws {
        let ledger = try ConsoleFixture().ledger
        let parts = ConsoleServer.Parts(
            ledger: ledger, actions: RecordedActions(), registry: MetricsRegistry(), clock: .system,
            peers: FixedPeers(), notReady: { nil })
        let routes = StudyViewer(parts: parts).routes
        #expect(routes.count == 3)
        #expect(routes.allSatisfy { $0.access == .patients && $0.method == .get })
    }

    @Test func tellsTheScriptNoUIDs() throws {
        let content = ViewerContent(Self.record(), shades: FixedImages().shades)
        let json = String(decoding: try JSONEncoder().encode(content), as: UTF8.self)
        #expect(!json.contains("1.2.3"))
        #expect(content.images.map(\.slice) == [0, 0, 1, 1])
        #expect(content.shades == [0, 0, 0, 0, 1, 2, 3, 4])
    }

    @Test(
        arguments: [
            ([1, 0, 0, 0, 1, 0], "R L A P"), ([-1, 0, 0, 0, -1, 0], "L R P A"), ([1, 0, 0, 0, 0, -1], "R L H F"),
            ([1, 0, 0, 0, 0.93, -0.36], "R L AH PF"), ([1, 0, 0, 0, 0.98, -0.17], "R L A P"),
        ] as [([Double], String)])
    func namesTheEdges(cosines: [Double], letters: String) throws {
        let edges = try #require(OrientationLetters(cosines))
        #expect([edges.left, edges.right, edges.top, edges.bottom].joined(separator: " ") == letters)
    }

    @Test(arguments: [[], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, .nan, 0]] as [[Double]])
    func namesNoEdgesRatherThanWrongOnes(cosines: [Double]) { #expect(OrientationLetters(cosines) == nil) }

    @Test func aRecordIsBounded() {
        func images(_ count: Int) -> FindingRecord { Self.record(images: count, slices: 1) }
        #expect(images(FindingRecord.mostImages).flaw == nil)
        #expect(images(FindingRecord.mostImages + 1).flaw != nil)
        func slices(_ count: Int) -> FindingRecord { Self.record(images: count, slices: count) }
        #expect(slices(FindingRecord.mostSlices).flaw == nil)
        #expect(slices(FindingRecord.mostSlices + 1).flaw != nil)
        func changed(_ change: (inout FindingRecord) -> Void) -> FindingRecord {
            var record = Self.record()
            change(&record)
            return record
        }
        #expect(changed { $0.slices[0].map = Data(count: 7) }.flaw != nil)
        #expect(changed { $0.slices[0].representative = 2 }.flaw != nil)
        #expect(changed { $0.slices[1].imageCount = 3 }.flaw != nil)
        #expect(changed { $0.slices[1].probability = 1.5 }.flaw != nil)
        for wrong in [Int.min, .min + 1, .max] {
            #expect(changed { $0.box.x = wrong }.flaw != nil)
            #expect(changed { $0.box.y = wrong }.flaw != nil)
            #expect(changed { $0.box.size = wrong }.flaw != nil)
            #expect(changed { $0.rows = wrong }.flaw != nil)
            #expect(changed { $0.mapSize = wrong }.flaw != nil)
            #expect(changed { $0.slices[0].imageCount = wrong }.flaw != nil)
            #expect(changed { $0.slices[0].representative = wrong }.flaw != nil)
            #expect(changed { $0.images[0].frame = wrong }.flaw != nil)
        }
        for (frame, isRight) in [(0, false), (1, true), (4096, true), (4097, false)] {
            #expect((changed { $0.images[0].frame = frame }.flaw == nil) == isRight)
        }
        #expect(changed { $0.pixelSpacing = [0.5, 0] }.flaw != nil)
    }
}
