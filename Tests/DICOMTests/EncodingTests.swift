import Testing
import WorkerProtocol

@testable import DICOM

@Suite struct CommandSetTests {
    /// Implicit VR little endian, as on the wire.
    static func request(field: UInt32, dataSetType: UInt32 = 0, instance: String = "1.2.3.4") -> [UInt8] {
        var set = DataSetBytes(explicit: false)
        set.element(0x0000, 0x0002, "UI", DataSetBytes.sopClass)
        set.short(0x0000, 0x0100, field)
        set.short(0x0000, 0x0110, 77)
        set.short(0x0000, 0x0800, dataSetType)
        set.element(0x0000, 0x1000, "UI", instance)
        return set.bytes
    }

    @Test func readsARequestAndAnswersIt() throws {
        let command = try #require(CommandSet(Self.request(field: 1)))
        #expect(command.operation == .store)
        #expect(command.hasDataSet)
        #expect(command.affectedSOPInstanceUID == "1.2.3.4")

        let response = try #require(
            CommandSet(command.response(.outOfResources, comment: String(repeating: "ä", count: 70)).encoded))
        #expect(response.operation == .response)
        #expect(response.status == 0xA700)
        #expect(response.errorComment.count == 64)
        #expect(response.affectedSOPInstanceUID == "1.2.3.4")
        #expect(!response.hasDataSet)
    }

    @Test func answersAnEventReportWithItsEventType() throws {
        var set = DataSetBytes(explicit: false)
        set.append(Self.request(field: 0x0100))
        set.short(0x0000, 0x1002, 2)
        let command = try #require(CommandSet(set.bytes))
        #expect(command.operation == .eventReport)
        #expect(command.eventTypeID == 2)
        let response = try #require(CommandSet(command.response(.noSuchInstance).encoded))
        #expect(response.status == 0x0112)
        #expect(response.eventTypeID == 2)
        #expect(response.operation == .response)
    }

    @Test func groupLengthCountsWhatFollows() throws {
        let encoded = try #require(CommandSet(Self.request(field: 0x30))).response(.success).encoded
        #expect(Int(encoded[8]) | Int(encoded[9]) << 8 == encoded.count - 12)
    }

    @Test func refusesWhatIsNoCommandSet() {
        #expect(CommandSet([]) == nil)
        #expect(CommandSet([1, 2, 3]) == nil)
        #expect(CommandSet(DataSetBytes.ct()) == nil)
        #expect(CommandSet(Array(Self.request(field: 1).dropLast())) == nil)
    }

    @Test func survivesMutations() {
        var generator = SeededGenerator(seed: 1)
        let valid = Self.request(field: 1)
        for _ in 0..<4000 {
            var bytes = valid
            bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            _ = CommandSet(bytes)?.response(.success).encoded
        }
    }
}

@Suite struct FileMetaTests {
    static let meta = FileMeta(
        sopClassUID: UID(literal: "1.2.840.10008.5.1.4.1.1.2"), sopInstanceUID: UID(literal: "1.2.3.4"),
        transferSyntaxUID: UID(literal: "1.2.840.10008.1.2.1"), sourceAETitle: AETitle("SCANNER"),
        receivingAETitle: AETitle("ICHNODE"))

    @Test func readsWhatItWrites() throws {
        let bytes = Self.meta.encoded
        let (meta, offset) = try #require(FileMeta.read(bytes + DataSetBytes.ct()))
        #expect(meta == Self.meta)
        #expect(offset == bytes.count)
        // (0002,0000) counts from behind its own value.
        #expect(Int(bytes[140]) | Int(bytes[141]) << 8 == bytes.count - 144)
    }

    @Test func survivesMutationsAndTruncation() {
        var generator = SeededGenerator(seed: 2)
        let valid = Self.meta.encoded + DataSetBytes.ct()
        for _ in 0..<4000 {
            var bytes = valid
            bytes[Int.random(in: 128..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            if let (_, offset) = FileMeta.read(bytes) { #expect(offset <= bytes.count) }
        }
        for count in 0..<valid.count { _ = FileMeta.read(Array(valid.prefix(count))) }
    }
}

@Suite struct PresentationContextTests {
    static let storage: Set<String> = ["1.2.840.10008.5.1.4.1.1.2"]

    static func context(
        _ abstractSyntax: String, _ transferSyntaxes: [String], _ role: PresentationContext.Role = .unstated
    ) -> PresentationContext {
        PresentationContext(id: 1, abstractSyntax: abstractSyntax, transferSyntaxes: transferSyntaxes, role: role)
    }

    @Test func takesTheProposersFirstKnownTransferSyntax() {
        let proposed = ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2"]
        let decision = Self.context(DataSetBytes.sopClass, proposed).decide(storageSOPClasses: Self.storage)
        guard case .accept(let syntax) = decision else {
            Issue.record("refused")
            return
        }
        #expect(syntax.uid.string == "1.2.840.10008.1.2.4.70")
    }

    @Test func refusesByReason() {
        let implicit = ["1.2.840.10008.1.2"]
        let decide = { (context: PresentationContext) in context.decide(storageSOPClasses: Self.storage) }
        #expect(decide(Self.context("1.2.840.10008.5.1.4.1.2.2.1", implicit)) == .refuse(result: 3))
        #expect(decide(Self.context(DataSetBytes.sopClass, ["1.2.840.10008.1.2.4.100"])) == .refuse(result: 4))
        #expect(decide(Self.context(DataSetBytes.sopClass, [])) == .refuse(result: 4))
        #expect(decide(Self.context(DataSetBytes.sopClass, implicit, .scp)) == .refuse(result: 2))
        #expect(decide(Self.context(DataSetBytes.sopClass, implicit, .both)) == .accept(.implicitLittleEndian))
        #expect(decide(Self.context(PresentationContext.verification, implicit)) == .accept(.implicitLittleEndian))
    }

    /// The peer is the SCP, whether it says so or not (PS3.4 §J.3.3).
    @Test func takesReportsOfCommitmentFromTheirSCPOnly() {
        let decide = { (role: PresentationContext.Role, syntaxes: [String]) in
            Self.context(PresentationContext.storageCommitment, syntaxes, role).decide(storageSOPClasses: Self.storage)
        }
        let implicit = ["1.2.840.10008.1.2"]
        for role in [PresentationContext.Role.unstated, .scp, .both] {
            #expect(decide(role, implicit) == .accept(.implicitLittleEndian))
        }
        #expect(decide(.scu, implicit) == .refuse(result: 2))
        #expect(decide(.scp, ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1"]) == .accept(.explicitLittleEndian))
        #expect(decide(.scp, ["1.2.840.10008.1.2.4.70"]) == .refuse(result: 4))
    }

    @Test func knowsTheStandardsStorageClasses() {
        #expect(Library.storageSOPClasses.count > 130)
        for uid in ["1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.6"] {
            #expect(Library.storageSOPClasses.contains(uid))
        }
    }
}
