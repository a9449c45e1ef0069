import Foundation
import Testing
import WorkerProtocol

@Suite struct UIDTests {
    @Test(arguments: ["1.2.840.10008.1.1", "0", "1.02.3", String(repeating: "1", count: 64), "1.2\0", "1.2 "])
    func acceptsWhatScannersSend(text: String) { #expect(UID(text) != nil) }

    @Test(arguments: [
        "", "../../x", "1..2", ".1", "1.", "1/2", "a.b", String(repeating: "1", count: 65), "1.2\u{0}3", "1.2\n", "．1",
    ])
    func refusesWhatIsNoUID(text: String) { #expect(UID(text) == nil) }

    @Test func dropsPadding() { #expect(UID("1.2.3\0")?.string == "1.2.3") }
    @Test func decodingChecksToo() {
        #expect(throws: (any Error).self) { try JSONDecoder().decode(UID.self, from: Data("\"../x\"".utf8)) }
    }
}

@Suite struct AETitleTests {
    @Test func trimsSpaces() { #expect(AETitle("  PACS 1  ")?.string == "PACS 1") }
    @Test(arguments: ["", "    ", "SEVENTEEN_LETTERS", "A\\B", "A\nB", "ÄÖ"])
    func refuses(text: String) { #expect(AETitle(text) == nil) }
    @Test func acceptsSixteenCharacters() { #expect(AETitle("SIXTEEN_LETTERS_") != nil) }
}

@Suite struct InstancePartsTests {
    @Test func commonAndOwnMakeTheWholeRecord() throws {
        var record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.4.5")!,
            studyInstanceUID: UID("1.2.3")!, seriesInstanceUID: UID("1.2.3.4")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2.1")!, callingAETitle: AETitle("CT1"),
            calledAETitle: AETitle("ICHNODE"), fileSize: 7, version: 2, patient: PatientIdentity(name: "A^B", id: "1"))
        record.study.date = "20240101"
        record.series.number = 3
        record.image.instanceNumber = 4
        record.image.acquisitionNumber = 5
        record.image.acquisitionDateTime = "20240101120000"
        record.image.position = [1, 2, 3]
        record.image.rows = 512
        record.image.hasPixelData = true
        #expect(InstanceRecord(CommonAttributes(record), OwnAttributes(record)) == record)
        var next = record
        next.sopInstanceUID = UID("1.2.3.4.6")!
        next.image.position = [1, 2, 8]
        next.image.instanceNumber = 9
        #expect(CommonAttributes(next) == CommonAttributes(record))
        #expect(OwnAttributes(next) != OwnAttributes(record))
    }
}

@Suite struct DigestTests {
    /// FIPS 180-4, examples.
    @Test func agreesWithThePublishedExamples() {
        #expect(
            SHA256Digest.hex(of: Data("abc".utf8))
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(
            SHA256Digest.hex(of: Data()) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    }

    @Test func listsThatJoinToTheSameTextDiffer() {
        #expect(SHA256Digest.hex(of: ["ab", "c"]) != SHA256Digest.hex(of: ["a", "bc"]))
    }
}
