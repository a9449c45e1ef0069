/// What keeps a series from being whole although it can be analysed: images that show a part of the head that nothing
/// else may show, or slices that lie too far apart.
enum Omission: Sendable, Hashable, CustomStringConvertible {
    enum Kind: Sendable, Hashable, CaseIterable {
        case otherOrientation
        case otherPosition
        case widerField
        case noGeometry
        case noPixelData
        case multiFrame
        case small
        case ungrouped
    }

    case images(Kind, count: Int)
    /// Every second slice may be missing.
    case wideSpacing(millimetres: Double)

    var description: String {
        switch self {
        case .images(let kind, let count):
            let images = count == 1 ? "1 image" : "\(count) images"
            return "\(images) \(Self.words(kind)) not analysed"
        case .wideSpacing(let millimetres):
            return "spacing of \((millimetres * 100).rounded() / 100) mm is about twice the slice thickness or more"
        }
    }

    private static func words(_ kind: Kind) -> String {
        switch kind {
        case .otherOrientation: "of another orientation"
        case .otherPosition: "at other positions"
        case .widerField: "of a wider field of view"
        case .noGeometry: "without position, orientation or pixel spacing"
        case .noPixelData: "without pixel data"
        case .multiFrame: "of several frames"
        case .small: "with fewer than \(SeriesJudge.leastPixels) rows or columns"
        case .ungrouped: "beyond the first \(SliceStack.mostGroups) groups of unlike images"
        }
    }
}
