/// Daemon → `ichnode-dicom describe`: what does a report of ours say?
public struct DescribeRequest: Codable, Sendable {
    /// Of its file, below the worker's folder.
    public var path: String
    public init(path: String) { self.path = path }
}

/// `ichnode-dicom describe` → daemon.
public enum DescribeEvent: Codable, Sendable {
    case described(ReportDocument)
    case failed(reason: String)
}

/// A Structured Report as text, in document order.
public struct ReportDocument: Codable, Sendable, Equatable {
    public struct Item: Codable, Sendable, Equatable {
        /// 1 for the root, 2 for what is in it; 0 for an attribute of the header.
        public var level: Int
        /// PS3.3 Table C.17.3-7; empty for an attribute.
        public var valueType: String
        public var name: String
        /// Meaning of a code, number without unit, SOP Instance UID of an image; empty for a container.
        public var value: String
        public init(level: Int, valueType: String, name: String, value: String) {
            self.level = level
            self.valueType = valueType
            self.name = name
            self.value = value
        }
    }

    public var items: [Item]
    public init(items: [Item]) { self.items = items }

    public var header: [Item] { items.filter { $0.level == 0 } }
    public var content: [Item] { items.filter { $0.level > 0 } }
}
