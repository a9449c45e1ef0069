internal import Foundation
internal import WorkerProtocol

/// How a site's series are judged, where it differs from what the headers' vocabulary says.
public struct SelectionRules: Sendable, Equatable {
    /// A regular expression from a configuration. Compared with texts in lower case with accents removed.
    public struct TextPattern: Sendable, Equatable, CustomStringConvertible {
        public let source: String
        private let pattern: Pattern

        /// Header texts are cut there before they are compared: a sender must not buy time with a long one.
        static let mostCharacters = 256

        /// - Returns: nil where it is no regular expression.
        public init?(_ source: String) {
            guard let pattern = Pattern(validating: source) else { return nil }
            (self.source, self.pattern) = (source, pattern)
        }

        public static func == (left: TextPattern, right: TextPattern) -> Bool { left.source == right.source }

        public var description: String { source }

        /// - Parameter text: a header's; nil is like the empty one.
        public func matches(_ text: String?) -> Bool {
            pattern.matches(String(HeaderVocabulary.folded(text).prefix(Self.mostCharacters)))
        }
    }

    /// A series with less is not analysed. A head has 15 slices of 10 mm.
    public var leastSlices: Int
    /// A series that covers less is not analysed, mm. A head is 130 mm from base to vertex.
    public var leastCoverageMillimetres: Double
    /// Slice Thickness that is taken before another, mm.
    public var preferredThicknessMillimetres: ClosedRange<Double>
    /// Series Description or Protocol Name of series that are taken before others, whatever else their texts say.
    public var preferredDescriptions: [TextPattern]
    /// Series Description or Protocol Name of series that are never analysed.
    public var refusedDescriptions: [TextPattern]
    /// Convolution Kernels that are for soft tissue, and such that are for bone or lung, whatever they are called.
    public var softKernels: [String]
    public var boneKernels: [String]
    /// Instead of these rules for studies of an institution; the first whose Institution Name matches counts.
    public var institutions: [Institution]

    public struct Institution: Sendable, Equatable {
        public var name: TextPattern
        public var rules: SelectionRules
        public init(name: TextPattern, rules: SelectionRules) {
            self.name = name
            self.rules = rules
        }
    }

    public init(
        leastSlices: Int = 8, leastCoverageMillimetres: Double = 80,
        preferredThicknessMillimetres: ClosedRange<Double> = 2.4...5.1, preferredDescriptions: [TextPattern] = [],
        refusedDescriptions: [TextPattern] = [], softKernels: [String] = [], boneKernels: [String] = [],
        institutions: [Institution] = []
    ) {
        self.leastSlices = leastSlices
        self.leastCoverageMillimetres = leastCoverageMillimetres
        self.preferredThicknessMillimetres = preferredThicknessMillimetres
        self.preferredDescriptions = preferredDescriptions
        self.refusedDescriptions = refusedDescriptions
        self.softKernels = softKernels
        self.boneKernels = boneKernels
        self.institutions = institutions
    }

    func rules(ofInstitution name: String?) -> SelectionRules {
        institutions.first { $0.name.matches(name) }?.rules ?? self
    }

    func isPreferred(_ series: SeriesAttributes) -> Bool {
        preferredDescriptions.contains { $0.matches(series.description) || $0.matches(series.protocolName) }
    }

    /// The rule that refuses a series.
    func refusing(_ series: SeriesAttributes) -> TextPattern? {
        refusedDescriptions.first { $0.matches(series.description) || $0.matches(series.protocolName) }
    }

    /// - Returns: nil where the kernel is not known.
    func isBone(kernel: String, manufacturer: String) -> Bool? {
        let name = HeaderVocabulary.folded(kernel)
        if softKernels.contains(where: { HeaderVocabulary.folded($0) == name }) { return false }
        if boneKernels.contains(where: { HeaderVocabulary.folded($0) == name }) { return true }
        return HeaderVocabulary.isBone(kernel: kernel, manufacturer: manufacturer)
    }
}
