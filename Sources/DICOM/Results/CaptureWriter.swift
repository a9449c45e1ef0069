internal import CDCMTK
public import Foundation
public import WorkerProtocol

/// Writes single-frame RGB Secondary Captures (PS3.3 A.8.1).
public enum CaptureWriter {
    public static let sopClassUID = UID(literal: "1.2.840.10008.5.1.4.1.1.7")
    /// Captures of one request: one for each flagged slice.
    public static let mostCaptures = 2_000
    /// Rows and columns of one.
    public static let mostRowsOrColumns = DecodeLimits.rowsOrColumns

    /// - Parameter pixels: [row][column][R, G, B], 8 bits a sample.
    /// - Parameter identity: an instance of the study.
    /// - Parameter slice: the CT slice beneath. Its plane is carried over where rows and columns are the same.
    /// - Returns: a Part 10 file, Explicit VR Little Endian.
    /// - Throws: `WorkerError` with code `failed`.
    public static func encode(
        _ capture: CaptureContent, pixels: Data, identity: SourceHeader, slice: SourceHeader
    ) throws -> [UInt8] {
        try ResultRules.check(capture)
        try ResultRules.require(
            pixels.count == capture.rows * capture.columns * 3,
            "\(pixels.count) bytes of pixels for a capture of \(capture.rows) × \(capture.columns)")
        try ResultRules.require(
            slice.sopInstanceUID == capture.source.sopInstanceUID, "the file beneath a capture is not the named slice")
        try ResultRules.require(
            slice.studyInstanceUID == identity.studyInstanceUID, "the slice beneath a capture is of another study")
        let strings = ContentStrings()
        return try pixels.withUnsafeBytes { bytes in
            var content = content(of: capture, strings)
            content.pixels = bytes.bindMemory(to: UInt8.self).baseAddress
            return try withExtendedLifetime(strings) {
                try identity.withHandle { identity in
                    try slice.withHandle { slice in
                        try ResultWriting.encoded { cdcmtk_capture_encode(&content, identity, slice, $0, $1, $2) }
                    }
                }
            }
        }
    }

    /// All but the pixels.
    private static func content(of capture: CaptureContent, _ strings: ContentStrings) -> cdcmtk_capture {
        cdcmtk_capture(
            header: cdcmtk_result_header(
                sop_instance_uid: strings(capture.sopInstanceUID),
                series_instance_uid: strings(capture.seriesInstanceUID), content_date: strings(capture.contentDate),
                content_time: strings(capture.contentTime), timezone_offset: strings(capture.timezoneOffset),
                revision: UInt32(capture.revision), device: strings(capture.device),
                implementation_class_uid: strings(Implementation.classUID),
                implementation_version_name: strings(Implementation.versionName)),
            instance_number: Int32(capture.instanceNumber), rows: UInt16(capture.rows),
            columns: UInt16(capture.columns), pixels: nil, source_image: strings(capture.source),
            derivation_description: strings(capture.derivationDescription),
            image_comments: strings(capture.imageComments))
    }
}
