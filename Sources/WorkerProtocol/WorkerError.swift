/// What can go wrong between the daemon and a child. Equality is on the code.
public struct WorkerError: Error, Sendable, CustomStringConvertible, Equatable {
    public struct Code: RawRepresentable, Codable, Sendable, Hashable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
        /// A frame or message that is not of the protocol.
        public static let protocolViolation = Code(rawValue: "protocol violation")
        /// The other end closed, or died.
        public static let closed = Code(rawValue: "closed")
        /// No answer by the deadline; the child was killed.
        public static let deadline = Code(rawValue: "deadline")
        /// The program could not be started.
        public static let start = Code(rawValue: "start")
        /// A system call failed.
        public static let system = Code(rawValue: "system")
        /// The worker says that it could not do the job.
        public static let failed = Code(rawValue: "failed")
    }

    public let code: Code
    /// Lower-case phrase, no patient identity.
    public let reason: String
    public let location: String

    public init(_ code: Code, _ reason: String, file: StaticString = #fileID, line: UInt = #line) {
        self.code = code
        self.reason = reason
        location = "\(file):\(line)"
    }

    public var description: String { "\(code.rawValue): \(reason) (\(location))" }
    public static func == (left: WorkerError, right: WorkerError) -> Bool { left.code == right.code }
}
