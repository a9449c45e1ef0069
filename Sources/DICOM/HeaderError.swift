/// Why a data set's header cannot be taken. Equality is on the code.
public struct HeaderError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: Sendable {
        /// Not what the transfer syntax prescribes.
        case malformed
        /// The data set ends within an element.
        case truncated
        /// Sequences within sequences beyond `ObjectLimits.sequenceDepth`.
        case tooDeep
        /// Another of `ObjectLimits`.
        case overLimit
        /// An attribute that identifies the object is missing or no UID.
        case identity
    }

    public let code: Code
    /// Lower-case phrase, no patient identity.
    public let reason: String
    /// Bytes of the data set before the place, after inflation where deflated.
    public let offset: Int

    init(_ code: Code, _ reason: String, offset: Int = 0) {
        self.code = code
        self.reason = reason
        self.offset = offset
    }

    public var description: String { "\(reason) (at byte \(offset))" }
    public static func == (left: HeaderError, right: HeaderError) -> Bool { left.code == right.code }
}
