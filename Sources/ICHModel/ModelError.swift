/// What can go wrong on the model's side of the node. Equality is on the code.
public struct ModelError: Error, Sendable, CustomStringConvertible, Equatable {
    public struct Code: RawRepresentable, Sendable, Hashable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
        /// The model package is missing, damaged, or of another kind.
        public static let package = Code(rawValue: "model package")
        /// OpenVINO, or the model in it, failed or answered with other shapes than the package says.
        public static let inference = Code(rawValue: "inference")
        /// A slice whose attributes or pixels cannot be used.
        public static let slice = Code(rawValue: "slice")
        /// More slices, slabs or pixels than the limits allow.
        public static let limit = Code(rawValue: "limit")
        /// The source of planes did not supply one that is needed again.
        public static let missingPlane = Code(rawValue: "missing plane")
        /// A number that is not finite where a result was due.
        public static let notFinite = Code(rawValue: "not finite")
    }

    public let code: Code
    /// Lower-case phrase that says what and what to do, no patient identity.
    public let reason: String
    public let location: String

    public init(_ code: Code, _ reason: String, file: StaticString = #fileID, line: UInt = #line) {
        self.code = code
        self.reason = reason
        location = "\(file):\(line)"
    }

    public var description: String { "\(code.rawValue): \(reason) (\(location))" }
    public static func == (left: ModelError, right: ModelError) -> Bool { left.code == right.code }
}
