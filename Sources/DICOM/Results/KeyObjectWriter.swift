internal import CDCMTK
public import WorkerProtocol

/// Writes Key Object Selection Documents (PS3.3 A.35.4).
public enum KeyObjectWriter {
    public static let sopClassUID = UID(literal: "1.2.840.10008.5.1.4.1.1.88.59")
    /// Slices and their captures.
    public static let mostImages = 2 * CaptureWriter.mostCaptures

    /// - Parameter identity: an instance of the study.
    /// - Returns: a Part 10 file, Explicit VR Little Endian.
    /// - Throws: `WorkerError` with code `failed`.
    public static func encode(_ keyObjects: KeyObjectContent, identity: SourceHeader) throws -> [UInt8] {
        try ResultRules.check(keyObjects)
        let strings = ContentStrings()
        let images = keyObjects.images.map { strings($0) }
        return try images.withUnsafeBufferPointer { images in
            var content = cdcmtk_key_objects(
                header: strings(headerOf: keyObjects), description: strings(keyObjects.description),
                images: images.baseAddress, image_count: images.count)
            return try withExtendedLifetime(strings) {
                try identity.withHandle { source in
                    try ResultWriting.encoded { cdcmtk_key_objects_encode(&content, source, $0, $1, $2) }
                }
            }
        }
    }
}
