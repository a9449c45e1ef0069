/// Daemon → `ichnode-dicom compose`. Each `ComposeRequest` is followed by one bulk frame for each capture, in order:
/// RGB, 8 bits a sample, [row][column][R,G,B].
public struct ComposeRequest: Codable, Sendable {
    /// A stored instance of the analysed (or refused) series: patient and study attributes are carried over from it.
    public var identitySourcePath: String
    public var report: ReportContent
    public var captures: [CaptureContent]
    public var keyObjects: KeyObjectContent?
    /// Folder that receives the files; exists. Files are written durably under the names given in the content.
    public var outputDirectory: String

    public init(
        identitySourcePath: String, report: ReportContent, captures: [CaptureContent],
        keyObjects: KeyObjectContent? = nil, outputDirectory: String
    ) {
        self.identitySourcePath = identitySourcePath
        self.report = report
        self.captures = captures
        self.keyObjects = keyObjects
        self.outputDirectory = outputDirectory
    }
}

/// Who made the result: goes into the equipment modules, the observer context and the algorithm identification.
public struct Device: Codable, Sendable, Equatable {
    public var manufacturer: String
    public var modelName: String
    public var serialNumber: String
    public var softwareVersion: String
    public var deviceUID: UID
    public var stationName: String
    public init(
        manufacturer: String, modelName: String, serialNumber: String, softwareVersion: String, deviceUID: UID,
        stationName: String
    ) {
        self.manufacturer = manufacturer
        self.modelName = modelName
        self.serialNumber = serialNumber
        self.softwareVersion = softwareVersion
        self.deviceUID = deviceUID
        self.stationName = stationName
    }
}

/// Presence of a finding, CID 240 (PS3.16).
public enum Presence: String, Codable, Sendable {
    case present, absent, undetermined
}

/// SOP class of the report, by route.
public enum ReportClass: String, Codable, Sendable, CaseIterable {
    case enhanced, comprehensive, comprehensive3d

    public var sopClassUID: UID {
        switch self {
        case .enhanced: UID(literal: "1.2.840.10008.5.1.4.1.1.88.22")
        case .comprehensive: UID(literal: "1.2.840.10008.5.1.4.1.1.88.33")
        case .comprehensive3d: UID(literal: "1.2.840.10008.5.1.4.1.1.88.34")
        }
    }

    /// Name of the SOP class (PS3.6 Annex A).
    public var title: String {
        switch self {
        case .enhanced: "Enhanced SR Storage"
        case .comprehensive: "Comprehensive SR Storage"
        case .comprehensive3d: "Comprehensive 3D SR Storage"
        }
    }

    /// What a report can be for a destination that refuses this class, in order.
    public var alternatives: [ReportClass] { [.comprehensive3d, .comprehensive, .enhanced].filter { $0 != self } }
}

/// A reference to a stored image, to frames of it, or to another document.
public struct ImageReference: Codable, Sendable, Hashable {
    public var sopClassUID: UID
    public var sopInstanceUID: UID
    public var seriesInstanceUID: UID
    /// From 1, ascending; empty for all of the image.
    public var frames: [Int]
    public init(sopClassUID: UID, sopInstanceUID: UID, seriesInstanceUID: UID, frames: [Int] = []) {
        self.sopClassUID = sopClassUID
        self.sopInstanceUID = sopInstanceUID
        self.seriesInstanceUID = seriesInstanceUID
        self.frames = frames
    }
}

/// What every kind of result object has.
public protocol ResultContent {
    var fileName: String { get }
    var sopInstanceUID: UID { get }
    var seriesInstanceUID: UID { get }
    var contentDate: String { get }
    var contentTime: String { get }
    var timezoneOffset: String { get }
    /// 1 for the first result on a study.
    var revision: Int { get }
    var device: Device { get }
}

/// A TID 1500 report (PS3.16), one for each analysis.
public struct ReportContent: ResultContent, Codable, Sendable {
    public var fileName: String
    public var reportClass: ReportClass
    public var sopInstanceUID: UID
    public var seriesInstanceUID: UID
    /// When the analysis started; Content Date and Time.
    public var contentDate: String
    public var contentTime: String
    public var timezoneOffset: String
    /// 1 for the first report on a study.
    public var revision: Int
    /// The report that this one supersedes: Predecessor Documents Sequence (PS3.3 C.17.2).
    public var predecessor: ImageReference?
    public var device: Device
    public var algorithmName: String
    public var algorithmVersion: String
    /// For example "operating point = 0.50".
    public var algorithmParameters: String
    public var presence: Presence
    /// nil where nothing was analysed.
    public var studyProbability: Double?
    public var studyTrackingUID: UID
    /// The analysed series; empty where nothing was analysed: then the images of the study that were looked at.
    public var imageLibrary: [ImageReference]
    public var flaggedSlices: [FlaggedSlice]
    public var comment: String
    /// The same report in other SOP classes.
    public var alternatives: [ReportAlternative]

    public init(
        fileName: String, reportClass: ReportClass, sopInstanceUID: UID, seriesInstanceUID: UID, contentDate: String,
        contentTime: String, timezoneOffset: String, revision: Int = 1, predecessor: ImageReference? = nil,
        device: Device, algorithmName: String, algorithmVersion: String, algorithmParameters: String,
        presence: Presence, studyProbability: Double?, studyTrackingUID: UID,
        imageLibrary: [ImageReference], flaggedSlices: [FlaggedSlice], comment: String,
        alternatives: [ReportAlternative] = []
    ) {
        self.fileName = fileName
        self.reportClass = reportClass
        self.sopInstanceUID = sopInstanceUID
        self.seriesInstanceUID = seriesInstanceUID
        self.contentDate = contentDate
        self.contentTime = contentTime
        self.timezoneOffset = timezoneOffset
        self.revision = revision
        self.predecessor = predecessor
        self.device = device
        self.algorithmName = algorithmName
        self.algorithmVersion = algorithmVersion
        self.algorithmParameters = algorithmParameters
        self.presence = presence
        self.studyProbability = studyProbability
        self.studyTrackingUID = studyTrackingUID
        self.imageLibrary = imageLibrary
        self.flaggedSlices = flaggedSlices
        self.comment = comment
        self.alternatives = alternatives
    }

    /// The report as one of its alternatives.
    public func encoded(as alternative: ReportAlternative) -> ReportContent {
        var content = self
        content.fileName = alternative.fileName
        content.reportClass = alternative.reportClass
        content.sopInstanceUID = alternative.sopInstanceUID
        content.seriesInstanceUID = alternative.seriesInstanceUID
        content.alternatives = []
        return content
    }
}

/// How a report is named in another SOP class; another class is another instance.
public struct ReportAlternative: Codable, Sendable, Equatable {
    public var reportClass: ReportClass
    public var fileName: String
    public var sopInstanceUID: UID
    public var seriesInstanceUID: UID
    public init(reportClass: ReportClass, fileName: String, sopInstanceUID: UID, seriesInstanceUID: UID) {
        self.reportClass = reportClass
        self.fileName = fileName
        self.sopInstanceUID = sopInstanceUID
        self.seriesInstanceUID = seriesInstanceUID
    }
}

public struct FlaggedSlice: Codable, Sendable, Equatable {
    public var image: ImageReference
    public var instanceNumber: Int
    public var trackingUID: UID
    public var probability: Double
    /// Share of the head's attention, 0…1.
    public var attention: Double
    public init(image: ImageReference, instanceNumber: Int, trackingUID: UID, probability: Double, attention: Double) {
        self.image = image
        self.instanceNumber = instanceNumber
        self.trackingUID = trackingUID
        self.probability = probability
        self.attention = attention
    }
}

public enum CaptureKind: String, Codable, Sendable, CaseIterable {
    /// Over one slice, of which it has the plane.
    case heatmap
    /// Several slices side by side, and what was found, in words.
    case summary
}

/// A slice that a capture shows.
public struct CaptureSource: Codable, Sendable, Equatable {
    public var path: String
    public var image: ImageReference
    public init(path: String, image: ImageReference) {
        self.path = path
        self.image = image
    }
}

/// A single-frame RGB Secondary Capture (PS3.3 A.8.1).
public struct CaptureContent: ResultContent, Codable, Sendable {
    public var fileName: String
    public var kind: CaptureKind
    public var sopInstanceUID: UID
    public var seriesInstanceUID: UID
    public var instanceNumber: Int
    public var rows: Int
    public var columns: Int
    /// The CT slices beneath; one for a heatmap.
    public var sources: [CaptureSource]
    public var contentDate: String
    public var contentTime: String
    public var timezoneOffset: String
    /// 1 for the first result on a study.
    public var revision: Int
    public var device: Device
    public var derivationDescription: String
    public var imageComments: String
    public init(
        fileName: String, kind: CaptureKind = .heatmap, sopInstanceUID: UID, seriesInstanceUID: UID,
        instanceNumber: Int, rows: Int, columns: Int, sources: [CaptureSource], contentDate: String,
        contentTime: String, timezoneOffset: String, revision: Int = 1, device: Device, derivationDescription: String,
        imageComments: String
    ) {
        self.fileName = fileName
        self.kind = kind
        self.sopInstanceUID = sopInstanceUID
        self.seriesInstanceUID = seriesInstanceUID
        self.instanceNumber = instanceNumber
        self.rows = rows
        self.columns = columns
        self.sources = sources
        self.contentDate = contentDate
        self.contentTime = contentTime
        self.timezoneOffset = timezoneOffset
        self.revision = revision
        self.device = device
        self.derivationDescription = derivationDescription
        self.imageComments = imageComments
    }
}

/// A Key Object Selection Document (PS3.3 A.35.4) titled "Of Interest".
public struct KeyObjectContent: ResultContent, Codable, Sendable {
    public var fileName: String
    public var sopInstanceUID: UID
    public var seriesInstanceUID: UID
    public var contentDate: String
    public var contentTime: String
    public var timezoneOffset: String
    /// 1 for the first result on a study.
    public var revision: Int
    public var device: Device
    public var description: String
    /// In the order in which they are to be looked at.
    public var images: [ImageReference]
    public init(
        fileName: String, sopInstanceUID: UID, seriesInstanceUID: UID, contentDate: String, contentTime: String,
        timezoneOffset: String, revision: Int = 1, device: Device, description: String, images: [ImageReference]
    ) {
        self.fileName = fileName
        self.sopInstanceUID = sopInstanceUID
        self.seriesInstanceUID = seriesInstanceUID
        self.contentDate = contentDate
        self.contentTime = contentTime
        self.timezoneOffset = timezoneOffset
        self.revision = revision
        self.device = device
        self.description = description
        self.images = images
    }
}

/// `ichnode-dicom compose` → daemon, one for each request.
public enum ComposeEvent: Codable, Sendable {
    /// All files are written and durable, in the order report, captures, key objects, alternatives of the report; all
    /// carry the identity.
    case composed([ComposedObject], CarriedIdentity)
    /// Nothing was written that the daemon has to keep. By the code `system` the request is not at fault: the same may
    /// succeed later.
    case failed(code: WorkerError.Code, reason: String)
}

/// Patient and study as they were carried over from the source, UTF-8; nil where they are absent or empty. Identifies a
/// person: never logged.
public struct CarriedIdentity: Codable, Sendable, Equatable {
    public var patient: PatientIdentity
    /// Without what results do not carry: institution.
    public var study: StudyAttributes
    public var referringPhysicianName: String?
    /// What was ordered: Requested Procedure Code Sequence (0032,1064), else Procedure Code Sequence (0008,1032).
    public var procedureCode: CodedEntry?
    /// Text was not of its declared character set.
    public var isTextGuessed: Bool
    public init(
        patient: PatientIdentity, study: StudyAttributes, referringPhysicianName: String? = nil,
        procedureCode: CodedEntry? = nil, isTextGuessed: Bool = false
    ) {
        self.patient = patient
        self.study = study
        self.referringPhysicianName = referringPhysicianName
        self.procedureCode = procedureCode
        self.isTextGuessed = isTextGuessed
    }
}

/// Code Value, Coding Scheme Designator and Code Meaning (PS3.3 Table 8.8-1).
public struct CodedEntry: Codable, Sendable, Equatable {
    public var value: String
    public var scheme: String
    public var meaning: String
    public init(value: String, scheme: String, meaning: String) {
        self.value = value
        self.scheme = scheme
        self.meaning = meaning
    }
}

public struct ComposedObject: Codable, Sendable, Equatable {
    public var path: String
    public var sopClassUID: UID
    public var sopInstanceUID: UID
    public init(path: String, sopClassUID: UID, sopInstanceUID: UID) {
        self.path = path
        self.sopClassUID = sopClassUID
        self.sopInstanceUID = sopInstanceUID
    }
}
