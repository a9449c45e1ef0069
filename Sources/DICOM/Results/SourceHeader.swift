internal import CDCMTK
public import WorkerProtocol

/// The header of a stored instance, of which results carry on patient, study and plane. Owns a `cdcmtk_source *`.
///
/// Text is decoded to UTF-8 by the character set that the file declares; where the bytes are not of that set, as UTF-8
/// or Latin-1.
public final class SourceHeader {
    /// Bounds on the part before Pixel Data, checked before it is parsed.
    public struct Limits: Sendable {
        public var sequenceDepth: Int
        public var headerBytes: Int
        /// As when objects are received, unless given.
        public init(
            sequenceDepth: Int = ObjectLimits().sequenceDepth, headerBytes: Int = ObjectLimits().headerBytes
        ) {
            self.sequenceDepth = sequenceDepth
            self.headerBytes = headerBytes
        }
    }

    private let handle: OpaquePointer

    /// - Throws: `WorkerError` with code `failed`.
    public init(path: String, limits: Limits = .init()) throws {
        var bounds = cdcmtk_source_limits(
            sequence_depth: UInt32(limits.sequenceDepth), header_bytes: UInt64(limits.headerBytes))
        var opened: OpaquePointer?
        try ResultWriting.withReason(.failed) {
            opened = cdcmtk_source_open(path, &bounds, $0, $1)
            return opened != nil
        }
        handle = opened!
    }

    deinit { cdcmtk_source_free(handle) }

    public var studyInstanceUID: UID? { withHandle { UID(String(cString: cdcmtk_source_study_uid($0))) } }
    public var sopInstanceUID: UID? { withHandle { UID(String(cString: cdcmtk_source_sop_uid($0))) } }

    func withHandle<R>(_ body: (OpaquePointer) throws -> R) rethrows -> R {
        try withExtendedLifetime(self) { try body(handle) }
    }
}
