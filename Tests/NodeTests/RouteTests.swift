import AlertDispatcher
import Foundation
import Testing
import WorkerProtocol

@testable import ichnode

@Suite struct RouteTests {
    private static let configuration = """
        node: {ae_title: ICHNODE, further_ae_titles: [STROKE, TRIAGE]}
        peers:
          - {name: pacs, ae_title: PACS, host: 10.0.0.1, port: 104}
          - {name: small, ae_title: Pacs, host: 10.0.0.2, port: 104}
          - {name: archive, ae_title: ARCHIVE, host: 10.0.0.3, port: 11112}
          - {name: spaced, ae_title: "CT 9", host: 10.0.0.4, port: 104}
        webhooks:
          - {name: team, url: "https://team.example/", secret_file: /etc/ichnode/team.secret}
          - {name: ris, url: "https://ris.example/", secret_file: /etc/ichnode/ris.secret}
        routes:
          - {name: stroke, called_ae_titles: [STROKE], destinations: [pacs, archive], sr_class: comprehensive3d,
             threshold: high-sensitivity, alerts: [team, ris], summary: false, counts_from: pacs}
          - {name: north, calling_ae_titles: [CT1, CT2], institutions: ["^north", "^nord"], destinations: [archive],
             threshold: 0.25, urgency: asap, alerts: [ris]}
          - {name: children, institutions: ["kinder", "children"], destinations: [pacs], threshold: high-ppv,
             urgency: routine}
          - {name: triage, called_ae_titles: [TRIAGE], destinations: [sender, archive], threshold: high-ppv}
          - {name: answer, calling_ae_titles: [PACS, ARCHIVE, CT7], destinations: [sender], key_objects: true}
          - {name: small, calling_ae_titles: [" Pacs "], destinations: [small, pacs, sender], retrieve_from: small}
          - {name: nameless, calling_ae_titles: [CT3], institutions: ["^$"], destinations: [pacs], threshold: 1}
          - {name: rest, called_ae_titles: [ICHNODE], calling_ae_titles: [CT1, "CT 9", CT3], destinations: [small]}
        """

    private func read(_ text: String = Self.configuration) throws -> NodeConfiguration {
        try ConfigurationReader.parse(text, file: "test.yaml")
    }

    /// A study, and what becomes of it.
    struct Case: CustomTestStringConvertible, Sendable {
        let calling: String?, called: String
        let institution: String?
        /// nil: none.
        let route: String?
        let destinations: [String]
        let threshold: String
        /// Route by route: x passed over, T takes it, - not asked.
        let verdicts: String
        /// Of the explanation.
        let line: String
        var testDescription: String { "\(calling ?? "nobody") to \(called), \(institution ?? "no institution")" }

        init(
            _ calling: String?, _ called: String, _ institution: String?, _ route: String?, _ destinations: [String],
            _ threshold: String, _ verdicts: String, _ line: String
        ) {
            (self.calling, self.called, self.institution, self.route) = (calling, called, institution, route)
            (self.destinations, self.threshold, self.verdicts, self.line) = (destinations, threshold, verdicts, line)
        }
    }

    private static let both = ["pacs", "archive"]
    private static let notStroke = "1. stroke: passed over: called AE title ICHNODE is not among STROKE"

    static let cases: [Case] = [
        // The called AE title alone.
        Case("CT1", "STROKE", nil, "stroke", both, "high-sensitivity", "T-------", "   alerts: team, ris, stat"),
        Case(
            "CT2", "STROKE", "North Hospital", "stroke", both, "high-sensitivity", "T-------",
            "2. north: not asked: stroke comes before it"),
        Case("PACS", " STROKE ", nil, "stroke", both, "high-sensitivity", "T-------", "   report: comprehensive3d"),
        Case(nil, "STROKE", nil, "stroke", both, "high-sensitivity", "T-------", "1. stroke: takes the study"),
        Case(
            "CT1", "stroke", nil, nil, [], "", "xxxxxxxx",
            "1. stroke: passed over: called AE title stroke is not among STROKE (\"STROKE\" differs in case or inner "
                + "spaces, which count)"),
        // Sender and institution together.
        Case("CT1", "ICHNODE", "North Hospital", "north", ["archive"], "0.25", "xT------", notStroke),
        Case("CT2", "ICHNODE", "NORTH-EAST", "north", ["archive"], "0.25", "xT------", "   alerts: ris, asap"),
        Case("CT2", "TRIAGE", "nördlich", "north", ["archive"], "0.25", "xT------", "   threshold: 0.25"),
        Case(
            "CT1", "ICHNODE", "The North", "rest", ["small"], "balanced", "xxxxxxxT",
            "2. north: passed over: institution \"The North\" does not match \"^north\", \"^nord\""),
        Case(
            "CT1", "ICHNODE", nil, "rest", ["small"], "balanced", "xxxxxxxT",
            "2. north: passed over: institution unknown does not match \"^north\", \"^nord\""),
        Case(
            "CT9", "ICHNODE", "North", nil, [], "", "xxxxxxxx",
            "2. north: passed over: calling AE title CT9 is not among CT1, CT2"),
        Case(
            "ct1", "ICHNODE", "South", nil, [], "", "xxxxxxxx",
            "2. north: passed over: calling AE title ct1 is not among CT1, CT2 (\"CT1\" differs in case or inner "
                + "spaces, which count); institution \"South\" does not match \"^north\", \"^nord\""),
        // The institution alone: in lower case, without accents, anywhere in the text.
        Case(
            "CT9", "ICHNODE", "Kinderklinik", "children", ["pacs"], "high-ppv", "xxT-----", "   alerts: nobody, routine"
        ),
        Case(
            "CT9", "TRIAGE", "ST. CHILDREN'S", "children", ["pacs"], "high-ppv", "xxT-----",
            "3. children: takes the study"),
        Case(nil, "ICHNODE", "Univ. Kinder-Spital", "children", ["pacs"], "high-ppv", "xxT-----", notStroke),
        Case(
            "CT1", "ICHNODE", "Nordkinder", "north", ["archive"], "0.25", "xT------",
            "3. children: not asked: north comes before it"),
        // To the sender, and to others.
        Case(
            "PACS", "TRIAGE", nil, "triage", ["pacs", "archive"], "high-ppv", "xxxT----", "4. triage: takes the study"),
        Case("Pacs", "TRIAGE", nil, "triage", ["small", "archive"], "high-ppv", "xxxT----", "   counts from: nobody"),
        Case("ARCHIVE", "TRIAGE", nil, "triage", ["archive"], "high-ppv", "xxxT----", "5. answer: not asked: triage"),
        Case(
            "CT1", "TRIAGE", nil, nil, [], "", "xxxxxxxx",
            "4. triage: passed over: it answers to the sender, and no peer has the AE title CT1"),
        Case(
            "CT9", "TRIAGE", nil, nil, [], "", "xxxxxxxx",
            "4. triage: passed over: it answers to the sender, and no peer has the AE title CT9 (\"CT 9\" differs in "
                + "case or inner spaces, which count)"),
        Case(
            "CT 9", "TRIAGE", nil, "triage", ["spaced", "archive"], "high-ppv", "xxxT----",
            "1. stroke: passed over: called AE title TRIAGE"),
        // To the sender alone, by its exact title.
        Case(
            "PACS", "ICHNODE", nil, "answer", ["pacs"], "balanced", "xxxxT---",
            "   report: enhanced, summary, key objects"),
        Case(
            "  ARCHIVE", "ICHNODE", "West", "answer", ["archive"], "balanced", "xxxxT---",
            "5. answer: takes the study"),
        Case(
            "CT7", "ICHNODE", nil, nil, [], "", "xxxxxxxx",
            "5. answer: passed over: it answers to the sender, and no peer has the AE title CT7"),
        Case(
            "Pacs", "ICHNODE", nil, "small", ["small", "pacs"], "balanced", "xxxxxT--",
            "5. answer: passed over: calling AE title Pacs is not among PACS, ARCHIVE, CT7 (\"PACS\" differs"),
        // Where the header names no institution.
        Case(
            "CT3", "ICHNODE", nil, "nameless", ["pacs"], "1", "xxxxxxT-", "8. rest: not asked: nameless comes before it"
        ),
        Case(
            "CT3", "ICHNODE", "West", "rest", ["small"], "balanced", "xxxxxxxT",
            "7. nameless: passed over: institution \"West\" does not match \"^$\""),
        // Nobody's.
        Case(
            nil, "ICHNODE", nil, nil, [], "", "xxxxxxxx",
            "8. rest: passed over: calling AE title unknown is not among CT1, CT 9, CT3"),
        Case(
            "CT 9", "ichnode", nil, nil, [], "", "xxxxxxxx",
            "No route takes it: undetermined, and nothing is sent."),
    ]

    @Test(arguments: cases) func theFirstRouteThatTakesTheStudyHasIt(each: Case) throws {
        let configuration = try read()
        let origin = StudyOrigin(
            callingAETitle: each.calling.flatMap { AETitle($0) }, calledAETitle: AETitle(each.called),
            institutionName: each.institution)
        let route = configuration.routeTable.route(for: origin)
        #expect(route?.name == each.route)
        #expect(route?.destinations ?? [] == each.destinations)
        #expect(route?.threshold ?? "" == each.threshold)

        let explanation = RouteText.explanation(of: origin, configuration)
        let lines = explanation.text.components(separatedBy: "\n")
        #expect(explanation.isTaken == (each.route != nil))
        let verdicts = lines.filter { $0.first?.isNumber == true }.map { line in
            line.contains(": passed over: ") ? "x" : line.hasSuffix(": takes the study") ? "T" : "-"
        }
        #expect(verdicts.joined() == each.verdicts)
        #expect(lines.contains { $0.hasPrefix(each.line) }, "\(explanation.text)")
    }

    @Test func thereAreThirtyStudies() { #expect(Self.cases.count == 30) }

    @Test func theExplanationNamesEachRouteAndWhatTheTakenOneDoes() throws {
        let origin = StudyOrigin(
            callingAETitle: AETitle("Pacs"), calledAETitle: AETitle("ICHNODE"), institutionName: "West")
        let text = RouteText.explanation(of: origin, try read()).text
        let expected = """
            Study of calling AE title Pacs, called AE title ICHNODE, institution "West"
            1. stroke: passed over: called AE title ICHNODE is not among STROKE
            2. north: passed over: calling AE title Pacs is not among CT1, CT2; institution "West" does not match \
            "^north", "^nord"
            3. children: passed over: institution "West" does not match "kinder", "children"
            4. triage: passed over: called AE title ICHNODE is not among TRIAGE
            5. answer: passed over: calling AE title Pacs is not among PACS, ARCHIVE, CT7 ("PACS" differs in case or \
            inner spaces, which count)
            6. small: takes the study
               destinations: small (Pacs at 10.0.0.2:104), pacs (PACS at 10.0.0.1:104)
               report: enhanced, summary
               threshold: balanced
               alerts: nobody, stat
               counts from: nobody; missing images from: small
            7. nameless: not asked: small comes before it
            8. rest: not asked: small comes before it
            """
        #expect(text == expected)
    }

    @Test func anInstitutionIsOneLineOfText() {
        let name = "North\r\nHospital\u{1b}[31m" + String(repeating: "é", count: 100)
        let text = StudyOrigin(institutionName: name).institutionText
        #expect(text == "\"North??Hospital?[31m" + String(repeating: "é", count: 44) + "\"")
        #expect(RouteText.noRoute(StudyOrigin()).contains("institution unknown"))
    }

    @Test func aStudyComesFromTheFirstInstanceThatSaysSo() {
        func record(_ number: Int, _ calling: String?, _ called: String?, _ institution: String?) -> InstanceRecord {
            var record = InstanceRecord(
                sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.\(number)")!,
                studyInstanceUID: UID("1.7")!, seriesInstanceUID: UID("1.8")!,
                transferSyntaxUID: UID("1.2.840.10008.1.2")!, callingAETitle: calling.flatMap { AETitle($0) },
                calledAETitle: called.flatMap { AETitle($0) })
            record.study.institutionName = institution
            return record
        }
        let records = [
            record(1, nil, "A", nil), record(2, "CT1", "B", nil), record(3, "CT2", "C", "West"),
            record(4, "CT3", "D", "East"),
        ]
        #expect(
            StudyOrigin(records)
                == StudyOrigin(callingAETitle: AETitle("CT1"), calledAETitle: AETitle("B"), institutionName: "West"))
        #expect(StudyOrigin([]) == StudyOrigin())
    }

    @Test(arguments: [
        ("urgency: soon", "routes[0].urgency has to be one of stat, asap, routine"),
        ("institutions: [\"(\"]", "routes[0].institutions: \"(\" is not a regular expression"),
        ("alerts: ris", "routes[0].alerts has to be a list in brackets"),
        ("destinations: [sender, nobody]", "routes \"a\" sends to \"nobody\", which is no peer"),
    ])
    func saysWhatIsWrongWithARoute(key: String, expected: String) throws {
        let keys = key.hasPrefix("destinations") ? key : "destinations: [sender], \(key)"
        let error = try #require(throws: ConfigurationError.self) {
            _ = try read("peers: [{name: p, ae_title: P, host: h}]\nroutes: [{name: a, \(keys)}]")
        }
        #expect(error.problems.contains { $0.text.hasPrefix(expected) }, "\(error)")
    }

    @Test func whoTheSenderIsIsNeverAGuess() throws {
        let peers = "peers: [{name: p, ae_title: P, host: h}, {name: q, ae_title: P, host: i}]\n"
        _ = try read(peers + "routes: [{name: a, destinations: [p, q]}]")
        for text in [
            peers + "routes: [{name: a, destinations: [sender]}]",
            "peers: [{name: sender, ae_title: P, host: h}]\nroutes: [{name: a, destinations: [sender]}]",
        ] {
            #expect(throws: ConfigurationError.self) { _ = try read(text) }
        }
    }

    @Test func theExampleStatesTheDefaultsOfARoute() throws {
        let example = try ConfigurationReader.read(path: Repository.file("etc/ichnode.yaml"))
        let bare = try read(
            "peers: [{name: pacs, ae_title: P, host: h}]\nroutes: [{name: default, destinations: [pacs]}]")
        #expect(example.routes == bare.routes)
    }
}
