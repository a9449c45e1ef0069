/// What a file says otherwise than what is in force.
struct ConfigurationChange: Codable, Sendable, Equatable, CustomStringConvertible {
    private static let mostCharacters = 160

    /// "peers[pacs].port"
    var key: String
    /// As it may be shown; nil where that would not tell them apart.
    var values: [String]?
    var isLive: Bool

    var description: String {
        let change = values.map { $0.map { $0.prefix(Self.mostCharacters) }.joined(separator: " -> ") } ?? "has changed"
        return "\(key) \(change)" + (isLive ? "" : ": takes effect at the next start")
    }
}
