internal import CDCMTK
internal import WorkerProtocol

/// DCMTK as a whole, set up once in each process, before confinement.
public enum Library {
    /// - Throws: `WorkerError` with code `system` where the data dictionary is needed and cannot be read.
    public static func prepare(needsDictionary: Bool = false, decodesPixels: Bool = false) throws {
        cdcmtk_library_prepare()
        if needsDictionary, cdcmtk_dictionary_load() == 0 {
            throw WorkerError(.system, "cannot read DCMTK's data dictionary: is the package libdcmtk17 whole?")
        }
        if decodesPixels { cdcmtk_image_prepare() }
    }

    /// Storage SOP classes of the standard, current and retired (PS3.4 Annex B.5).
    public static let storageSOPClasses: Set<String> = Set(
        (0..<cdcmtk_storage_class_count()).compactMap { cdcmtk_storage_class_uid($0).map { String(cString: $0) } })
}

/// Calls a function of the shim that writes a reason, and gives both.
func withReason<R>(_ body: (UnsafeMutablePointer<CChar>, Int) -> R) -> (R, String) {
    var result: R?
    let bytes = [CChar](unsafeUninitializedCapacity: 256) { buffer, count in
        buffer.initialize(repeating: 0)
        guard let start = buffer.baseAddress else { return }
        result = body(start, buffer.count)
        count = buffer.count
    }
    guard let result else { preconditionFailure("an array of 256 bytes has an address") }
    return (result, String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
}

/// The text in a C array of characters, which is imported as a tuple.
func text<Characters>(_ characters: Characters) -> String {
    withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
