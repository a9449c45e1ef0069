/// Names an attribute (PS3.5 §7.1).
public struct Tag: Hashable, Sendable, CustomStringConvertible {
    public let group: UInt16
    public let element: UInt16

    public init(_ group: UInt16, _ element: UInt16) {
        self.group = group
        self.element = element
    }

    /// One number is hashed in half the time of two.
    public func hash(into hasher: inout Hasher) { hasher.combine(UInt32(group) << 16 | UInt32(element)) }

    /// As in PS3.6: (gggg,eeee).
    public var description: String { "(\(Self.hexadecimal(group)),\(Self.hexadecimal(element)))" }

    private static func hexadecimal(_ number: UInt16) -> String {
        let digits = String(number, radix: 16, uppercase: true)
        return String(repeating: "0", count: 4 - digits.count) + digits
    }
}

extension Tag {
    // Structure of sequences (PS3.5 §7.5).
    static let item = Tag(0xFFFE, 0xE000)
    static let itemDelimitation = Tag(0xFFFE, 0xE00D)
    static let sequenceDelimitation = Tag(0xFFFE, 0xE0DD)

    static let floatPixelData = Tag(0x7FE0, 0x0008)
    static let doubleFloatPixelData = Tag(0x7FE0, 0x0009)
    static let pixelData = Tag(0x7FE0, 0x0010)

    var isPixelData: Bool { self == .pixelData || self == .floatPixelData || self == .doubleFloatPixelData }
}

/// The attributes that `InstanceRecord` is made of; all others are passed over.
extension Tag {
    static let specificCharacterSet = Tag(0x0008, 0x0005)
    static let imageType = Tag(0x0008, 0x0008)
    static let sopClassUID = Tag(0x0008, 0x0016)
    static let sopInstanceUID = Tag(0x0008, 0x0018)
    static let studyDate = Tag(0x0008, 0x0020)
    static let acquisitionDate = Tag(0x0008, 0x0022)
    static let acquisitionDateTime = Tag(0x0008, 0x002A)
    static let studyTime = Tag(0x0008, 0x0030)
    static let acquisitionTime = Tag(0x0008, 0x0032)
    static let accessionNumber = Tag(0x0008, 0x0050)
    static let modality = Tag(0x0008, 0x0060)
    static let manufacturer = Tag(0x0008, 0x0070)
    static let institutionName = Tag(0x0008, 0x0080)
    static let timezoneOffset = Tag(0x0008, 0x0201)
    static let referringPhysicianName = Tag(0x0008, 0x0090)
    static let stationName = Tag(0x0008, 0x1010)
    static let studyDescription = Tag(0x0008, 0x1030)
    static let seriesDescription = Tag(0x0008, 0x103E)
    static let manufacturerModelName = Tag(0x0008, 0x1090)
    static let patientName = Tag(0x0010, 0x0010)
    static let patientID = Tag(0x0010, 0x0020)
    static let issuerOfPatientID = Tag(0x0010, 0x0021)
    static let patientBirthDate = Tag(0x0010, 0x0030)
    static let patientSex = Tag(0x0010, 0x0040)
    static let contrastBolusAgent = Tag(0x0018, 0x0010)
    static let bodyPartExamined = Tag(0x0018, 0x0015)
    static let sliceThickness = Tag(0x0018, 0x0050)
    static let spacingBetweenSlices = Tag(0x0018, 0x0088)
    static let protocolName = Tag(0x0018, 0x1030)
    static let gantryTilt = Tag(0x0018, 0x1120)
    static let convolutionKernel = Tag(0x0018, 0x1210)
    static let studyInstanceUID = Tag(0x0020, 0x000D)
    static let seriesInstanceUID = Tag(0x0020, 0x000E)
    static let seriesNumber = Tag(0x0020, 0x0011)
    static let acquisitionNumber = Tag(0x0020, 0x0012)
    static let instanceNumber = Tag(0x0020, 0x0013)
    static let imagePosition = Tag(0x0020, 0x0032)
    static let imageOrientation = Tag(0x0020, 0x0037)
    static let frameOfReferenceUID = Tag(0x0020, 0x0052)
    static let imagesInAcquisition = Tag(0x0020, 0x1002)
    static let concatenationUID = Tag(0x0020, 0x9161)
    static let inConcatenationNumber = Tag(0x0020, 0x9162)
    static let inConcatenationTotalNumber = Tag(0x0020, 0x9163)
    static let concatenationFrameOffsetNumber = Tag(0x0020, 0x9228)
    static let samplesPerPixel = Tag(0x0028, 0x0002)
    static let photometricInterpretation = Tag(0x0028, 0x0004)
    static let numberOfFrames = Tag(0x0028, 0x0008)
    static let rows = Tag(0x0028, 0x0010)
    static let columns = Tag(0x0028, 0x0011)
    static let pixelSpacing = Tag(0x0028, 0x0030)
    static let bitsAllocated = Tag(0x0028, 0x0100)
    static let bitsStored = Tag(0x0028, 0x0101)
    static let rescaleIntercept = Tag(0x0028, 0x1052)
    static let rescaleSlope = Tag(0x0028, 0x1053)

    static let recorded: Set<Tag> = [
        .specificCharacterSet, .imageType, .sopClassUID, .sopInstanceUID, .studyDate, .acquisitionDate,
        .acquisitionDateTime, .studyTime, .acquisitionTime, .accessionNumber, .modality, .manufacturer,
        .institutionName, .timezoneOffset, .stationName, .studyDescription, .seriesDescription,
        .manufacturerModelName, .patientName, .patientID, .issuerOfPatientID, .patientBirthDate, .patientSex,
        .contrastBolusAgent, .bodyPartExamined, .sliceThickness, .spacingBetweenSlices, .protocolName, .gantryTilt,
        .convolutionKernel, .studyInstanceUID, .seriesInstanceUID, .seriesNumber, .acquisitionNumber,
        .instanceNumber, .imagePosition, .imageOrientation, .frameOfReferenceUID, .imagesInAcquisition,
        .concatenationUID, .inConcatenationNumber, .inConcatenationTotalNumber, .concatenationFrameOffsetNumber,
        .samplesPerPixel, .photometricInterpretation, .numberOfFrames, .rows, .columns, .pixelSpacing,
        .bitsAllocated, .bitsStored, .rescaleIntercept, .rescaleSlope,
    ]
}
