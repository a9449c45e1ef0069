public import WorkerProtocol

/// What is known of the series that would be analysed, apart from time and associations.
public struct SeriesEvidence: Sendable, Equatable {
    /// Which it is; while none can be chosen, the first that might be if more of it came.
    public var seriesInstanceUID: UID?
    /// How many images of it are there.
    public var imageCount: Int
    /// What is not there.
    public var missing: [CompletionReason]
    /// Why it may be less than all although nothing is missing. Time settles these, or a count that agrees.
    public var doubts: [CompletionReason]
    /// There are as many images as the scanner declared.
    public var isAsDeclared: Bool

    public init(
        seriesInstanceUID: UID? = nil, imageCount: Int = 0, missing: [CompletionReason] = [],
        doubts: [CompletionReason] = [], isAsDeclared: Bool = false
    ) {
        self.seriesInstanceUID = seriesInstanceUID
        self.imageCount = imageCount
        self.missing = missing
        self.doubts = doubts
        self.isAsDeclared = isAsDeclared
    }
}

/// Why a study is not taken for complete, in the words that operators and reports read. All such words are here.
public enum CompletionReason: Sendable, Equatable, CustomStringConvertible {
    /// Between others along the normal, by their spacing.
    case slice(atMillimetres: Double)
    /// Missing slices that are not listed.
    case more(Int)
    /// A series that would be analysed if more of it came; why it is not yet.
    case partialSeries(String)
    case wideSpacing(millimetres: Double, thickness: Double)
    /// Images in Acquisition (0020,1002).
    case fewerThanDeclared(present: Int, Int)
    /// Asked by C-FIND.
    case fewerThanHeld(present: Int, Int)
    /// The association that brought it broke off within it, or it was refused; none came after.
    case imageLost
    /// Seen in the pixels: the head goes on beyond an end of the series, "upper" or "lower".
    case cutOff(end: String)
    /// Of a head: its other series are still to come.
    case localizersOnly
    /// The series of a head that are there can all not be analysed; why.
    case noSeries(String)
    /// Removed by retention, and not sent again.
    case purged(Int)
    /// In-concatenation Total Number (0020,9163).
    case concatenation(present: Int, Int)
    /// The count that made the study complete is of another series than the one that is analysed.
    case countOfAnother

    public var description: String {
        switch self {
        case .slice(let millimetres): "no slice at \(Self.tenths(millimetres)) mm along the normal"
        case .more(let count): "and \(count) more"
        case .partialSeries(let reason): "part of a series: \(reason)"
        case .wideSpacing(let millimetres, let thickness):
            "slices of \(Self.tenths(thickness)) mm are \(Self.tenths(millimetres)) mm apart"
        case .fewerThanDeclared(let present, let declared):
            "\(present) of \(declared) images that the scanner declared"
        case .fewerThanHeld(let present, let held): "\(present) of \(held) images that the PACS holds"
        case .imageLost: "an image was cut off or refused, and did not come again"
        case .cutOff(let end): "the \(end) end of the series shows brain: the head is cut off"
        case .localizersOnly: "localizers only"
        case .noSeries(let reason): "no series that can be analysed: \(reason)"
        case .purged(let count): "\(count) images that retention removed"
        case .concatenation(let present, let total): "\(present) of \(total) parts of a concatenation"
        case .countOfAnother: "complete by the count of another series"
        }
    }

    public var isPurged: Bool {
        if case .purged = self { true } else { false }
    }

    private static func tenths(_ number: Double) -> String {
        // One decimal without a locale.
        "\((number * 10).rounded() / 10)"
    }
}
