import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Ledger
import Logging
import NIOCore
import Testing
import WorkerProtocol

@testable import Console

/// A console over a ledger with one study in it, and a folder of results.
final class StudyFixture {
    static let operatorVisitor = Visitor(user: "anna", role: .operator, csrfToken: "token")
    static let hostile = "<script>alert(\"x\")</script>&'"

    let study = UID("1.2.3")!
    let ledger: SQLiteLedger
    let actions = RecordedActions()
    let results: URL
    private let folder: URL
    private(set) var shown: ReportDocument
    private let server: ConsoleServer

    init(_ visitor: Visitor = operatorVisitor, report: ReportDocument = StudyFixture.report("A comment")) throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("study-\(UUID())")
        results = folder.appendingPathComponent("results")
        try FileManager.default.createDirectory(at: results, withIntermediateDirectories: true)
        ledger = try SQLiteLedger(path: folder.appendingPathComponent("ledger.sqlite").path)
        shown = report
        server = Self.server(visitor, ledger, actions, results, report)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    static func report(_ comment: String) -> ReportDocument {
        ReportDocument(items: [
            .init(level: 0, valueType: "", name: "PatientName", value: "PHANTOM^HEAD"),
            .init(level: 1, valueType: "CONTAINER", name: "Imaging Measurement Report", value: ""),
            .init(level: 2, valueType: "IMAGE", name: "", value: "1.2.3.4.1"),
            .init(level: 2, valueType: "IMAGE", name: "", value: "1.2.3.4.2"),
            .init(level: 2, valueType: "TEXT", name: "Comment", value: comment),
        ])
    }

    private static func server(
        _ visitor: Visitor, _ ledger: SQLiteLedger, _ actions: RecordedActions, _ results: URL,
        _ report: ReportDocument
    ) -> ConsoleServer {
        var parts = ConsoleServer.Parts(
            ledger: ledger, actions: actions, registry: MetricsRegistry(), clock: .system, peers: FixedPeers(),
            notReady: { nil })
        parts.results = ResultFolder(path: results.path) { _ in report }
        return ConsoleServer(
            ConsoleSettings(), parts: parts, gate: FixedGate(visitor: visitor),
            logger: Logger(label: "console")
        ) { _ in }
    }

    typealias Answer = (status: HTTPResponse.Status, body: String, headers: HTTPFields)

    /// - Parameter visitor: another one, of a console of its own.
    func get(_ path: String, as visitor: Visitor? = nil) async throws -> Answer {
        try await ask(path, .get, as: visitor)
    }

    func page(as visitor: Visitor? = nil) async throws -> String {
        let answer = try await get("/studies/\(study)", as: visitor)
        #expect(answer.status == .ok)
        return answer.body
    }

    func post(_ path: String) async throws -> Answer { try await ask(path, .post, as: nil) }

    private func ask(_ path: String, _ method: HTTPRequest.Method, as visitor: Visitor?) async throws -> Answer {
        let server = visitor.map { Self.server($0, ledger, actions, results, shown) } ?? self.server
        return try await Application(router: server.router).test(.router) { client in
            let response = try await client.executeRequest(uri: path, method: method, headers: [:], body: nil)
            return (response.status, String(buffer: response.body), response.headers)
        }
    }

    // MARK: What the ledger holds

    func receive(_ count: Int = 2, text: String? = nil) async throws {
        try await ledger.recordInstances(
            (1...count).map { number in
                var record = InstanceRecord(
                    sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.4.\(number)")!,
                    studyInstanceUID: study, seriesInstanceUID: UID("1.2.3.4")!,
                    transferSyntaxUID: UID("1.2.840.10008.1.2")!)
                record.callingAETitle = AETitle("CT1")
                record.patient = PatientIdentity(name: text ?? "DOE^JANE", id: text ?? "P77", birthDate: "19500131")
                record.study.accessionNumber = text ?? "ACC-5"
                record.study.description = text ?? "Head routine"
                return StoredInstance(
                    record: record, path: "/spool/\(number)",
                    receivedAt: Date(timeIntervalSince1970: 1_700_000_000 + Double(number)))
            })
    }

    /// The report, and one picture.
    func objects(_ revision: Int = 1) throws -> [ComposedObject] {
        let path = results.appendingPathComponent("\(study)/2.25.\(revision)")
        try FileManager.default.createDirectory(at: path, withIntermediateDirectories: true)
        return try [("1.2.840.10008.5.1.4.1.1.88.22", 0), ("1.2.840.10008.5.1.4.1.1.7", 1)].map { sopClass, number in
            let file = path.appendingPathComponent("\(number).dcm")
            try Data("object \(revision) \(number)".utf8).write(to: file)
            return ComposedObject(
                path: file.path, sopClassUID: UID(sopClass)!, sopInstanceUID: UID("2.25.\(revision).\(number)")!)
        }
    }

    func conclude(
        _ outcome: Outcome, reason: String = "", revision: Int = 1, hasReport: Bool = true, description: String = "Head"
    ) async throws {
        let detail = try #require(try await ledger.study(study))
        _ = try await ledger.beginAnalysis(
            ofStudy: study, seeing: detail.study.instanceCount, because: "grace of 2 s after the last association")
        try await ledger.recordVerdicts(
            [
                .init(
                    seriesInstanceUID: UID("1.2.3.4")!, number: 3, description: description, instanceCount: 2,
                    verdict: "chosen", reason: "30 axial images")
            ], ofStudy: study)
        let objects = hasReport ? try objects(revision) : []
        let start = Date.now
        let report = objects.first.map {
            ImageReference(
                sopClassUID: $0.sopClassUID, sopInstanceUID: $0.sopInstanceUID, seriesInstanceUID: UID("2.25.9")!)
        }
        let entry = AnalysisEntry(
            studyInstanceUID: study, revisionDigest: "r\(revision)", modelDigest: "m", configurationDigest: "c",
            route: "default", startedAt: start, completedAt: start.addingTimeInterval(0.001), outcome: outcome,
            reason: reason, completion: "grace",
            studyProbability: outcome == .positive ? 0.934 : 0.012, threshold: 0.5,
            flaggedSlices: outcome == .positive ? 3 : 0, seriesInstanceUID: UID("1.2.3.4"), report: report)
        try await Task.sleep(for: .milliseconds(5))
        try await ledger.conclude(
            entry, objects: objects,
            deliveries: hasReport ? [NewDelivery(destination: "pacs", priority: 0, objects: objects)] : [])
    }

    func settle(_ change: (inout DeliveryEntry) -> Void) async throws {
        var delivery = try #require(try await ledger.deliveries(ofStudy: study).last)
        delivery.attempts += 1
        change(&delivery)
        try await ledger.updateDelivery(delivery)
    }
}

@Suite struct StudyPageTests {
    /// Whether the texts come in this order.
    private func inOrder(_ page: String, _ texts: String...) -> Bool {
        var rest = page[...]
        for text in texts {
            guard let range = rest.range(of: text) else { return false }
            rest = rest[range.upperBound...]
        }
        return true
    }

    private func offers(_ page: String) -> [String] {
        StudyAction.allCases.map(\.rawValue).filter { page.contains("action=\"/studies/1.2.3/\($0)\"") }.sorted()
    }

    @Test func aPositiveStudySaysSoAndTellsItsStory() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.positive)
        try await fixture.settle { $0.lastError = "cannot connect" }
        try await fixture.settle { ($0.state, $0.lastError, $0.deliveredAt) = (.delivered, nil, .now) }
        let page = try await fixture.page()
        #expect(page.contains("Intracranial haemorrhage suspected") && page.contains("3 slices are flagged"))
        #expect(page.contains("DOE, JANE") && page.contains("1950-01-31") && page.contains("ACC-5"))
        #expect(page.contains("0.934; flagged from 0.500 on"))
        #expect(
            inOrder(
                page, "First image", "from CT1", "Last image so far", "2 images", "Complete", "grace of 2 s",
                "Analysis begins", "series 3: 30 axial images", "Outcome: positive", "Report", "Owed",
                "attempt 1 failed: cannot connect", "to pacs: 2 objects accepted"))
        #expect(inOrder(page, "Structured Report", "A comment", "Imaging Measurement Report", "2 images", "Comment:"))
        #expect(page.contains("href=\"/studies/1.2.3/objects/2.25.1.0\""))
        #expect(offers(page) == ["ignore", "reprocess", "resend"])
        #expect(!page.contains("/deliveries/"))
    }

    @Test func aNegativeStudyIsNotAllClear() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.negative)
        let page = try await fixture.page()
        #expect(page.contains("This does not rule out a haemorrhage."))
        #expect(page.contains("<span class=\"tag\">negative</span>") && !page.contains("tag good\">negative"))
        #expect(!page.contains("notice statement good") && !page.contains("suspected"))
    }

    @Test(arguments: [
        ("incomplete: no slice at 12.0 mm along the normal", "Send the whole study again"),
        ("no route takes CT9", "add a route for its sender"), ("analysis failed: x", "node&#39;s log"),
        ("bone kernel", "The table of series says why"),
    ])
    func anUndeterminedStudySaysWhyAndWhatToDo(reason: String, advice: String) async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.undetermined, reason: reason)
        let page = try await fixture.page()
        #expect(
            page.contains("this is no negative result") && page.contains("Why: \(reason).") && page.contains(advice))
        // What is below the threshold would be taken for a negative.
        #expect(!page.contains("0.012"))
    }

    @Test func aHeldStudyCanBeReleasedOnly() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        let reason = "identity conflict: 2 patients under one Study Instance UID"
        try await fixture.conclude(.undetermined, reason: reason, hasReport: false)
        let page = try await fixture.page()
        #expect(page.contains("Nothing was sent.") && page.contains(reason))
        #expect(offers(page) == ["ignore", "release"])
        _ = try await fixture.ledger.record(.released, onStudy: fixture.study)
        #expect(offers(try await fixture.page()) == ["ignore", "reprocess"])
    }

    @Test func aStudyThatIsReceivedSaysWhatItWaitsFor() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        let page = try await fixture.page()
        #expect(page.contains("No result yet") && page.contains("Read the study as if there were no AI."))
        #expect(inOrder(page, "Last image so far", "now", "Waits", "waits for nothing"))
        #expect(offers(page) == ["complete", "ignore"])
        _ = try await fixture.ledger.record(.ignored, onStudy: fixture.study)
        let ignored = try await fixture.page()
        #expect(ignored.contains("Ignored by an operator") && offers(ignored) == ["release"])
    }

    @Test func aRevisedStudyShowsItsRevisions() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.negative)
        try await fixture.settle { $0.state = .delivered }
        try await fixture.conclude(.positive, revision: 2)
        let page = try await fixture.page()
        #expect(page.contains("revision 2 of 2") && page.contains("?revision=1#report"))
        #expect(
            inOrder(page, "Outcome: negative", "the first; by route", "Outcome: positive", "revision 2, supersedes"))
        #expect(inOrder(page, "Result objects", "Revision 2", "2.25.2.0", "Revision 1", "2.25.1.0"))
        let earlier = try await fixture.get("/studies/1.2.3?revision=1").body
        #expect(earlier.contains("revision 1 of 2") && earlier.contains("?revision=2#report"))
        #expect(try await fixture.get("/studies/1.2.3?revision=77").body.contains("revision 2 of 2"))
    }

    @Test func whatIsOpenCanBeTriedAgainOrWithdrawn() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.positive)
        try await fixture.settle { delivery in
            (delivery.state, delivery.lastError) = (.dead, "status A900")
            for index in delivery.objects.indices { delivery.objects[index].refuse(status: 0xA900, reason: "mismatch") }
        }
        let page = try await fixture.page()
        let id = try #require(try await fixture.ledger.deliveries(ofStudy: fixture.study).first).id
        #expect(page.contains("action=\"/studies/1.2.3/deliveries/\(id)/retry\""))
        #expect(page.contains("A900H") && page.contains("mismatch"))
        #expect(inOrder(page, "now", "Given up", "pacs: status A900"))
        let viewer = Visitor(user: "v", role: .viewer)
        #expect(!(try await fixture.page(as: viewer)).contains("<form method=\"post\" action=\"/studies"))
    }

    @Test func removedImagesAreSaid() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.negative)
        try await fixture.settle { $0.state = .delivered }
        #expect(try await fixture.ledger.purgeOldestStudy(receivedBefore: .now) != nil)
        let page = try await fixture.page()
        #expect(page.contains("retention removed all of them") && page.contains("Images removed"))
        #expect(offers(page) == ["ignore", "resend"])
    }

    @Test func alertsAboutTheStudyAreInItsStory() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        _ = try await fixture.ledger.updateOperatorAlerts(to: [
            OperatorCondition(.noResult, "1.2.3", "no result for 20 minutes"),
            OperatorCondition(.noResult, "1.2.4", "another study"), OperatorCondition(.diskShort, "spool", "full"),
        ]) { _ in [] }
        let page = try await fixture.page()
        #expect(inOrder(page, "Operators alerted", "no result for 20 minutes"))
        #expect(!page.contains("another study") && !page.contains("full"))
    }

    // MARK: Who sees what

    @Test func hostileTextIsText() async throws {
        let hostile = StudyFixture.hostile
        let fixture = try StudyFixture(report: StudyFixture.report(hostile))
        try await fixture.receive(text: hostile)
        try await fixture.conclude(.undetermined, reason: hostile, description: hostile)
        try await fixture.settle { delivery in
            delivery.lastError = hostile
            for index in delivery.objects.indices { delivery.objects[index].refuse(status: 0xC000, reason: hostile) }
        }
        let page = try await fixture.page()
        #expect(!page.contains("<script>alert"))
        // Name, ID, accession, description, reason, series, report, object, delivery, history.
        #expect(page.components(separatedBy: HTML.escaped(hostile)).count > 10)
    }

    @Test func patientsAreShownToWhomTheyMayBe() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.positive, description: "DOE HEAD")
        for path in ["/studies/1.2.3", "/studies/1.2.3/live/finding"] {
            let page = try await fixture.get(path, as: Visitor(user: nil, role: nil)).body
            for text in ["DOE", "P77", "ACC-5", "Head routine", "1950", "Imaging Measurement", "objects/", "<form"] {
                #expect(!page.contains(text), "\(text)")
            }
            #expect(page.contains("Intracranial haemorrhage suspected"))
        }
        let viewer = try await fixture.page(as: Visitor(user: "v", role: .viewer))
        #expect(viewer.contains("DOE, JANE") && viewer.contains("Imaging Measurement Report") && offers(viewer).isEmpty)
    }

    /// Nor what their peers said of them, as on every other page.
    @Test func whatPeersSaidIsShownToWhomPatientsAre() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.positive)
        let said = "refused the object of MUELLER^ANNA"
        try await fixture.ledger.recordEvent("retrieve", said, ofStudy: fixture.study)
        let states: [DeliveryState] = [.pending, .accepted, .dead]
        for state in states {
            try await fixture.settle { delivery in
                (delivery.state, delivery.lastError) = (state, "\(said), as \(state.rawValue)")
                for index in delivery.objects.indices { delivery.objects[index].refuse(status: 0xC000, reason: said) }
            }
            for path in ["/studies/1.2.3", "/studies/1.2.3/live/course"] {
                let hidden = try await fixture.get(path, as: Visitor()).body
                #expect(!hidden.contains("MUELLER") && hidden.contains(Visitor.hiddenReason), "\(state) \(path)")
                let shown = try await fixture.get(path, as: Visitor(user: "v", role: .viewer)).body
                // As the delivery, under way, of its objects, and in its history.
                #expect(shown.components(separatedBy: "MUELLER").count > 6, "\(state) \(path)")
            }
        }
    }

    @Test func whatCannotBeExplainedNowIsSaid() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        await fixture.actions.refuse("the ledger is locked")
        let page = try await fixture.page()
        #expect(inOrder(page, "Waits", "for what cannot be read now: the ledger is locked", "Cannot be read now"))
        #expect(!page.contains("waits for more images") && !page.contains("Not judged yet"))
    }

    @Test func aReportThatCannotBeReadIsSaid() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.positive)
        try FileManager.default.removeItem(at: fixture.results.appendingPathComponent("1.2.3/2.25.1/0.dcm"))
        #expect(try await fixture.page().contains("It cannot be shown: its file is not where"))
    }

    // MARK: Actions

    @Test func actionsAreAskedForByName() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.positive)
        for action in StudyAction.allCases {
            let answer = try await fixture.post("/studies/1.2.3/\(action.rawValue)")
            #expect(answer.status == .seeOther)
            let place = try #require(answer.headers[.location])
            #expect(place.hasPrefix("/studies/1.2.3?told="))
            #expect(try await fixture.get(place).body.contains("Done: done"))
        }
        let id = try #require(try await fixture.ledger.deliveries(ofStudy: fixture.study).first).id
        #expect(try await fixture.post("/studies/1.2.3/deliveries/\(id)/discard").status == .seeOther)
        let performed = await fixture.actions.performed
        #expect(performed.map(\.action) == StudyAction.allCases.map { $0.nodeAction(fixture.study) } + [.discard(id)])
        #expect(performed.allSatisfy { $0.user == "anna" })
    }

    @Test func aRefusalSaysWhyAndNoAddressShowsATextOfItsOwn() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        await fixture.actions.refuse("no <b>images</b>")
        let place = try #require(try await fixture.post("/studies/1.2.3/reprocess").headers[.location])
        #expect(try await fixture.get(place).body.contains("Not done: no &lt;b&gt;images&lt;/b&gt;"))
        let text = "/studies/1.2.3?told=%3Cb%3Ehello"
        #expect(!(try await fixture.get(text).body.contains("hello")))
    }

    @Test func whatIsNotThereIsNotFound() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.positive)
        let unknown = try await fixture.get("/studies/1.2.9")
        #expect(unknown.status == .notFound && unknown.body.contains("Unknown study"))
        let id = try #require(try await fixture.ledger.deliveries(ofStudy: fixture.study).first).id
        for path in ["/studies/abc", "/studies/1..2", "/studies/1.2.9/live/course", "/studies/1.2.3/objects/2.25.99"] {
            #expect(try await fixture.get(path).status == .notFound, "\(path)")
        }
        for path in [
            "/studies/1.2.3/format", "/studies/abc/ignore", "/studies/1.2.9/deliveries/\(id)/retry",
            "/studies/1.2.3/deliveries/\(id + 1)/retry", "/studies/1.2.3/deliveries/\(id)/format",
            "/studies/1.2.3/deliveries/x/retry",
        ] {
            #expect(try await fixture.post(path).status == .notFound, "\(path)")
        }
        #expect(await fixture.actions.performed.isEmpty)
    }

    // MARK: Objects

    @Test func objectsAreHandedOutAsTheyAre() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        try await fixture.conclude(.positive)
        let answer = try await fixture.get("/studies/1.2.3/objects/2.25.1.1")
        #expect(answer.status == .ok && answer.body == "object 1 1")
        #expect(answer.headers[.contentType] == "application/dicom" && answer.headers[.cacheControl] == "no-store")
        #expect(answer.headers[.contentDisposition] == "attachment; filename=\"ich-capture-2.25.1.1.dcm\"")
        // Of another study.
        #expect(try await fixture.get("/studies/1.2.4/objects/2.25.1.1").status == .notFound)
    }

    @Test func nothingOutsideOfTheResultsIsHandedOut() async throws {
        let fixture = try StudyFixture()
        try await fixture.receive()
        let secret = fixture.results.deletingLastPathComponent().appendingPathComponent("secret")
        try Data("secret".utf8).write(to: secret)
        let link = fixture.results.appendingPathComponent("link.dcm")
        try FileManager.default.createSymbolicLink(at: link, withDestinationURL: secret)
        let beside = URL(fileURLWithPath: fixture.results.path + "-beside")
        try Data("secret".utf8).write(to: beside)
        let paths = [
            secret.path, link.path, beside.path, fixture.results.path + "/../secret", fixture.results.path,
            fixture.results.path + "/missing",
        ]
        let objects = paths.enumerated().map { number, path in
            ComposedObject(
                path: path, sopClassUID: UID("1.2.840.10008.5.1.4.1.1.7")!, sopInstanceUID: UID("2.25.\(number)")!)
        }
        _ = try await fixture.ledger.beginAnalysis(ofStudy: fixture.study, seeing: 2, because: "a test")
        let entry = AnalysisEntry(
            studyInstanceUID: fixture.study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c",
            route: "d", startedAt: .now, completedAt: .now, outcome: .positive, reason: "", completion: "",
            studyProbability: 1, threshold: 0.5, flaggedSlices: 1)
        try await fixture.ledger.conclude(entry, objects: objects, deliveries: [])
        for (object, path) in zip(objects, paths) {
            let answer = try await fixture.get("/studies/1.2.3/objects/\(object.sopInstanceUID)")
            #expect(answer.status == .notFound && !answer.body.contains("secret"), "\(path)")
        }
    }
}
