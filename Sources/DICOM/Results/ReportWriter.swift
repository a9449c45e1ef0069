internal import CDCMTK
public import WorkerProtocol

/// Writes TID 1500 Structured Reports (PS3.16).
public enum ReportWriter {
    /// Images of a library: a thin-slice head CT has up to about a thousand.
    public static let mostImages = 10_000

    /// Of (130404,DCM,"Saliency") as we use it.
    static let attentionParameters = "share of the attention that the study's head pays to this slice, 0 to 1"

    /// - Parameter identity: an instance of the study that the report is on.
    /// - Returns: a Part 10 file, Explicit VR Little Endian.
    /// - Throws: `WorkerError` with code `failed`.
    public static func encode(_ report: ReportContent, identity: SourceHeader) throws -> [UInt8] {
        try ResultRules.check(report)
        let strings = ContentStrings()
        let images = report.imageLibrary.map { strings($0) }
        let slices = report.flaggedSlices.map { slice in
            cdcmtk_flagged_slice(
                image: strings(slice.image), tracking_identifier: strings("ICH slice \(slice.instanceNumber)"),
                tracking_uid: strings(slice.trackingUID), probability: slice.probability, attention: slice.attention)
        }
        let predecessor = report.predecessor.map { [strings($0)] } ?? []
        return try images.withUnsafeBufferPointer { images in
            try slices.withUnsafeBufferPointer { slices in
                var content = content(of: report, strings)
                (content.images, content.image_count) = (images.baseAddress, images.count)
                (content.slices, content.slice_count) = (slices.baseAddress, slices.count)
                return try withExtendedLifetime(strings) {
                    try identity.withHandle { source in
                        try predecessor.withUnsafeBufferPointer { predecessor in
                            content.predecessor = predecessor.isEmpty ? nil : predecessor.baseAddress
                            return try ResultWriting.encoded { cdcmtk_report_encode(&content, source, $0, $1, $2) }
                        }
                    }
                }
            }
        }
    }

    /// All but the lists.
    private static func content(of report: ReportContent, _ strings: ContentStrings) -> cdcmtk_report {
        cdcmtk_report(
            header: strings(headerOf: report), report_class: report.reportClass.shimValue,
            algorithm_name: strings(report.algorithmName), algorithm_version: strings(report.algorithmVersion),
            algorithm_parameters: strings(report.algorithmParameters),
            attention_parameters: strings(attentionParameters),
            presence: report.presence.shimValue, study_probability: report.studyProbability ?? .nan,
            study_tracking_uid: strings(report.studyTrackingUID), images: nil, image_count: 0, slices: nil,
            slice_count: 0, predecessor: nil, comment: strings(report.comment))
    }
}

extension ReportClass {
    fileprivate var shimValue: cdcmtk_report_class {
        switch self {
        case .enhanced: CDCMTK_ENHANCED_SR
        case .comprehensive: CDCMTK_COMPREHENSIVE_SR
        case .comprehensive3d: CDCMTK_COMPREHENSIVE_3D_SR
        }
    }
}

extension Presence {
    fileprivate var shimValue: cdcmtk_presence {
        switch self {
        case .present: CDCMTK_PRESENT
        case .absent: CDCMTK_ABSENT
        case .undetermined: CDCMTK_UNDETERMINED
        }
    }
}
