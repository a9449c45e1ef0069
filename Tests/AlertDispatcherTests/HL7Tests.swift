import Foundation
import Ledger
import Testing
import WorkerProtocol

@testable import AlertDispatcher

@Suite struct HL7SegmentTests {
    @Test(
        arguments: [
            ("plain", "plain"), ("a|b^c&d~e\\f", "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f"), ("\\F\\", "\\E\\F\\E\\"),
            // Nothing ends a segment or a block but what is meant to.
            ("a\rb\nc", "a\\X0D\\b\\X0A\\c"), ("a\r\nb", "a\\X0D\\\\X0A\\b"),
            ("\u{0B}\u{1C}\r", "\\X0B\\\\X1C\\\\X0D\\"),
            ("\u{0}\u{7F}\u{85}", "\\X00\\\\X7F\\\\XC285\\"),
            // What is no delimiter stays as it is: combining marks, characters beyond the first plane, joiners.
            ("Mu\u{308}ller 山田 \u{1F9E0} \u{200D}", "Mu\u{308}ller 山田 \u{1F9E0} \u{200D}"),
            // A delimiter with a combining mark is one Character, and a delimiter all the same.
            ("|\u{301}", "\\F\\\u{301}"),
        ])
    func valuesAreEscaped(value: String, expected: String) {
        #expect(Array(HL7Field(value).text.unicodeScalars) == Array(expected.unicodeScalars))
    }

    @Test func componentsRepetitionsAndFieldsAreSeparated() {
        let segment = HL7Segment(
            "PID",
            [
                1: "1", 3: HL7Field("A^1", "", "", "H&H", "MR"), 4: HL7Field("x", "", ""),
                5: HL7Field(repetitions: [HL7Field("B"), HL7Field("C", "D")]), 9: "",
            ])
        #expect(segment.text == "PID|1||A\\S\\1^^^H\\T\\H^MR|x|B~C^D")
        #expect(HL7Segment("MSH", [3: "US", 10: "7"]).text == "MSH|^~\\&|US|||||||7")
        #expect(HL7Segment("PV1", [:]).text == "PV1")
    }

    @Test func messagesAreReadWithTheirOwnDelimiters() throws {
        let message = try #require(HL7Message("MSH#*~\\&#A##B\r\nMSA#AA#17#fine\rOBX#1#ST\nOBX#2#NM##x\r"))
        #expect(message.field("MSH", 1) == "#" && message.field("MSH", 2) == "*~\\&" && message.field("MSH", 5) == "B")
        #expect(message.field("MSA", 2) == "17")
        #expect(message.field("OBX", 2) == "ST" && message.field("OBX", 2, set: 2) == "NM")
        #expect(message.field("OBX", 9, set: 2) == "" && message.field("OBX", 2, set: 3) == nil)
        #expect(message.field("ERR", 1) == nil)
        for text in ["", "MSH", "MS", "PID|1", "\r\r", "GET / HTTP/1.1\r\n"] {
            #expect(HL7Message(text) == nil, "\(text)")
        }
    }
}

@Suite struct HL7PersonNameTests {
    @Test(
        arguments: [
            ("Müller^Jörg^Maria^Dr.^Jr.", "Müller^Jörg^Maria^Jr.^Dr.^^^A"),
            ("YAMADA^TARO=山田^太郎=やまだ^たろう", "YAMADA^TARO^^^^^^A~山田^太郎^^^^^^I~やまだ^たろう^^^^^^P"),
            ("=山田^太郎", "山田^太郎^^^^^^I"), ("WANG", "WANG^^^^^^^A"),
            ("O'Neil & Sons^A|B ", "O'Neil \\T\\ Sons^A\\F\\B^^^^^^A"),
            ("A^B^C^D^E^F^G", "A^B^C^E^D^^^A"), ("", "^^^^^^U"), ("^^=^=", "^^^^^^U"),
            ("A=B=C=D", "A^^^^^^^A~B^^^^^^^I~C^^^^^^^P"),
        ])
    func patientsNamesAreCarriedOver(name: String, expected: String) {
        #expect(HL7PersonName(name).patient.text == expected)
    }

    @Test func physiciansHaveNoNumber() {
        #expect(HL7PersonName("House^Gregory^^Dr.").physician.text == "^House^Gregory^^^Dr.^^^^^^^^^A")
        #expect(HL7PersonName("").physician.text == "")
    }
}

@Suite struct HL7FindingMessageTests {
    static func identity() -> CarriedIdentity {
        var study = StudyAttributes()
        (study.date, study.time, study.timezoneOffset) = ("20240506", "070809.5", "-0330")
        (study.accessionNumber, study.description) = ("A0001", "CT HEAD")
        return CarriedIdentity(
            patient: PatientIdentity(
                name: "PHANTOM^HEAD", id: "P1", issuerOfID: "EXAMPLE HOSPITAL", birthDate: "19500101", sex: "O"),
            study: study, referringPhysicianName: "DOCTOR^REFERRING")
    }

    static func alert(
        _ presence: Presence = .present, probability: Double? = 0.9344, identity: CarriedIdentity = identity(),
        report: String = "2.25.99", at: String = "2024-05-06T12:00:00Z"
    ) throws -> FindingAlert {
        let at = try Date(at, strategy: .iso8601)
        return FindingAlert(
            kind: .finding, studyInstanceUID: UID("1.2.3")!, identity: identity, presence: presence,
            reason: presence == .undetermined ? "slices missing" : "", probability: probability, threshold: 0.5,
            urgency: .stat,
            flagged: [], model: .init(name: "m", version: "1", digest: "d"), report: try #require(UID(report)),
            revision: 1, deviceUID: UID("2.25.7")!,
            firstReceivedAt: at, lastReceivedAt: at.addingTimeInterval(-4), analysedAt: at.addingTimeInterval(-2),
            concludedAt: at,
            studyMoment: StudyMoment(identity.study, timeZone: .gmt))
    }

    /// What the receiver is told; nil: nothing.
    static func message(
        of alert: FindingAlert, by receiver: HL7Receiver = receiver(), after told: OutboundMessage? = nil
    ) throws -> OutboundMessage? {
        try AlertDesk([receiver], mostStudyAge: .seconds(86400)).message(of: alert, by: receiver, after: told)
    }

    static func receiver(
        acknowledgement: HL7Convention.Acknowledgement = .original, type: HL7Convention.StudyUIDType = .st
    ) -> HL7Receiver {
        HL7Receiver(
            .init(
                name: "ris", host: "127.0.0.1", port: 1,
                convention: HL7Convention(
                    sendingApplication: "ICHNODE", sendingFacility: "RADIOLOGY", receivingApplication: "RIS",
                    receivingFacility: "HOSP", acknowledgement: acknowledgement, studyUIDType: type)))
    }

    private func local(_ text: String) throws -> String {
        let moment = DICOMMoment(try Date(text, strategy: .iso8601))
        return moment.date + moment.time + moment.offset
    }

    private func lines(_ message: OutboundMessage?) throws -> [String] {
        let body = try #require(message).body
        #expect(body.hasSuffix("\r"))
        return body.split(separator: "\r").map(String.init)
    }

    @Test func saysWhatWasFound() throws {
        let message = try #require(try Self.message(of: Self.alert()))
        let (sent, observed) = (try local("2024-05-06T12:00:00Z"), try local("2024-05-06T11:59:58Z"))
        #expect(message.id.wholeMatch(of: /[0-9A-F]{20}/) != nil)
        #expect(
            try lines(message) == [
                "MSH|^~\\&|ICHNODE|RADIOLOGY|RIS|HOSP|\(sent)||ORU^R01^ORU_R01|\(message.id)|P|2.5.1|"
                    + "|||||UNICODE UTF-8",
                "PID|1||P1^^^EXAMPLE HOSPITAL^MR||PHANTOM^HEAD^^^^^^A||19500101|O",
                "PV1|1|U||||||^DOCTOR^REFERRING^^^^^^^^^^^^A", "ORC|RE||A0001",
                "OBR|1||A0001|^CT HEAD^L|||20240506070809-0330|||||||||||A0001||||\(sent)||CT|P",
                "TQ1|1||||||||S^Stat^HL70485", "OBX|1|ST|113014^DICOM Study^DCM||1.2.3||||||O",
                "OBX|2|CWE|1386000^Intracranial hemorrhage^SCT||52101004^Present^SCT|||AA|||P|||\(observed)||||2.25.7",
                "OBX|3|NM|122157^Probability^DCM||0.934|1^no units^UCUM|||||P|||\(observed)||||2.25.7",
                "OBX|4|TX|59776-5^Procedure Findings^LN||Intracranial hemorrhage suspected (unverified), "
                    + "probability 0.934, operating point 0.500. AI triage for research use, "
                    + "not for diagnostic use.|||AA|||P|||\(observed)||||2.25.7",
            ])
    }

    @Test(arguments: ["x", "|", "\u{1F9E0}", "e\u{301}"])
    func aLongReasonIsCut(character: String) throws {
        var alert = try Self.alert(.undetermined, probability: nil)
        for (count, isCut) in [(1, false), (200, true), (5000, true)] {
            alert.reason = String(repeating: character, count: count)
            let body = try #require(try Self.message(of: alert, after: Self.told())).body
            let text = try #require(HL7Message(body)?.field("OBX", 5, set: 4))
            #expect(text.unicodeScalars.count <= 199)
            #expect(text.hasPrefix("Correction: Not analysed, this is not a negative result. AI triage"))
            #expect(text.hasSuffix("…") == isCut)
        }
    }

    private static func told() throws -> OutboundMessage? { try Self.message(of: alert()) }

    @Test func receiversHaveTheirConventions() throws {
        let receiver = Self.receiver(acknowledgement: .enhanced, type: .hd)
        let lines = try lines(try Self.message(of: Self.alert(), by: receiver))
        #expect(lines[0].hasSuffix("|P|2.5.1|||AL|NE||UNICODE UTF-8"))
        #expect(lines[6] == "OBX|1|HD|113014^DICOM Study^DCM||1.2.3^1.2.3^ISO||||||O")
    }

    @Test(arguments: [(Urgency.stat, "S^Stat"), (.asap, "A^ASAP"), (.routine, "R^Routine")])
    func aPositiveIsAsUrgentAsItsRouteSays(urgency: Urgency, priority: String) throws {
        var alert = try Self.alert()
        alert.urgency = urgency
        #expect(try lines(try Self.message(of: alert))[5] == "TQ1|1||||||||\(priority)^HL70485")
    }

    @Test func whatAStudyLacksLeavesRequiredFieldsValued() throws {
        let bare = CarriedIdentity(patient: PatientIdentity(), study: StudyAttributes())
        let lines = try lines(try Self.message(of: Self.alert(identity: bare)))
        #expect(lines[1] == "PID|1||^^^^MR||^^^^^^U")
        #expect(lines[2] == "PV1|1|U")
        #expect(lines[3] == "ORC|RE||1.2.3")
        #expect(lines[4].hasPrefix("OBR|1||1.2.3|25045-6^CT unspecified body region^LN|||||||||||||||||"))
    }

    @Test func impossibleDemographicsAreLeftOut() throws {
        var identity = Self.identity()
        (identity.patient.birthDate, identity.patient.sex) = ("19500231", "W")
        (identity.study.date, identity.study.timezoneOffset) = ("2024-05-06", "+9900")
        identity.procedureCode = CodedEntry(value: "CTH|1", scheme: "99HOSP", meaning: "Head, plain")
        let lines = try lines(try Self.message(of: Self.alert(identity: identity)))
        #expect(lines[1].hasSuffix("^A|||U"))
        #expect(lines[4].hasPrefix("OBR|1||A0001|CTH\\F\\1^Head, plain^99HOSP||||||||||||||A0001|"))
    }

    // MARK: Who is told what

    @Test func negativeAndUndeterminedStudiesAreNotTold() throws {
        #expect(try Self.message(of: Self.alert(.absent, probability: 0.1)) == nil)
        #expect(try Self.message(of: Self.alert(.undetermined, probability: nil)) == nil)
    }

    @Test func theSameConclusionHasTheSameIdentifierForEver() throws {
        let first = try Self.message(of: Self.alert())
        #expect(try first?.id == Self.message(of: Self.alert(at: "2024-05-06T13:00:00Z"))?.id)
        #expect(try first?.id != Self.message(of: Self.alert(report: "2.25.98"))?.id)
    }

    @Test func aRevisionThatSaysTheSameSendsNothing() throws {
        let told = try Self.message(of: Self.alert())
        #expect(try Self.message(of: Self.alert(probability: 0.9341, report: "2.25.98"), after: told) == nil)
    }

    @Test(
        arguments: [
            (.present, 0.71, "52101004^Present^SCT", "AA", "0.710", "P", "S^Stat^HL70485"),
            (.absent, 0.11, "272519000^Absent^SCT", "N", "0.110", "P", "R^Routine^HL70485"),
            (.undetermined, nil, "373068000^Undetermined^SCT", "", "", "X", "R^Routine^HL70485"),
        ] as [(Presence, Double?, String, String, String, String, String)])
    func aRevisionThatSaysSomethingElseTakesThePlaceOfTheFirst(
        presence: Presence, probability: Double?, code: String, flag: String, value: String, status: String,
        priority: String
    ) throws {
        let told = try #require(try Self.message(of: Self.alert()))
        var identity = Self.identity()
        identity.study.accessionNumber = "ANOTHER"
        // However late: who was told has to know.
        let alert = try Self.alert(
            presence, probability: probability, identity: identity, report: "2.25.98", at: "2025-01-01T00:00:00Z")
        let message = try #require(try Self.message(of: alert, after: told))
        let parsed = try #require(HL7Message(message.body))
        #expect(message.id != told.id)
        #expect(parsed.field("ORC", 3) == "A0001" && parsed.field("OBR", 3) == "A0001")
        #expect(parsed.field("OBR", 18) == "ANOTHER" && parsed.field("OBR", 25) == "P")
        #expect(parsed.field("OBX", 5, set: 2) == code && parsed.field("OBX", 8, set: 2) == flag)
        #expect(parsed.field("OBX", 11, set: 2) == "P" && parsed.field("OBX", 11, set: 4) == "P")
        #expect(parsed.field("OBX", 5, set: 3) == value && parsed.field("OBX", 11, set: 3) == status)
        #expect(parsed.field("OBX", 5, set: 4)?.hasPrefix("Correction: ") == true)
        #expect(parsed.field("TQ1", 9) == priority)
        // And back again.
        let positive = try Self.alert(report: "2.25.97", at: "2025-01-01T00:00:00Z")
        let again = try Self.message(of: positive, after: message)
        #expect(again.flatMap { HL7Message($0.body) }?.field("OBX", 8, set: 2) == "AA")
    }

    @Test func aStudyThatTurnsOutToBeAnotherPatientsIsToldAgain() throws {
        let told = try Self.message(of: Self.alert())
        var identity = Self.identity()
        identity.patient.id = "P2"
        #expect(try Self.message(of: Self.alert(identity: identity, report: "2.25.98"), after: told) != nil)
    }

    @Test(
        arguments: [
            // The study began 2024-05-06 07:08:09 at -03:30, which is 10:38:09 UTC.
            ("2024-05-07T10:38:09Z", true), ("2024-05-07T10:38:10Z", false), ("2024-05-06T10:00:00Z", true),
            ("2034-05-06T10:00:00Z", false),
        ])
    func onlyStudiesOfTheLastDayAreTold(at: String, isTold: Bool) throws {
        #expect((try Self.message(of: Self.alert(at: at)) != nil) == isTold)
    }

    @Test func aStudyOfUnknownAgeIsTold() throws {
        var identity = Self.identity()
        identity.study.date = nil
        let alert = try Self.alert(identity: identity, at: "2034-01-01T00:00:00Z")
        #expect(try Self.message(of: alert) != nil)
    }
}

@Suite struct AlertDeskTests {
    private let composed = ComposedResult(
        objects: [], alternatives: [],
        report: ImageReference(
            sopClassUID: ReportClass.enhanced.sopClassUID, sopInstanceUID: UID("2.25.99")!,
            seriesInstanceUID: UID("2.25.98")!),
        identity: HL7FindingMessageTests.identity(), deviceUID: UID("2.25.7")!,
        algorithm: .init(name: "m", version: "1", digest: "d"))

    private func report(_ presence: Presence) -> StudyReport {
        StudyReport(
            studyInstanceUID: UID("1.2.3")!, revisionDigest: "r", presence: presence, reason: "",
            studyProbability: 0.9, thresholdName: "balanced", threshold: 0.5, images: [], flagged: [], seriesText: "",
            completionText: "", startedAt: .now)
    }

    private func told(
        _ name: String, _ state: DeliveryState, attempts: Int, mayBeHeard: Bool = false
    ) throws -> DeliveryEntry {
        let message = try #require(try HL7FindingMessageTests.message(of: HL7FindingMessageTests.alert()))
        var values: [String: Any] = [
            "id": 1, "studyInstanceUID": "1.2.3", "destination": name, "state": state.rawValue, "priority": 0,
            "attempts": attempts, "nextAttemptAt": 0, "createdAt": 0, "objects": [String](),
            "message": ["id": message.id, "body": message.body],
        ]
        if mayBeHeard { values["commitmentAskedAt"] = 0 }
        return try JSONDecoder().decode(DeliveryEntry.self, from: JSONSerialization.data(withJSONObject: values))
    }

    private func deliveries(
        _ presence: Presence, age: TimeInterval = 0, to names: [String] = [], after earlier: [DeliveryEntry] = []
    ) throws -> [NewDelivery] {
        let began = try Date("2024-05-06T10:38:09Z", strategy: .iso8601)
        let desk = AlertDesk([HL7FindingMessageTests.receiver()], mostStudyAge: .seconds(86400))
        return try desk.deliveries(
            of: report(presence), as: composed, received: began + age...began + age, concludedAt: began + age,
            by: Route(name: "r", destinations: [], alerts: names), priority: 0, after: earlier
        ).owed
    }

    @Test func aStudyDoesNotGrowOldHereAndWhoIsLeftOutForItsAgeIsSaid() throws {
        let began = try Date("2024-05-06T10:38:09Z", strategy: .iso8601)
        let desk = AlertDesk([HL7FindingMessageTests.receiver()], mostStudyAge: .seconds(86400))
        func told(_ presence: Presence, firstAfter seconds: Double) throws -> (owed: [NewDelivery], leftOut: [String]) {
            try desk.deliveries(
                of: report(presence), as: composed, received: began + seconds...began + 1e6, concludedAt: began + 2e6,
                by: Route(name: "r", destinations: [], alerts: ["ris"]), priority: 0, after: [])
        }
        let young = try told(.present, firstAfter: 86400)
        #expect(young.owed.map(\.destination) == ["ris"] && young.leftOut.isEmpty)
        let old = try told(.present, firstAfter: 86401)
        #expect(old.owed.isEmpty && old.leftOut == ["ris"])
        #expect(try told(.absent, firstAfter: 86401).leftOut.isEmpty)
        #expect(desk.leavingOut([]) == nil)
        #expect(desk.leavingOut(old.leftOut)?.hasPrefix("ris not told: the study was older than 24 hours") == true)
    }

    @Test func aRoutesReceiversAreToldOfPositives() throws {
        let deliveries = try deliveries(.present, to: ["other", "ris"])
        #expect(deliveries.map(\.destination) == ["ris"])
        #expect(deliveries[0].message?.body.contains("52101004") == true && deliveries[0].objects.isEmpty)
        #expect(try self.deliveries(.present, to: ["other"]).isEmpty)
        #expect(try self.deliveries(.absent, to: ["ris"]).isEmpty)
        #expect(try self.deliveries(.present, age: 86401, to: ["ris"]).isEmpty)
    }

    @Test func whoWasToldIsToldOn() throws {
        // By another route by then, and years later.
        for state in [DeliveryState.delivered, .pending, .dead, .superseded] {
            let correction = try deliveries(.absent, age: 1e8, after: [told("ris", state, attempts: 0)])
            #expect(correction.first?.message?.body.contains("272519000") == true, "\(state)")
        }
        let heard = try told("ris", .discarded, attempts: 1, mayBeHeard: true)
        #expect(try deliveries(.absent, after: [heard]).count == 1)
        #expect(try deliveries(.absent, to: ["ris"], after: [told("ris", .discarded, attempts: 0)]).isEmpty)
        // Withdrawn while the receiver was out of reach.
        let unheard = try told("ris", .discarded, attempts: 9)
        #expect(try deliveries(.absent, to: ["ris"], after: [unheard]).isEmpty)
        let alert = try deliveries(.present, to: ["ris"], after: [unheard])
        #expect(alert.first?.message?.body.contains("Correction: ") == false)
        #expect(try deliveries(.absent, to: ["ris"], after: [told("other", .delivered, attempts: 1)]).isEmpty)
    }
}

@Suite struct HL7AcknowledgementTests {
    private func answer(_ msa: String, _ more: String = "") -> String {
        "MSH|^~\\&|RIS|HOSP|ICHNODE||20240506||ACK^R01^ACK|X|P|2.5.1\r\(msa)\r\(more)"
    }

    @Test(arguments: ["AA", "CA"])
    func acceptedIsDelivered(code: String) throws {
        #expect(try HL7Acknowledgement.fate(answer("MSA|\(code)|17"), of: "17") == .delivered)
    }

    @Test(arguments: ["AE", "AR", "CE", "CR"])
    func refusedIsTriedAgain(code: String) throws {
        #expect(
            try HL7Acknowledgement.fate(answer("MSA|\(code)|17|no such\u{0B} order"), of: "17")
                == .retry(reason: "receiver answered \(code): no such  order"))
        let detail = "ERR|||207^Application internal error^HL70357|E||||database down\r"
        #expect(
            try HL7Acknowledgement.fate(answer("MSA|\(code)|17", detail), of: "17")
                == .retry(reason: "receiver answered \(code): 207^Application internal error^HL70357; database down"))
        let endless = String(repeating: "x", count: 60000)
        let fate = try HL7Acknowledgement.fate(answer("MSA|\(code)|17|\(endless)"), of: "17")
        if case .retry(let reason) = fate { #expect(reason.count < 250) } else { Issue.record("\(fate)") }
    }

    @Test(
        arguments: [
            "", "OK", "MSH|^~\\&|RIS", "MSA|AA|17", "MSH|^~\\&|R\rMSA|AA|18", "MSH|^~\\&|R\rMSA|AA",
            "MSH|^~\\&|R\rMSA|AA|",
            "MSH|^~\\&|R\rMSA||17", "MSH|^~\\&|R\rMSA|aa|17", "MSH|^~\\&|R\rMSA|AAA|17", "MSH|^~\\&|R\rMSA|AA|17 ",
            "MSH|^~\\&|R\rMSA^AA^17", "\u{FEFF}MSH|^~\\&|R\rMSA|AA|17", "MSH|^~\\&|R\rNTE|MSA|AA|17",
        ])
    func anythingElseIsNoAnswer(text: String) {
        #expect(throws: MLLPFailure.self) { try HL7Acknowledgement.fate(text, of: "17") }
    }
}

@Suite struct MLLPReaderTests {
    @Test func blocksArePutTogetherFromWhateverArrives() throws {
        let bytes = MLLPFrame.encoded("MSH|ä\rMSA|\r")
        for size in 1...bytes.count {
            var reader = MLLPReader()
            var found: String?
            for start in stride(from: 0, to: bytes.count, by: size) {
                #expect(found == nil)
                let taken = try reader.take(bytes[start..<min(start + size, bytes.count)])
                #expect(taken?.hasMore != true)
                found = taken?.content
            }
            #expect(found == "MSH|ä\rMSA|\r")
            #expect(reader.isEmpty)
        }
    }

    @Test func whatFollowsABlockIsNoticed() throws {
        var reader = MLLPReader()
        let taken = try reader.take(MLLPFrame.encoded("A") + [0x0A])
        #expect(taken?.content == "A" && taken?.hasMore == true)
    }

    @Test(arguments: [[0x4D], [0x0D, 0x0B], [0x1C, 0x0D], [0x00], [0x16, 0x03, 0x01]] as [[UInt8]])
    func whatDoesNotBeginAsABlockIsNone(bytes: [UInt8]) {
        var reader = MLLPReader()
        #expect(throws: MLLPFailure.self) { try reader.take(bytes) }
    }

    @Test func answersHaveALimit() throws {
        var reader = MLLPReader()
        let most = String(repeating: "x", count: MLLPReader.mostBytes)
        #expect(try reader.take(MLLPFrame.encoded(most))?.content == most)
        #expect(throws: MLLPFailure.self) { try reader.take(MLLPFrame.encoded(most + "x")) }
        var endless = MLLPReader()
        let spaces = [UInt8](repeating: 0x20, count: 1 << 20)
        #expect(throws: MLLPFailure.self) { try endless.take([MLLPFrame.start] + spaces) }
    }

    @Test func bytesThatAreNoTextAreReadAllTheSame() throws {
        var reader = MLLPReader()
        #expect(try reader.take([0x0B, 0xFF, 0x1C, 0x20, 0x1C, 0x0D])?.content == "\u{FFFD}\u{1C} ")
    }
}
