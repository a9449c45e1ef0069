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

    /// Slices that one capture shows.
    public static let mostSources = 9

    /// - Parameter pixels: [row][column][R, G, B], 8 bits a sample.
    /// - Parameter identity: an instance of the study.
    /// - Parameter slices: the CT slices beneath, in the order of the content's sources. A heatmap carries its plane
    ///   over where rows and columns are the same.
    /// - Returns: a Part 10 file, Explicit VR Little Endian.
    /// - Throws: `WorkerError` with code `failed`.
    public static func encode(
        _ capture: CaptureContent, pixels: Data, identity: SourceHeader, slices: [SourceHeader]
    ) throws -> [UInt8] {
        try ResultRules.check(capture)
        try ResultRules.require(
            pixels.count == capture.rows * capture.columns * 3,
            "\(pixels.count) bytes of pixels for a capture of \(capture.rows) × \(capture.columns)")
        try ResultRules.require(
            slices.map(\.sopInstanceUID) == capture.sources.map { Optional($0.image.sopInstanceUID) },
            "the file beneath a capture is not the named slice")
        try ResultRules.require(
            slices.allSatisfy { $0.studyInstanceUID == identity.studyInstanceUID },
            "the slice beneath a capture is of another study")
        let strings = ContentStrings()
        let sources = capture.sources.map { strings($0.image) }
        return try pixels.withUnsafeBytes { bytes in
            try sources.withUnsafeBufferPointer { sources in
                var content = content(of: capture, strings)
                content.pixels = bytes.bindMemory(to: UInt8.self).baseAddress
                (content.sources, content.source_count) = (sources.baseAddress, sources.count)
                return try withExtendedLifetime(strings) {
                    try identity.withHandle { identity in
                        try SourceHeader.withHandles(of: slices) { slices in
                            try ResultWriting.encoded { cdcmtk_capture_encode(&content, identity, slices, $0, $1, $2) }
                        }
                    }
                }
            }
        }
    }

    /// All but pixels and sources.
    private static func content(of capture: CaptureContent, _ strings: ContentStrings) -> cdcmtk_capture {
        cdcmtk_capture(
            header: strings(headerOf: capture), kind: capture.kind.shimValue,
            instance_number: Int32(capture.instanceNumber), rows: UInt16(capture.rows),
            columns: UInt16(capture.columns), pixels: nil, sources: nil, source_count: 0,
            derivation_description: strings(capture.derivationDescription),
            image_comments: strings(capture.imageComments))
    }
}

extension CaptureKind {
    fileprivate var shimValue: cdcmtk_capture_kind {
        switch self {
        case .heatmap: CDCMTK_HEATMAP
        case .summary: CDCMTK_SUMMARY
        }
    }
}
