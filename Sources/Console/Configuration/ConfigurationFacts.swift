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
        public init(
            key: String, value: String?, line: Int? = nil, defaultValue: String? = nil, help: String? = nil,
            option: String? = nil
        ) {
            self.key = key
            self.value = value
            self.line = line
            self.defaultValue = defaultValue
            self.help = help
            self.option = option
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

    public init(file: String, readAt: Date, digest: String, standing: FileStanding, sections: [Section]) {
        self.file = file
        self.readAt = readAt
        self.digest = digest
        self.standing = standing
        self.sections = sections
    }
}
