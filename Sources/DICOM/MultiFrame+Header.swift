internal import WorkerProtocol

extension InstanceRecord {
    /// Takes what a multi-frame CT image says of its frames: what all have in common into `series` and `image`.
    mutating func takeFrames(_ reader: HeaderReader) {
        guard MultiFrame.sopClasses.contains(sopClassUID.string) else { return }
        let values = reader.values
        let groups = reader.functionalGroups
        let concatenation = MultiFrame.Concatenation(values)
        let problem = groups.problem ?? (groups.frames.count == image.numberOfFrames ?? 1 ? nil : .otherNumber)
        guard problem == nil else {
            multiFrame = MultiFrame([], problem: problem, concatenation: concatenation)
            return
        }
        // Within groups the texts are in the data set's character set.
        let outer = values.values.filter { $0.key == .specificCharacterSet }
        func attributes(_ group: [Tag: [UInt8]]) -> HeaderValues {
            HeaderValues(values: outer.merging(group) { $1 }, isBigEndian: values.isBigEndian)
        }
        var split = SplitFrames(
            record: self, shared: attributes(groups.shared), perFrame: groups.frames.map(attributes))
        split.record.series.contrastBolusAgent =
            series.contrastBolusAgent ?? attributes(groups.image).text(.codeMeaning)
        split.takeAll()
        self = split.record
        multiFrame = MultiFrame(split.frames, concatenation: concatenation)
    }
}

/// Attributes of a record and of its frames: as PS3.3 C.7.6.16.1.1 has it, in the shared group or in each frame's.
private struct SplitFrames {
    var record: InstanceRecord
    var frames: [FrameAttributes]
    let shared: HeaderValues
    let perFrame: [HeaderValues]

    init(record: InstanceRecord, shared: HeaderValues, perFrame: [HeaderValues]) {
        self.record = record
        self.shared = shared
        self.perFrame = perFrame
        frames = perFrame.map { _ in FrameAttributes() }
    }

    mutating func takeAll() {
        for index in frames.indices { frames[index].position = perFrame[index].decimals(.imagePosition, count: 3) }
        take(\.image.orientation, \.orientation) { $0.decimals(.imageOrientation, count: 6) }
        take(\.image.pixelSpacing, \.pixelSpacing) { $0.decimals(.pixelSpacing, count: 2) }
        take(\.image.sliceThickness, \.sliceThickness) { $0.decimal(.sliceThickness) }
        take(\.image.spacingBetweenSlices, \.spacingBetweenSlices) { $0.decimal(.spacingBetweenSlices) }
        take(\.image.acquisitionNumber, \.acquisitionNumber) { $0.unsignedShort(.frameAcquisitionNumber) }
        take(\.series.convolutionKernel, \.convolutionKernel) { $0.text(.convolutionKernel) }
        take(\.series.contrastBolusAgent, \.contrastBolusAgent, Self.contrastAgent)
        take(\.image.typeIfAny, \.type, Self.type)
        if record.series.bodyPartExamined == nil {
            let regions = Set(([shared] + perFrame).compactMap { $0.text(.codeMeaning) })
            record.series.bodyPartExamined = regions.count == 1 ? regions.first : nil
        }
    }

    /// What differs from frame to frame stays with the frames.
    private mutating func take<Value: Equatable>(
        _ common: WritableKeyPath<InstanceRecord, Value?>, _ own: WritableKeyPath<FrameAttributes, Value?>,
        _ read: (HeaderValues) -> Value?
    ) {
        let values = perFrame.map(read)
        if let all = read(shared) ?? values.first.flatMap({ first in values.allSatisfy { $0 == first } ? first : nil })
        {
            record[keyPath: common] = all
        }
        for (index, value) in values.enumerated() where value != record[keyPath: common] {
            frames[index][keyPath: own] = value
        }
    }

    private static func contrastAgent(_ values: HeaderValues) -> String? {
        let administered = values.codes(.contrastBolusAgentAdministered)
        guard administered.isEmpty else { return administered.contains("YES") ? "administered" : "none" }
        return values.text(.contrastBolusAgent)
    }

    private static func type(_ values: HeaderValues) -> [String]? {
        let type = values.codes(.frameType) + values.codes(.volumeBasedCalculationTechnique).filter { $0 != "NONE" }
        return type.isEmpty ? nil : type
    }
}

extension ImageAttributes {
    fileprivate var typeIfAny: [String]? {
        get { imageType.isEmpty ? nil : imageType }
        set { imageType = newValue ?? [] }
    }
}

extension MultiFrame.Concatenation {
    fileprivate init?(_ values: HeaderValues) {
        guard let uid = values.code(.concatenationUID).flatMap({ UID($0) }) else { return nil }
        self.init(
            uid: uid, number: values.unsignedShort(.inConcatenationNumber),
            total: values.unsignedShort(.inConcatenationTotalNumber),
            frameOffset: values.unsignedLong(.concatenationFrameOffsetNumber) ?? 0)
    }
}
