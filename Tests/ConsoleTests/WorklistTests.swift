import Foundation
import HTTPTypes
import Ledger
import Testing
import WorkerProtocol

@testable import Console

@Suite struct WorklistTests {
    private func record(
        _ number: Int, name: String, id: String = "4711", hoursAgo: Double = 1, in fixture: ConsoleFixture
    ) async throws {
        var record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.\(number).9.1")!,
            studyInstanceUID: UID("1.2.\(number)")!, seriesInstanceUID: UID("1.2.\(number).9")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        record.patient = PatientIdentity(name: name, id: id, birthDate: "19500201", sex: "F")
        record.study.date = "20231114"
        record.study.accessionNumber = "ACC\(number)"
        record.study.description = "CCT nativ"
        record.callingAETitle = AETitle("CT1")
        try await fixture.ledger.recordInstances([
            StoredInstance(
                record: record, path: "/spool/\(number)", receivedAt: Date(timeIntervalSinceNow: -3600 * hoursAgo))
        ])
    }

    private func conclude(_ number: Int, _ outcome: Outcome, in fixture: ConsoleFixture) async throws {
        let uid = UID("1.2.\(number)")!
        _ = try await fixture.ledger.beginAnalysis(ofStudy: uid, seeing: 1, because: "a test")
        try await fixture.ledger.conclude(
            AnalysisEntry(
                studyInstanceUID: uid, revisionDigest: "r", modelDigest: "m", configurationDigest: "c", route: "r",
                startedAt: .now, completedAt: .now, outcome: outcome, reason: "", completion: "grace",
                studyProbability: 0.912, threshold: 0.5, flaggedSlices: 1),
            objects: [], deliveries: [])
    }

    @Test func showsWhoIsUrgentFirst() async throws {
        let fixture = try ConsoleFixture()
        try await record(1, name: "DOE^JANE^M^DR", in: fixture)
        try await record(2, name: "ROE^RICHARD", in: fixture)
        try await record(3, name: "POE^EDGAR", in: fixture)
        try await conclude(1, .negative, in: fixture)
        try await conclude(2, .positive, in: fixture)
        let body = try await fixture.get("/").body
        #expect(body.contains("<a href=\"/studies/1.2.1\">DOE, JANE M (DR)</a><br><small>4711 · 73 y · female</small>"))
        #expect(body.contains(">1 positive</a>") && body.contains(">1 under way</a>") && body.contains(">3 all</a>"))
        let places = ["study-1.2.2", "study-1.2.3", "study-1.2.1"].map { body.range(of: "id=\"\($0)\"")?.lowerBound }
        #expect(!places.contains(nil) && places.compactMap(\.self) == places.compactMap(\.self).sorted())
        #expect(body.contains("data-announce=\"positive: ROE, RICHARD\""))
        #expect(body.contains("0.912") && body.contains("ACC1") && body.contains(">CT1<"))
    }

    @Test func aBadParameterLeavesTheOthers() async throws {
        let fixture = try ConsoleFixture()
        try await record(1, name: "DOE", in: fixture)
        try await record(2, name: "ROE", in: fixture)
        let body = try await fixture.get("/?q=d%6Fe+&standing=%zz&period=7d&page=x&<b>=1").body
        #expect(body.contains("study-1.2.1") && !body.contains("study-1.2.2"))
        #expect(body.contains("value=\"7d\" selected"))
        #expect(body.contains("was not understood: standing=%zz, page=x, &lt;b&gt;=1</p>"))
        #expect(!(try await fixture.get("/?q=doe&standing=&period=24h&page=1").body.contains("not understood")))
    }

    @Test func aPositiveThatReceivesMoreIsStillPositive() async throws {
        let fixture = try ConsoleFixture()
        try await record(1, name: "DOE", in: fixture)
        try await conclude(1, .positive, in: fixture)
        var more = try #require(try await fixture.ledger.instances(ofStudy: UID("1.2.1")!).first)
        more.record.sopInstanceUID = UID("1.2.1.9.2")!
        more.path += ".more"
        try await fixture.ledger.recordInstances([more])
        let body = try await fixture.get("/").body
        #expect(body.contains(">positive</span> <span class=\"tag busy\">receiving</span>"))
    }

    @Test func hostileTextIsText() async throws {
        let fixture = try ConsoleFixture()
        let evil = "\"><script>alert(1)</script>^<img src=x onerror=alert(2)>"
        try await record(1, name: evil, id: "'\"&<b>", in: fixture)
        try await conclude(1, .positive, in: fixture)
        let query = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E"
        for path in ["/", "/worklist/list", "/?q=\(query)", "/worklist/list?q=\(query)&period=all"] {
            let body = try await fixture.get(path).body
            #expect(!body.contains("<script>alert") && !body.contains("<img") && !body.contains("<b>"))
            #expect(body.contains("&lt;script&gt;alert(1)"))
        }
        #expect(try await fixture.get("/?q=%ff%fe&standing=%3Cb%3E&period=x&page=-3").status == .ok)
        #expect(try await fixture.get("/?q=a&q=b&page=99999999999999999999").status == .ok)
    }

    @Test func withoutTheRightNothingOfThePatientIsSeenOrFound() async throws {
        let fixture = try ConsoleFixture(Visitor())
        try await record(1, name: "DOE^JANE", in: fixture)
        try await conclude(1, .positive, in: fixture)
        for path in ["/", "/worklist/list", "/?q=doe", "/?q=nobody", "/worklist/list?q=nobody"] {
            let body = try await fixture.get(path).body
            for hidden in ["DOE", "JANE", "4711", "ACC1", "CCT", "73 y", "female", "19500201"] {
                #expect(!body.contains(hidden))
            }
            // Nor does an answer say whether there is such a patient.
            #expect(body.contains("id=\"study-1.2.1\"") && !body.contains("name=\"q\""))
        }
    }

    @Test func anEmptyListSaysWhatHidesHowMany() async throws {
        let fixture = try ConsoleFixture()
        #expect(try await fixture.get("/").body.contains("No study has been received yet."))
        try await record(1, name: "DOE", in: fixture)
        try await record(2, name: "ROE", in: fixture)
        try await conclude(1, .negative, in: fixture)
        let standing = try await fixture.get("/?q=doe&standing=positive").body
        #expect(standing.contains("1 study is hidden by the standing: <a href=\"/?q=doe\">"))
        #expect(!standing.contains("hidden by the text"))
        let text = try await fixture.get("/?q=100%25+%2B&standing=negative").body
        #expect(text.contains("1 study is hidden by the text: <a href=\"/?standing=negative\">"))
        #expect(text.contains("value=\"100% +\""))
        let both = try await fixture.get("/?q=nobody&standing=undetermined").body
        #expect(both.contains("2 studies are hidden by the filter"))
        #expect(try await fixture.get("/?page=2").body.contains("hidden by that there is no such page"))
    }

    @Test func pagesAreBounded() async throws {
        let fixture = try ConsoleFixture()
        for number in 1...51 { try await record(number, name: "P\(number)", hoursAgo: 1, in: fixture) }
        let first = try await fixture.get("/").body
        #expect(first.components(separatedBy: "<tr id=").count == 51)
        #expect(
            first.contains("1 to 50 of 51") && first.contains("href=\"/?page=2\"") && !first.contains("rel=\"prev\""))
        let second = try await fixture.get("/?page=2").body
        #expect(second.components(separatedBy: "<tr id=").count == 2)
        #expect(second.contains("51 to 51 of 51") && !second.contains("rel=\"next\""))
    }

    @Test func alertsAreAboveTheList() async throws {
        let fixture = try ConsoleFixture()
        #expect(try await !fixture.get("/").body.contains("Needs an operator"))
        let conditions = (1...5).map { OperatorCondition(.destinationFailing, "pacs\($0)", "pacs\($0) <fails>") }
        _ = try await fixture.ledger.updateOperatorAlerts(to: conditions) { _ in [] }
        let body = try await fixture.get("/worklist/list").body
        #expect(body.contains("<a href=\"/alerts\">") && body.contains("pacs5 &lt;fails&gt;"))
        #expect(body.components(separatedBy: "&lt;fails&gt;").count == 4 && body.contains("and more"))
    }

    @Test(arguments: [
        ("DOE^JANE", "DOE, JANE"), ("Yamada^Tarou=山田^太郎", "Yamada, Tarou · 山田, 太郎"), ("DOE", "DOE"), ("^JANE", "JANE"),
        ("", ""), ("^^^", ""), ("A^B^C^Prof.^Jr", "A, B C (Prof., Jr)"),
    ])
    func writesNames(name: String, readable: String) { #expect(PatientWords.name(name) == readable) }

    @Test func agesAreOfTheDayOfTheStudy() {
        #expect(PatientWords.age(birthDate: "19500201", on: "20230131") == "72 y")
        #expect(PatientWords.age(birthDate: "19500201", on: "20230201") == "73 y")
        #expect(PatientWords.age(birthDate: "2022.06.15", on: "20230114") == "6 mo")
        #expect(PatientWords.age(birthDate: "19501301", on: "20230114") == nil)
        #expect(PatientWords.age(birthDate: "20240101", on: "20230114") == nil)
        #expect(PatientWords.age(birthDate: nil, on: "20230114") == nil)
    }
}
