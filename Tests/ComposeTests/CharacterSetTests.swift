import Foundation
import Testing
import WorkerProtocol

/// The validators are silent on a name that lost its letters: compared here with what another library decodes.
@Suite struct CharacterSetTests {
    struct Name: Sendable {
        var characterSet: String?
        var bytes: [UInt8]
        var decoded: String
        /// Whether pydicom reads the source as we do.
        var isAlikeInPydicom = true

        init(_ characterSet: String?, _ bytes: [UInt8], _ decoded: String, isAlikeInPydicom: Bool = true) {
            self.characterSet = characterSet
            self.bytes = bytes
            self.decoded = decoded
            self.isAlikeInPydicom = isAlikeInPydicom
        }
    }

    static let escape: [UInt8] = [0x1B]

    // PS3.5 Annex H.3, I.2, J.3, K.2 for the eastern ones.
    static let names: [Name] = [
        Name("ISO_IR 100", Array("M".utf8) + [0xDC] + Array("LLER^J".utf8) + [0xD6] + Array("RG".utf8), "MÜLLER^JÖRG"),
        Name("ISO 2022 IR 100", [0xC4] + Array("^B".utf8), "Ä^B"),
        Name("ISO_IR 101", Array("Wa".utf8) + [0xB3, 0xEA] + Array("sa".utf8), "Wałęsa"),
        Name("ISO_IR 144", [0xBB, 0xEE, 0xDA, 0x63, 0xE0], "Люкcр"),
        Name("ISO_IR 192", Array("Wang^XiaoDong=王^小东".utf8), "Wang^XiaoDong=王^小东"),
        Name("GB18030", Array("Wang=".utf8) + [0xCD, 0xF5, 0x5E, 0xD0, 0xA1, 0xB6, 0xAB], "Wang=王^小东"),
        Name(
            #"\ISO 2022 IR 87"#,
            Array("Yamada^Tarou=".utf8) + escape + Array("$B;3ED".utf8) + escape + Array("(B^".utf8) + escape
                + Array("$BB@O:".utf8) + escape + Array("(B".utf8), "Yamada^Tarou=山田^太郎"),
        Name(
            #"ISO 2022 IR 13\ISO 2022 IR 87"#,
            [0xD4, 0xCF, 0xC0, 0xDE, 0x5E, 0xC0, 0xDB, 0xB3, 0x3D] + escape + Array("$B;3ED".utf8) + escape
                + Array("(J^".utf8) + escape + Array("$BB@O:".utf8) + escape + Array("(J".utf8), "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
        Name("ISO_IR 13", [0xD4, 0xCF, 0xC0, 0xDE, 0x5E, 0xC0, 0xDB, 0xB3], "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        // Shift JIS under the name of its single-byte part, as some senders have it.
        Name("ISO_IR 13", [0x8E, 0x52, 0x93, 0x63, 0x5E, 0x91, 0xBE, 0x98, 0x59], "山田^太郎"),
        Name(
            #"\ISO 2022 IR 149"#,
            Array("Hong^Gildong=".utf8) + escape + Array("$)C".utf8) + [0xFB, 0xF3, 0x5E] + escape + Array("$)C".utf8)
                + [0xD1, 0xCE, 0xD4, 0xD7], "Hong^Gildong=洪^吉洞"),
        Name(
            #"\ISO 2022 IR 58"#,
            Array("Zhang=".utf8) + escape + Array("$)A".utf8) + [0xD5, 0xC5, 0x5E] + escape + Array("$)A".utf8)
                + [0xD0, 0xA1, 0xB6, 0xAB], "Zhang=张^小东", isAlikeInPydicom: false),  // leaves the escapes in
        // Not of the declared set: read as UTF-8 where it is that, else as Latin-1.
        Name(nil, Array("M".utf8) + [0xFC] + Array("ller".utf8), "Müller", isAlikeInPydicom: false),
        Name("ISO_IR 6", Array("Müller".utf8), "Müller", isAlikeInPydicom: false),
        Name("NO SUCH SET", Array("Müller".utf8), "Müller", isAlikeInPydicom: false),
    ]

    @Test func keepsThePatientsName() async throws {
        let bench = try await ComposeBench()
        var expected: [(path: String, name: String)] = []
        for (index, name) in Self.names.enumerated() {
            let slice = SourceSlice(
                sopUID: SourceSlice.uid(100 + index), characterSet: name.characterSet, patientName: Data(name.bytes))
            var request = try bench.request(over: [slice], flagged: 1, captures: true)
            request.report.fileName = "report-\(index).dcm"
            request.captures[0].fileName = "capture-\(index).dcm"
            guard
                case .composed(let objects, let identity) = try await bench.compose(
                    request, bulk: [request.captures[0].examplePixels])
            else { throw WorkerError(.failed, "nothing was composed") }
            // Alerts name the patient as the report does.
            #expect(identity.patient.name == name.decoded)
            let paths = objects.map(\.path)
            for path in paths {
                #expect(try Tool.value("PatientName", of: path) == name.decoded)
                #expect(try Tool.value("SpecificCharacterSet", of: path) == "ISO_IR 192")
                #expect(try Tool.errors(of: path) == [], "\(name.characterSet ?? "none")")
            }
            let sources = name.isAlikeInPydicom ? [request.identitySourcePath] : []
            expected += (paths + sources).map { ($0, name.decoded) }
        }
        guard let names = try Tool.pydicomNames(of: expected.map(\.path)) else { return }
        for ((path, expected), name) in zip(expected, names) { #expect(name == expected, "\(path)") }
    }
}
