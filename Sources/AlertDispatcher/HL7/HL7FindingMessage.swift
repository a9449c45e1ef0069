internal import Foundation
internal import WorkerProtocol

/// Who speaks to whom, and how a receiver wants it (MSH-3 to MSH-6, MSH-15, MSH-16, OBX-2).
public struct HL7Convention: Sendable, Equatable {
    /// HL7 v2.5.1 §2.9.2.
    public enum Acknowledgement: String, CaseIterable, Sendable { case original, enhanced }
    /// Data type of the Study Instance UID: most receivers read ST, IHE's RAD-28 has HD.
    public enum StudyUIDType: String, CaseIterable, Sendable {
        case st = "ST"
        case hd = "HD"
    }

    public var sendingApplication: String
    public var sendingFacility: String
    public var receivingApplication: String
    public var receivingFacility: String
    public var acknowledgement: Acknowledgement
    public var studyUIDType: StudyUIDType

    public init(
        sendingApplication: String, sendingFacility: String, receivingApplication: String, receivingFacility: String,
        acknowledgement: Acknowledgement = .original, studyUIDType: StudyUIDType = .st
    ) {
        self.sendingApplication = sendingApplication
        self.sendingFacility = sendingFacility
        self.receivingApplication = receivingApplication
        self.receivingFacility = receivingFacility
        self.acknowledgement = acknowledgement
        self.studyUIDType = studyUIDType
    }
}

/// ORU^R01 (HL7 v2.5.1 §7.3.1) that says what was found in one study. Always preliminary: nobody has verified it.
struct HL7FindingMessage {
    var convention: HL7Convention
    /// MSH-10: 20 characters at most.
    var id: String
    var alert: FindingAlert
    /// ORC-3 and OBR-3: that of the first message about the study, for ever.
    var fillerNumber: HL7Field

    /// Until the study has a message: the accession number, else the Study Instance UID.
    static func firstFillerNumber(of alert: FindingAlert) -> HL7Field {
        HL7Field(alert.identity.study.accessionNumber ?? alert.studyInstanceUID.string)
    }

    private var identity: CarriedIdentity { alert.identity }

    /// Segments, each with its end (§2.5.2).
    var text: String {
        ([header, patient, visit, order, request, timing] + observations).map { $0.text + "\r" }.joined()
    }

    // MARK: Segments

    private var header: HL7Segment {
        let isEnhanced = convention.acknowledgement == .enhanced
        return HL7Segment(
            "MSH",
            [
                3: HL7Field(convention.sendingApplication), 4: HL7Field(convention.sendingFacility),
                5: HL7Field(convention.receivingApplication), 6: HL7Field(convention.receivingFacility),
                7: Self.time(alert.concludedAt), 9: HL7Field("ORU", "R01", "ORU_R01"), 10: HL7Field(id), 11: "P",
                12: "2.5.1",
                15: isEnhanced ? "AL" : "", 16: isEnhanced ? "NE" : "", 18: "UNICODE UTF-8",
            ])
    }

    private var patient: HL7Segment {
        let patient = identity.patient
        return HL7Segment(
            "PID",
            [
                1: "1", 3: HL7Field(patient.id ?? "", "", "", patient.issuerOfID ?? "", "MR"),
                5: HL7PersonName(patient.name ?? "").patient, 7: HL7Field(birthDate), 8: HL7Field(sex),
            ])
    }

    private var visit: HL7Segment {
        HL7Segment(
            "PV1",
            [1: "1", 2: "U", 8: HL7PersonName(identity.referringPhysicianName ?? "").physician])
    }

    private var order: HL7Segment { HL7Segment("ORC", [1: "RE", 3: fillerNumber]) }

    private var request: HL7Segment {
        HL7Segment(
            "OBR",
            [
                1: "1", 3: fillerNumber, 4: procedure, 7: HL7Field(alert.studyMoment?.hl7 ?? ""),
                18: HL7Field(identity.study.accessionNumber ?? ""), 22: Self.time(alert.concludedAt), 24: "CT", 25: "P",
            ])
    }

    private var timing: HL7Segment { HL7Segment("TQ1", [1: "1", 9: priority]) }

    private var observations: [HL7Segment] {
        let uid = alert.studyInstanceUID.string
        // HD: as a name and as what it is, for receivers read either.
        let study = convention.studyUIDType == .st ? HL7Field(uid) : HL7Field(uid, uid, "ISO")
        return [
            HL7Segment(
                "OBX",
                [
                    1: "1", 2: HL7Field(convention.studyUIDType.rawValue),
                    3: HL7Field("113014", "DICOM Study", "DCM"), 5: study, 11: "O",
                ]),
            observation(
                2, "CWE", HL7Field("1386000", "Intracranial hemorrhage", "SCT"), value: presenceCode,
                flag: interpretation),
            observation(
                3, "NM", HL7Field("122157", "Probability", "DCM"),
                value: HL7Field(alert.probability.map(ReportText.number) ?? ""),
                unit: alert.probability == nil ? "" : HL7Field("1", "no units", "UCUM"),
                // What an earlier message may have said cannot be had any more.
                status: alert.probability == nil ? "X" : "P"),
            observation(
                4, "TX", HL7Field("59776-5", "Procedure Findings", "LN"), value: shortComment,
                flag: interpretation),
        ]
    }

    /// HL7 table 0085: P, preliminary. F would be a radiologist's; C corrects a final result, which none of ours is: a
    /// later preliminary one under the same filler number takes the place of the earlier.
    private func observation(
        _ number: Int, _ type: String, _ concept: HL7Field, value: HL7Field, unit: HL7Field = "", flag: HL7Field = "",
        status: HL7Field = "P"
    ) -> HL7Segment {
        HL7Segment(
            "OBX",
            [
                1: HL7Field("\(number)"), 2: HL7Field(type), 3: concept, 5: value, 6: unit, 8: flag, 11: status,
                14: Self.time(alert.analysedAt), 18: HL7Field(alert.deviceUID.string),
            ])
    }

    // MARK: Values

    /// Receivers read ST where TX may have more: 199 characters (§2.A.74). The report has the rest.
    private var shortComment: HL7Field {
        let whole = ReportText.alert(alert)
        var (field, text) = (HL7Field(whole), String(whole.prefix(200)))
        while field.text.unicodeScalars.count > 199 {
            text.removeLast()
            field = HL7Field(text + "…")
        }
        return field
    }

    /// HL7 table 0485.
    private var priority: HL7Field {
        switch alert.presence == .present ? alert.urgency : .routine {
        case .stat: HL7Field("S", "Stat", "HL70485")
        case .asap: HL7Field("A", "ASAP", "HL70485")
        case .routine: HL7Field("R", "Routine", "HL70485")
        }
    }

    /// CID 240 (PS3.16).
    private var presenceCode: HL7Field {
        switch alert.presence {
        case .present: HL7Field("52101004", "Present", "SCT")
        case .absent: HL7Field("272519000", "Absent", "SCT")
        case .undetermined: HL7Field("373068000", "Undetermined", "SCT")
        }
    }

    /// HL7 table 0078. Undetermined is none of them, least of all normal.
    private var interpretation: HL7Field {
        switch alert.presence {
        case .present: "AA"
        case .absent: "N"
        case .undetermined: ""
        }
    }

    /// The requested code, else its words; where there are none, the report's Procedure Reported.
    private var procedure: HL7Field {
        let description = identity.study.description ?? ""
        if let code = identity.procedureCode {
            return HL7Field(code.value, code.meaning.isEmpty ? description : code.meaning, code.scheme)
        }
        return description.isEmpty
            ? HL7Field("25045-6", "CT unspecified body region", "LN") : HL7Field("", description, "L")
    }

    private var birthDate: String {
        let date = identity.patient.birthDate ?? ""
        var birth = StudyAttributes()
        birth.date = date
        return StudyMoment(birth, timeZone: .gmt)?.hl7 ?? ""
    }

    /// HL7 table 0001 has DICOM's values; anything else is not known.
    private var sex: String {
        let sex = identity.patient.sex ?? ""
        return sex.isEmpty || ["M", "F", "O"].contains(sex) ? sex : "U"
    }

    private static func time(_ moment: Date) -> HL7Field {
        let local = DICOMMoment(moment)
        return HL7Field(local.date + local.time + local.offset)
    }
}
