public import WorkerProtocol

/// Why a series, or a whole study, is not analysed. Texts are what SRs, the console and the logs say.
public enum SelectionReason: Sendable, Hashable, Codable, CustomStringConvertible {
    case noImages
    /// In the whole study.
    case moreImages(than: Int)
    case notCT
    case noPixelData
    case localizer
    case secondaryCaptureOrDerived
    case multiFrame
    case framesNotKnown(MultiFrame.Problem)
    case noGeometry
    case notAxial
    case smallerThan(pixels: Int)
    case contrastAgent
    case angiographyOrPerfusion
    case boneKernel
    case partOfHead
    case otherBodyPart(String)
    case fewerSlices(than: Int)
    case coversOnly(millimetres: Int)
    /// Of a study: nothing in the headers says head, and the pixels show no brain.
    case noBrainInPixels
    /// Of a series: the pixels show no brain. Where the headers say head: a phantom, an empty volume.
    case noBrainTissue
    /// Configured so.
    case refusedDescription(String)

    public var description: String {
        switch self {
        case .noImages: "no images"
        case .moreImages(let count): "more than \(count) images in the study"
        case .notCT: "not a CT"
        case .noPixelData: "no pixel data"
        case .localizer: "localizer"
        case .secondaryCaptureOrDerived: "secondary capture or derived image"
        case .multiFrame: "multi-frame object, not supported"
        case .framesNotKnown(let problem): "multi-frame object, not analysed: \(problem)"
        case .noGeometry: "no position, orientation or pixel spacing"
        case .notAxial: "reformatted, not axial"
        case .smallerThan(let pixels): "fewer than \(pixels) rows or columns"
        case .contrastAgent: "contrast agent given"
        case .angiographyOrPerfusion: "angiography or perfusion"
        case .boneKernel: "bone kernel"
        case .partOfHead: "face, ear or sinuses, not the whole head"
        case .otherBodyPart(let name): "body part \(name) is not the head"
        case .fewerSlices(let count): "fewer than \(count) slices"
        case .coversOnly(let millimetres): "covers only \(millimetres) mm"
        case .noBrainInPixels: "no head by header or pixels"
        case .noBrainTissue: "no brain tissue"
        case .refusedDescription(let pattern): "description matches \"\(pattern)\", which the configuration refuses"
        }
    }

    /// Whether more instances of the same series may lift the reason.
    public var mayPass: Bool {
        switch self {
        case .noImages, .fewerSlices, .coversOnly: true
        default: false
        }
    }

    /// Of the reasons of several series, the one that says most about the study has the lowest rank.
    var rank: Int {
        switch self {
        case .fewerSlices, .coversOnly, .moreImages: 0
        case .boneKernel, .refusedDescription: 1
        case .contrastAgent: 2
        case .angiographyOrPerfusion: 3
        case .partOfHead: 4
        case .otherBodyPart: 5
        case .multiFrame, .framesNotKnown: 6
        case .notAxial, .smallerThan: 7
        case .noGeometry: 8
        case .secondaryCaptureOrDerived: 9
        case .localizer: 10
        case .noPixelData: 11
        case .notCT: 12
        case .noImages, .noBrainInPixels, .noBrainTissue: 13
        }
    }
}

/// Why another usable series was taken.
public enum SelectionPreference: Sendable, Equatable, CustomStringConvertible {
    case analysedAlready
    case namedHead
    case wholeHead
    case preferredDescription
    case preferredThickness
    case coverage
    case original
    case knownKernel
    case lowerNumber

    public var description: String {
        switch self {
        case .analysedAlready: "another series has been analysed already"
        case .namedHead: "another series is named a head"
        case .wholeHead: "another series covers more of the head"
        case .preferredDescription: "another series has a description that the configuration prefers"
        case .preferredThickness: "another series has a better slice thickness"
        case .coverage: "another series covers a little more"
        case .original: "another series is original, this one derived"
        case .knownKernel: "another series has a kernel that is known for soft tissue"
        case .lowerNumber: "another series has a lower number"
        }
    }
}
