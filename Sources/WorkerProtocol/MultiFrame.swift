/// What the frames of a multi-frame CT image have of their own, and how it belongs to others (PS3.3 C.7.6.16). What all
/// its frames have in common is in the record's `series` and `image`.
public struct MultiFrame: Codable, Sendable, Hashable {
    /// Why the attributes of the frames are not known. Such an object is stored, and not analysed.
    public enum Problem: String, Codable, Sendable, CustomStringConvertible {
        case tooMany, otherNumber, tooLong, malformed

        public var description: String {
            switch self {
            case .tooMany: "more than \(MultiFrame.mostFrames) frames"
            case .otherNumber: "another number of frames than of their functional groups"
            case .tooLong: "functional groups over the limit"
            case .malformed: "malformed functional groups"
            }
        }
    }

    /// A longer series is split into several instances (PS3.3 C.7.6.16.2.2.4).
    public struct Concatenation: Codable, Sendable, Hashable {
        public var uid: UID
        /// In-concatenation Number, from 1.
        public var number: Int?
        /// In-concatenation Total Number, where it is told.
        public var total: Int?
        /// Frames of the concatenation before this instance's first.
        public var frameOffset: Int

        public init(uid: UID, number: Int?, total: Int?, frameOffset: Int) {
            self.uid = uid
            self.number = number
            self.total = total
            self.frameOffset = frameOffset
        }
    }

    /// Enhanced CT and Legacy Converted Enhanced CT Image Storage (PS3.4 Table B.5-1).
    public static let sopClasses: Set<String> = ["1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"]
    public static let mostFrames = DecodeLimits.frames

    /// The first is frame 1; empty where there is a problem.
    public var frames: [FrameAttributes]
    public var problem: Problem?
    public var concatenation: Concatenation?

    public init(_ frames: [FrameAttributes], problem: Problem? = nil, concatenation: Concatenation? = nil) {
        self.frames = problem == nil ? frames : []
        self.problem = problem
        self.concatenation = concatenation
    }
}

/// What one frame has of its own; nil where it is as `InstanceRecord` says of all, or absent. Millimetres, LPS.
public struct FrameAttributes: Codable, Sendable, Hashable {
    public var position: [Double]?
    public var orientation: [Double]?
    public var pixelSpacing: [Double]?
    public var sliceThickness: Double?
    public var spacingBetweenSlices: Double?
    /// Frame Type (0008,9007), and Volume Based Calculation Technique (0008,9207) where there is one.
    public var type: [String]?
    public var acquisitionNumber: Int?
    public var convolutionKernel: String?
    public var contrastBolusAgent: String?
    public init() {}
}

/// A frame of a stored instance (PS3.3 Table 10-3).
public struct FrameReference: Codable, Sendable, Hashable {
    public var sopInstanceUID: UID
    /// From 1.
    public var number: Int
    public init(sopInstanceUID: UID, number: Int) {
        self.sopInstanceUID = sopInstanceUID
        self.number = number
    }
}

/// A stored file, or one frame of it.
public struct FrameLocation: Codable, Sendable, Hashable {
    public var path: String
    /// From 1; nil for all of the file.
    public var number: Int?
    public init(path: String, number: Int? = nil) {
        self.path = path
        self.number = number
    }
}

extension InstanceRecord {
    /// Of the object that is stored, also where this is a frame of it.
    public var storedSOPInstanceUID: UID { frame?.sopInstanceUID ?? sopInstanceUID }

    /// What series selection and analysis see as images: one record for each frame of a multi-frame image whose frames
    /// are known, with a UID of its own that is valid within the analysis alone, and `frame` to tell where it comes
    /// from. Any other record is its own only image.
    public var images: [InstanceRecord] {
        guard let multiFrame, !multiFrame.frames.isEmpty, multiFrame.frames.count <= MultiFrame.mostFrames,
            multiFrame.frames.count == image.numberOfFrames ?? 1
        else { return [self] }
        var common = self
        common.multiFrame?.frames = []
        // Numbers of frames go on from one part of a concatenation to the next. Wrapped, for any offset may be told.
        let offset = multiFrame.concatenation?.frameOffset ?? 0
        let numbersFrames = multiFrame.frames.count > 1 || multiFrame.concatenation != nil
        return multiFrame.frames.enumerated().map { index, own in
            var record = common
            let number = index + 1
            record.frame = FrameReference(sopInstanceUID: sopInstanceUID, number: number)
            record.sopInstanceUID = UID(derivedFrom: ["frame", sopInstanceUID.string, "\(number)"])
            if numbersFrames { record.image.instanceNumber = offset &+ number }
            record.image.take(own)
            record.series.convolutionKernel = own.convolutionKernel ?? series.convolutionKernel
            record.series.contrastBolusAgent = own.contrastBolusAgent ?? series.contrastBolusAgent
            return record
        }
    }
}

extension ImageAttributes {
    fileprivate mutating func take(_ own: FrameAttributes) {
        position = own.position
        orientation = own.orientation ?? orientation
        pixelSpacing = own.pixelSpacing ?? pixelSpacing
        sliceThickness = own.sliceThickness ?? sliceThickness
        spacingBetweenSlices = own.spacingBetweenSlices ?? spacingBetweenSlices
        imageType = own.type ?? imageType
        acquisitionNumber = own.acquisitionNumber ?? acquisitionNumber
    }
}
