public import Foundation

/// The configuration that the node runs with, without secrets.
public struct ConfigurationFacts: Sendable {
    public struct Setting: Sendable, Equatable {
        public var key: String
        /// nil: not set, and there is no default.
        public var value: String?
        /// Of the file; nil: the file does not have it.
        public var line: Int?
        public var defaultValue: String?
        /// What it is for, as the annotated example says.
        public var help: String?
        /// The option of the command line that it comes from.
        public var option: String?
        /// What it will be at the next start; nil: the same.
        public var pending: String?
        public init(
            key: String, value: String?, line: Int? = nil, defaultValue: String? = nil, help: String? = nil,
            option: String? = nil, pending: String? = nil
        ) {
            self.key = key
            self.value = value
            self.line = line
            self.defaultValue = defaultValue
            self.help = help
            self.option = option
            self.pending = pending
        }

        public var isDefault: Bool { option == nil && (line == nil || value == defaultValue) }
        public static let hidden = "hidden"
    }

    public struct Section: Sendable, Equatable {
        /// "dicom", "peers[0]".
        public var path: String
        public var settings: [Setting]
        public init(path: String, settings: [Setting]) {
            self.path = path
            self.settings = settings
        }
    }

    /// What the file is like now.
    public enum FileStanding: Sendable, Equatable {
        case unchanged, changed
        /// In words.
        case unreadable(String)
    }

    public var file: String
    public var readAt: Date
    /// SHA-256 of what was read.
    public var digest: String
    public var standing: FileStanding
    public var sections: [Section]
    /// What was wrong with the file when it was read last; nil: it counts, or was not read since.
    public var refusal: Refusal?

    public struct Refusal: Sendable, Equatable {
        public var at: Date
        /// In words, a line each.
        public var reason: String
        public init(at: Date, reason: String) { (self.at, self.reason) = (at, reason) }
    }

    public init(
        file: String, readAt: Date, digest: String, standing: FileStanding, sections: [Section],
        refusal: Refusal? = nil
    ) {
        self.file = file
        self.readAt = readAt
        self.digest = digest
        self.standing = standing
        self.sections = sections
        self.refusal = refusal
    }
}
