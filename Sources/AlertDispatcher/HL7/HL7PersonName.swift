internal import Foundation

/// A person's name as DICOM has it (PN, PS3.5 §6.2.1), for fields of HL7: each group of components is a repetition with
/// its name representation code (HL7 table 0465).
struct HL7PersonName {
    private struct Group {
        var family: String, given: String, middle: String, prefix: String, suffix: String
        var code: String
    }

    private static let codes = ["A", "I", "P"]
    private let groups: [Group]

    init(_ personName: String) {
        groups = zip(personName.split(separator: "=", omittingEmptySubsequences: false), Self.codes).compactMap {
            let parts = $0.split(separator: "^", omittingEmptySubsequences: false)
                .map { $0.trimmingCharacters(in: .whitespaces) }
            guard parts.contains(where: { !$0.isEmpty }) else { return nil }
            let five = parts.prefix(5) + Array(repeating: "", count: max(0, 5 - parts.count))
            return Group(
                family: five[0], given: five[1], middle: five[2], prefix: five[3], suffix: five[4], code: $1)
        }
    }

    /// XPN (§2.A.89). A name that is not known says so: its field is required (HL7 table 0200, U).
    var patient: HL7Field {
        guard !groups.isEmpty else { return HL7Field("", "", "", "", "", "", "U") }
        return HL7Field(
            repetitions: groups.map {
                HL7Field($0.family, $0.given, $0.middle, $0.suffix, $0.prefix, "", "", $0.code)
            })
    }

    /// XCN (§2.A.88), without the number that DICOM's name does not have.
    var physician: HL7Field {
        HL7Field(
            repetitions: groups.map {
                HL7Field(
                    "", $0.family, $0.given, $0.middle, $0.suffix, $0.prefix, "", "", "", "", "", "", "", "", $0.code)
            })
    }
}
