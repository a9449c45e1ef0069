import Foundation
import Testing
import WorkerProtocol

@testable import ichnode

/// What of a site's own files is understood, and what is said of the rest.
@Suite struct LabelTests {
    private func table(_ text: String) throws -> CSVTable { try CSVTable(text: text, name: "labels.csv") }

    private func refusal(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "accepted"
        } catch let failure as CommandFailure {
            #expect(failure.code == .configuration)
            return failure.description
        } catch { return "\(error)" }
    }

    private func labels(_ text: String, readers: [String] = []) throws -> StudyLabels {
        try StudyLabels(try table(text), readers: readers)
    }

    // MARK: CSV (RFC 4180)

    @Test func readsQuotedFieldsAndEveryLineEnd() throws {
        let table = try table("\u{FEFF}a, b ,c\r\n1,\"two, \"\"2\"\"\r\nlines\",\"\"\n\nx,y,z\ru,v,\"w\"")
        #expect(table.columns == ["a", "b", "c"])
        #expect(
            table.rows.map(\.fields) == [
                ["1", "two, \"2\"\r\nlines", ""], ["x", "y", "z"], ["u", "v", "w"],
            ])
        #expect(table.rows.map(\.line) == [2, 5, 6])
        #expect(table.column("B") == 1)
    }

    @Test func aLastLineWithoutEndAndAnEmptyLastFieldCount() throws {
        #expect(try table("a,b\n1,").rows.map(\.fields) == [["1", ""]])
        #expect(try table("a,b\n1,2\n").rows.count == 1)
        #expect(try table("a,b\n").rows.isEmpty)
    }

    @Test(arguments: [
        ("", "labels.csv is empty"), ("a,A\n1,2", "labels.csv:1: two columns are named \"a\""),
        ("a,b\n1,2\n3", "labels.csv:3: 1 fields where the header has 2"),
        ("a,b\n1,\"2\n3,4\n", "labels.csv:2: a quote that is opened is never closed"),
        ("a,b\n1,\"2\"3\n", "labels.csv:2: text after a closing quote"),
    ]) func saysWhatIsNoCSV(text: String, expected: String) {
        let said = refusal { _ = try table(text) }
        #expect(said.hasPrefix(expected), "\(said)")
    }

    @Test func whatIsWrittenReadsTheSame() throws {
        let rows = [["a", "b"], ["x,y", "say \"so\"\nand so"], ["", "plain"]]
        let table = try table(CSVTable.write(rows))
        #expect([table.columns] + table.rows.map(\.fields) == rows)
    }

    @Test func aFileThatIsNotThereOrNotTextIsSaid() throws {
        #expect(refusal { _ = try CSVTable(path: "/nowhere/labels.csv") }.contains("cannot read /nowhere/labels.csv"))
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("labels-\(UUID().uuidString).csv")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data([0x61, 0xFF, 0x0A]).write(to: file)
        #expect(refusal { _ = try CSVTable(path: file.path) }.contains("is not UTF-8"))
        try Data("a\n1\n".utf8).write(to: file)
        #expect(try CSVTable(path: file.path, mostBytes: 4).rows.count == 1)
        #expect(refusal { _ = try CSVTable(path: file.path, mostBytes: 3) }.contains("more than 3 bytes"))
    }

    // MARK: Labels

    @Test func readsLabelsSubtypesAndReaders() throws {
        let labels = try labels("Study,any,subdural,Dr B\nA1,1,1,0\nA2,0,, 1 \n", readers: ["dr b"])
        #expect(labels.rows.map(\.key) == ["A1", "A2"])
        #expect(labels.rows.map(\.any) == [true, false])
        #expect(labels.rows.map { $0.subtypes["subdural"] } == [true, nil])
        #expect(labels.rows.map { $0.readers["dr b"] } == [false, true])
    }

    @Test(arguments: [
        ("study,positive\nA1,1", "labels.csv has no column \"any\"; it has study, positive"),
        ("study,any\nA1,yes", "labels.csv:2: \"any\" is neither 0 nor 1: write 0 or 1"),
        ("study,any\nA1,", "labels.csv:2: \"any\" is blank"), ("study,any\n,1", "labels.csv:2: \"study\" is blank"),
        ("study,any,epidural\nA1,0,1", "labels.csv:2: \"any\" is 0 and \"epidural\" is 1"),
        ("study,any\nA1,1\nA2,1\nA1,0", "labels.csv: lines 2 and 4 name the same study"),
        ("study,any\n", "labels.csv has no row"),
    ]) func saysWhichLabelIsWrong(text: String, expected: String) {
        let said = refusal { _ = try labels(text) }
        #expect(said.hasPrefix(expected), "\(said)")
    }

    @Test func aReaderWithoutColumnIsSaid() {
        #expect(refusal { _ = try labels("study,any\nA,1", readers: ["x"]) }.contains("no column \"x\""))
    }

    @Test func readsSliceLabels() throws {
        let slices = try SliceLabels(try table("sop_instance_uid,any,subdural\n1.2.3,1,1\n1.2.4,0,0\n"))
        #expect(slices.any == ["1.2.3": true, "1.2.4": false])
        #expect(
            refusal { _ = try SliceLabels(try table("sop_instance_uid,any\n1.2.3,1\n1.2.3,0\n")) }
                .hasPrefix("labels.csv:3: this SOP Instance UID has a row already"))
        #expect(
            refusal { _ = try SliceLabels(try table("sop_instance_uid,any,subdural\n1.2.3,0,1\n")) }
                .contains("\"subdural\" is 1"))
        #expect(refusal { _ = try SliceLabels(try table("uid,any\n1,1")) }.contains("\"sop_instance_uid\""))
    }

    // MARK: Rows and studies

    private let candidates = [
        LabelJoin.Candidate(
            studyInstanceUID: UID("1.1")!, accessionNumber: "ACC1", patientID: "P1",
            files: ["north/one/a/1.dcm", "north/one/b/2.dcm"]),
        LabelJoin.Candidate(
            studyInstanceUID: UID("1.2")!, accessionNumber: "ACC2", patientID: "P1", files: ["north/two/1.dcm"]),
        LabelJoin.Candidate(studyInstanceUID: UID("1.3")!, accessionNumber: "P1", files: ["south/3.dcm"]),
        LabelJoin.Candidate(studyInstanceUID: UID("1.4")!, accessionNumber: "", files: ["four.dcm"]),
    ]

    private func join(_ keys: String...) throws -> [String?] {
        let labels = try labels("study,any\n" + keys.map { "\($0),1\n" }.joined())
        let join = try LabelJoin(labels, candidates)
        return keys.map { key in join.rows.first { $0.value.key == key }?.key.string }
    }

    @Test func findsAStudyByUIDAccessionNumberAndFolder() throws {
        #expect(try join("1.1", "ACC2", "south") == ["1.1", "1.2", "1.3"])
        #expect(try join("north/one/", "./north/two") == ["1.1", "1.2"])
        #expect(try join("north/one/a") == ["1.1"])
        #expect(try join("1.1", "sou") == ["1.1", nil])
    }

    /// Two studies have patient P1, but one alone has it as accession number.
    @Test func theFirstKindOfNameThatMeansOneStudyCounts() throws {
        #expect(try join("P1") == ["1.3"])
        let patients = [
            LabelJoin.Candidate(studyInstanceUID: UID("1.1")!, accessionNumber: "X", patientID: "P1"),
            LabelJoin.Candidate(studyInstanceUID: UID("1.2")!, accessionNumber: "X", patientID: "P2"),
        ]
        #expect(try LabelJoin(try labels("study,any\nP2,1"), patients).rows.keys.map(\.string) == ["1.2"])
        let said = refusal { _ = try LabelJoin(try labels("study,any\nP2,1\nX,0"), patients) }
        #expect(said == "labels.csv:3: 2 studies have this Accession Number: name the Study Instance UID")
    }

    @Test func aFolderOfSeveralStudiesIsAmbiguous() {
        #expect(refusal { _ = try join("north") }.contains("2 studies have this folder"))
        #expect(refusal { _ = try join(".") }.contains("4 studies have this folder"))
    }

    @Test func rowsAndStudiesWithoutPartnerAreKept() throws {
        let join = try LabelJoin(try labels("study,any\n1.1,1\nlost,0\n"), candidates)
        #expect(join.unmatched.map(\.line) == [3])
        #expect(join.unlabelled.map(\.string) == ["1.2", "1.3", "1.4"])
    }

    @Test func twoRowsOfOneStudyAndNoRowAtAllAreRefused() {
        #expect(refusal { _ = try join("1.1", "ACC1") } == "labels.csv: lines 2 and 3 mean the same study: keep one")
        #expect(refusal { _ = try join("lost") }.hasPrefix("no row of labels.csv matches a study of the folder"))
    }
}
