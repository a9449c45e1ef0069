/// What the node knows of one stored SOP instance: identity, place in the spool, and the header attributes that later
/// decisions need. Made by a worker from the data set, validated by the daemon.
public struct InstanceRecord: Codable, Sendable, Hashable {
    public var sopClassUID: UID
    public var sopInstanceUID: UID
    public var studyInstanceUID: UID
    public var seriesInstanceUID: UID
    public var transferSyntaxUID: UID
    /// AE title that sent it, kept in the file meta header (0002,0016) as well.
    public var callingAETitle: AETitle?
    /// AE title it was sent to, kept in the file meta header (0002,0018) as well.
    public var calledAETitle: AETitle?
    /// Bytes of the whole file.
    public var fileSize: Int
    /// 1 for the first object of this SOP Instance UID in the study, 2… for later objects of the same UID and other
    /// bytes.
    public var version: Int
    public var patient: PatientIdentity
    public var study: StudyAttributes
    public var series: SeriesAttributes
    public var image: ImageAttributes
    /// Of a multi-frame CT image; nil of others.
    public var multiFrame: MultiFrame?
    /// What it is a frame of, where it was made by `images`: neither told by workers nor kept.
    public var frame: FrameReference?

    private enum CodingKeys: CodingKey {
        case sopClassUID, sopInstanceUID, studyInstanceUID, seriesInstanceUID, transferSyntaxUID, callingAETitle
        case calledAETitle, fileSize, version, patient, study, series, image, multiFrame
    }

    public init(
        sopClassUID: UID, sopInstanceUID: UID, studyInstanceUID: UID, seriesInstanceUID: UID, transferSyntaxUID: UID,
        callingAETitle: AETitle? = nil, calledAETitle: AETitle? = nil, fileSize: Int = 0, version: Int = 1,
        patient: PatientIdentity = .init(), study: StudyAttributes = .init(),
        series: SeriesAttributes = .init(), image: ImageAttributes = .init()
    ) {
        self.sopClassUID = sopClassUID
        self.sopInstanceUID = sopInstanceUID
        self.studyInstanceUID = studyInstanceUID
        self.seriesInstanceUID = seriesInstanceUID
        self.transferSyntaxUID = transferSyntaxUID
        self.callingAETitle = callingAETitle
        self.calledAETitle = calledAETitle
        self.fileSize = fileSize
        self.version = version
        self.patient = patient
        self.study = study
        self.series = series
        self.image = image
    }
}

/// Patient module attributes (PS3.3 C.7.1.1). Identifies a person: never logged, never a label.
public struct PatientIdentity: Codable, Sendable, Hashable {
    public var name: String?
    public var id: String?
    public var issuerOfID: String?
    public var birthDate: String?
    public var sex: String?
    public init(
        name: String? = nil, id: String? = nil, issuerOfID: String? = nil, birthDate: String? = nil, sex: String? = nil
    ) {
        self.name = name
        self.id = id
        self.issuerOfID = issuerOfID
        self.birthDate = birthDate
        self.sex = sex
    }
}

/// General Study module attributes (PS3.3 C.7.2.1) and what else is the same for a whole study. Text as in the data
/// set, UTF-8.
public struct StudyAttributes: Codable, Sendable, Hashable {
    public var date: String?
    public var time: String?
    public var accessionNumber: String?
    public var description: String?
    public var timezoneOffset: String?
    public var institutionName: String?
    public init() {}
}

/// General Series and acquisition attributes (PS3.3 C.7.3.1, C.8.2.1) that series selection reads.
public struct SeriesAttributes: Codable, Sendable, Hashable {
    public var modality: String?
    public var number: Int?
    public var description: String?
    public var protocolName: String?
    public var bodyPartExamined: String?
    public var manufacturer: String?
    public var manufacturerModelName: String?
    public var stationName: String?
    public var convolutionKernel: String?
    public var contrastBolusAgent: String?
    public var frameOfReferenceUID: UID?
    /// (0020,1002): how many images the acquisition is declared to have.
    public var imagesInAcquisition: Int?
    public init() {}
}

/// Attributes of one image (PS3.3 C.7.6.1 to C.7.6.3, C.8.2.1). Lengths in millimetres, patient coordinates LPS.
public struct ImageAttributes: Codable, Sendable, Hashable {
    public var instanceNumber: Int?
    public var acquisitionNumber: Int?
    public var acquisitionDateTime: String?
    public var imageType: [String] = []
    /// Image Position (Patient): x, y, z of the first voxel's centre.
    public var position: [Double]?
    /// Image Orientation (Patient): direction cosines of a row, then of a column.
    public var orientation: [Double]?
    /// Pixel Spacing: between rows, then between columns.
    public var pixelSpacing: [Double]?
    public var sliceThickness: Double?
    public var spacingBetweenSlices: Double?
    public var gantryTilt: Double?
    public var rows: Int?
    public var columns: Int?
    public var samplesPerPixel: Int?
    public var photometricInterpretation: String?
    public var bitsAllocated: Int?
    public var bitsStored: Int?
    public var numberOfFrames: Int?
    public var rescaleIntercept: Double?
    public var rescaleSlope: Double?
    /// Whether the data set holds Pixel Data.
    public var hasPixelData = false
    public init() {}
}
