internal import WorkerProtocol

/// Values of a multi-frame image's functional groups (PS3.3 C.7.6.16), as bytes, within bounds: what the standard puts
/// into one item of a macro's sequence. Of several items, the values follow each other like those of one attribute.
struct FunctionalGroups: Equatable {
    /// Longest value that is kept, and all of them: a daemon's message holds them as JSON.
    static let mostValueBytes = 256
    static let mostBytes = 1 << 20

    /// Of the one item of Shared Functional Groups.
    private(set) var shared: [Tag: [UInt8]] = [:]
    /// Of each item of Per-frame Functional Groups.
    private(set) var frames: [[Tag: [UInt8]]] = []
    /// Of the data set's own sequences.
    private(set) var image: [Tag: [UInt8]] = [:]
    /// Why `frames` cannot be believed; nothing is kept then.
    private(set) var problem: MultiFrame.Problem?

    private enum Place { case image, shared, frame }
    private var place = Place.image
    private var bytes = 0

    /// Sequences of the data set that are followed, and those within that the recorded attributes are in.
    static let roots: Set<Tag> = [.sharedFunctionalGroups, .perFrameFunctionalGroups, .contrastBolusAgentSequence]
    private static let recorded: Set<[Tag]> = [
        [.planePosition, .imagePosition], [.planeOrientation, .imageOrientation], [.pixelMeasures, .pixelSpacing],
        [.pixelMeasures, .sliceThickness], [.pixelMeasures, .spacingBetweenSlices],
        [.ctImageFrameType, .frameType], [.ctImageFrameType, .volumeBasedCalculationTechnique],
        [.frameContent, .frameAcquisitionNumber], [.ctReconstruction, .convolutionKernel],
        [.contrastBolusUsage, .contrastBolusAgentAdministered],
        [.frameAnatomy, .anatomicRegion, .codeMeaning], [.contrastBolusAgentSequence, .codeMeaning],
        // What Legacy Converted objects have no macro for (PS3.3 A.70).
        [.unassignedShared, .convolutionKernel], [.unassignedShared, .contrastBolusAgent],
        [.unassignedPerFrame, .convolutionKernel], [.unassignedPerFrame, .contrastBolusAgent],
    ]
    private static let sequences = roots.union(recorded.flatMap { $0.dropLast() })

    /// - Parameter sequences: that enclose an attribute, the data set's own first.
    func keeps(_ tag: Tag, within sequences: [Tag]) -> Bool {
        guard problem == nil, let root = sequences.first, Self.roots.contains(root) else { return false }
        let path = root == .contrastBolusAgentSequence ? sequences : Array(sequences.dropFirst())
        return Self.recorded.contains(path + [tag])
    }

    /// An item of one of `roots`.
    mutating func beginItem(of root: Tag) {
        switch root {
        case .sharedFunctionalGroups: place = .shared
        case .perFrameFunctionalGroups:
            place = .frame
            guard problem == nil else { return }
            guard frames.count < MultiFrame.mostFrames else { return fail(.tooMany) }
            frames.append([:])
        default: place = .image
        }
    }

    /// - Returns: whether there is room for it; then its bytes follow by `append`.
    mutating func beginValue(_ tag: Tag, length: Int) -> Bool {
        bytes += length + 1  // what parts it from the one before
        guard length <= Self.mostValueBytes, bytes <= Self.mostBytes else {
            fail(.tooLong)
            return false
        }
        change(tag) { value in
            if value == nil { value = [] } else { value?.append(UInt8(ascii: "\\")) }
        }
        return true
    }

    mutating func append(_ tag: Tag, _ more: some Collection<UInt8>) {
        if problem == nil { change(tag) { $0?.append(contentsOf: more) } }
    }

    /// A sequence turned out to be none.
    mutating func abandon(_ sequence: Tag) {
        if Self.sequences.contains(sequence) { fail(.malformed) }
    }

    private mutating func fail(_ reason: MultiFrame.Problem) {
        problem = reason
        (shared, frames, image) = ([:], [], [:])
    }

    private mutating func change(_ tag: Tag, _ body: (inout [UInt8]?) -> Void) {
        switch place {
        case .image: body(&image[tag])
        case .shared: body(&shared[tag])
        case .frame: body(&frames[frames.count - 1][tag])
        }
    }
}

extension Tag {
    static let codeMeaning = Tag(0x0008, 0x0104)
    static let anatomicRegion = Tag(0x0008, 0x2218)
    static let frameType = Tag(0x0008, 0x9007)
    static let volumeBasedCalculationTechnique = Tag(0x0008, 0x9207)
    static let contrastBolusAgentSequence = Tag(0x0018, 0x0012)
    static let ctReconstruction = Tag(0x0018, 0x9314)
    static let ctImageFrameType = Tag(0x0018, 0x9329)
    static let contrastBolusUsage = Tag(0x0018, 0x9341)
    static let contrastBolusAgentAdministered = Tag(0x0018, 0x9342)
    static let frameAnatomy = Tag(0x0020, 0x9071)
    static let frameContent = Tag(0x0020, 0x9111)
    static let planePosition = Tag(0x0020, 0x9113)
    static let planeOrientation = Tag(0x0020, 0x9116)
    static let frameAcquisitionNumber = Tag(0x0020, 0x9156)
    static let unassignedShared = Tag(0x0020, 0x9170)
    static let unassignedPerFrame = Tag(0x0020, 0x9171)
    static let pixelMeasures = Tag(0x0028, 0x9110)
    static let sharedFunctionalGroups = Tag(0x5200, 0x9229)
    static let perFrameFunctionalGroups = Tag(0x5200, 0x9230)
}
