/// What the instances of a series mostly have in common: told, held and kept once for many of them.
public struct CommonAttributes: Codable, Sendable, Hashable {
    public var sopClassUID: UID
    public var studyInstanceUID: UID
    public var seriesInstanceUID: UID
    public var transferSyntaxUID: UID
    public var callingAETitle: AETitle?
    public var calledAETitle: AETitle?
    public var patient: PatientIdentity
    public var study: StudyAttributes
    public var series: SeriesAttributes
    /// Without what is in `OwnAttributes`.
    public var image: ImageAttributes

    public init(_ record: InstanceRecord) {
        sopClassUID = record.sopClassUID
        studyInstanceUID = record.studyInstanceUID
        seriesInstanceUID = record.seriesInstanceUID
        transferSyntaxUID = record.transferSyntaxUID
        callingAETitle = record.callingAETitle
        calledAETitle = record.calledAETitle
        patient = record.patient
        study = record.study
        series = record.series
        image = record.image
        image.instanceNumber = nil
        image.acquisitionNumber = nil
        image.acquisitionDateTime = nil
        image.position = nil
    }
}

/// What each instance has of its own.
public struct OwnAttributes: Codable, Sendable, Hashable {
    public var sopInstanceUID: UID
    public var fileSize: Int
    public var version: Int
    public var instanceNumber: Int?
    public var acquisitionNumber: Int?
    public var acquisitionDateTime: String?
    public var position: [Double]?
    public var multiFrame: MultiFrame?

    public init(
        sopInstanceUID: UID, fileSize: Int, version: Int, instanceNumber: Int?, acquisitionNumber: Int?,
        acquisitionDateTime: String?, position: [Double]?, multiFrame: MultiFrame? = nil
    ) {
        self.sopInstanceUID = sopInstanceUID
        self.fileSize = fileSize
        self.version = version
        self.instanceNumber = instanceNumber
        self.acquisitionNumber = acquisitionNumber
        self.acquisitionDateTime = acquisitionDateTime
        self.position = position
        self.multiFrame = multiFrame
    }

    public init(_ record: InstanceRecord) {
        sopInstanceUID = record.sopInstanceUID
        fileSize = record.fileSize
        version = record.version
        instanceNumber = record.image.instanceNumber
        acquisitionNumber = record.image.acquisitionNumber
        acquisitionDateTime = record.image.acquisitionDateTime
        position = record.image.position
        multiFrame = record.multiFrame
    }
}

extension InstanceRecord {
    /// The inverse of `CommonAttributes(record)` and `OwnAttributes(record)`. Records of the same `common` share the
    /// storage of its texts.
    public init(_ common: CommonAttributes, _ own: OwnAttributes) {
        self.init(
            sopClassUID: common.sopClassUID, sopInstanceUID: own.sopInstanceUID,
            studyInstanceUID: common.studyInstanceUID, seriesInstanceUID: common.seriesInstanceUID,
            transferSyntaxUID: common.transferSyntaxUID, callingAETitle: common.callingAETitle,
            calledAETitle: common.calledAETitle, fileSize: own.fileSize, version: own.version,
            patient: common.patient, study: common.study, series: common.series, image: common.image)
        image.instanceNumber = own.instanceNumber
        image.acquisitionNumber = own.acquisitionNumber
        image.acquisitionDateTime = own.acquisitionDateTime
        image.position = own.position
        multiFrame = own.multiFrame
    }
}
