internal import CDCMTK
internal import Foundation
public import WorkerProtocol

/// The header of a stored instance, of which results carry on patient, study and plane. Owns a `cdcmtk_source *`.
///
/// Text is decoded to UTF-8 by the character set that the file declares; where the bytes are not of that set, as UTF-8
/// or Latin-1.
public final class SourceHeader {
    private let handle: OpaquePointer

    /// - Parameters:
    ///   - frame: whose plane is meant, from 1.
    ///   - limits: bounds on the part before Pixel Data, checked before DCMTK, whose reader recurses, sees it.
    /// - Throws: `WorkerError` with code `failed`.
    public init(path: String, frame: Int = 1, limits: ObjectLimits = .widest) throws {
        let number = UInt32(exactly: frame) ?? 1
        try Self.check(path, limits)
        var opened: OpaquePointer?
        try ResultWriting.withReason(.failed) {
            opened = cdcmtk_source_open(path, number, $0, $1)
            return opened != nil
        }
        handle = opened!
    }

    deinit { cdcmtk_source_free(handle) }

    public var studyInstanceUID: UID? { withHandle { UID(String(cString: cdcmtk_source_study_uid($0))) } }
    public var sopInstanceUID: UID? { withHandle { UID(String(cString: cdcmtk_source_sop_uid($0))) } }

    /// Patient and study, as `ReportWriter` and the others carry them over.
    public var identity: CarriedIdentity {
        var study = StudyAttributes()
        study.date = text(.studyDate)
        study.time = text(.studyTime)
        study.accessionNumber = text(.accessionNumber)
        study.description = text(.studyDescription)
        study.timezoneOffset = text(.timezoneOffset)
        return CarriedIdentity(
            patient: PatientIdentity(
                name: text(.patientName), id: text(.patientID), issuerOfID: text(.issuerOfPatientID),
                birthDate: text(.patientBirthDate), sex: text(.patientSex)),
            study: study, referringPhysicianName: text(.referringPhysicianName), procedureCode: procedure,
            isTextGuessed: withHandle { cdcmtk_source_is_text_guessed($0) != 0 })
    }

    /// nil where absent or empty.
    private func text(_ tag: Tag) -> String? {
        let text = withHandle { String(cString: cdcmtk_source_text($0, tag.group, tag.element)) }
        return text.isEmpty ? nil : text
    }

    private var procedure: CodedEntry? {
        withHandle { handle in
            let code = cdcmtk_source_procedure(handle)
            let entry = CodedEntry(
                value: String(cString: code.value), scheme: String(cString: code.scheme),
                meaning: String(cString: code.meaning))
            return entry.value.isEmpty ? nil : entry
        }
    }

    func withHandle<R>(_ body: (OpaquePointer) throws -> R) rethrows -> R {
        try withExtendedLifetime(self) { try body(handle) }
    }

    static func withHandles<R>(
        of headers: [SourceHeader], _ body: (UnsafePointer<OpaquePointer?>?) throws -> R
    ) rethrows -> R {
        try withExtendedLifetime(headers) {
            try headers.map { Optional($0.handle) }.withUnsafeBufferPointer { try body($0.baseAddress) }
        }
    }

    private static func check(_ path: String, _ limits: ObjectLimits) throws {
        guard let file = try? Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped) else {
            throw WorkerError(.failed, "the source cannot be opened")
        }
        guard let (meta, start) = FileMeta.read(Array(file.prefix(FileMeta.mostBytes))),
            let syntax = TransferSyntax(meta.transferSyntaxUID)
        else { throw WorkerError(.failed, "the source is no DICOM file, or of an unknown transfer syntax") }
        let reader = HeaderReader(transferSyntax: syntax, limits: limits)
        do {
            try file.withUnsafeBytes { bytes in
                let step = 1 << 16
                for at in stride(from: start, to: bytes.count, by: step) where !reader.isComplete {
                    try reader.consume(UnsafeRawBufferPointer(rebasing: bytes[at..<min(at + step, bytes.count)]))
                }
            }
            try reader.finish()
        } catch let error as HeaderError {
            throw WorkerError(.failed, "the source's header: \(error.description)")
        }
    }
}
