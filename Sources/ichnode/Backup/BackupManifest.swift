import Foundation
import WorkerProtocol

/// What a back-up says of itself. Beside it lie `files`, which lists all others, and what these are of: the layout is
/// that of a data directory.
struct BackupManifest: Codable, Equatable {
    static let format = 1
    static let name = "manifest.json"
    /// Of the manifest, as sha256sum(1) writes and checks it.
    static let digestName = "manifest.json.sha256"
    static let listName = "files"

    var format: Int
    var nodeVersion: String
    /// Migrations that the ledger has seen.
    var schemaVersion: Int
    /// What came later is not in it.
    var takenAt: Date
    /// See `NodeFolders.installation`.
    var installation: String
    /// That the ledger names files in.
    var dataDirectory: String
    /// Other names of it that the ledger names files in.
    var otherDirectories: [String]?
    var hasImages: Bool
    /// All of `files`.
    var fileCount: Int
    var byteCount: Int
    /// Result files that the ledger names and that were not there; nil where an earlier version did not say.
    var missingResults: Int?
    /// SHA-256 of `files`.
    var listDigest: String

    func encoded() throws -> Data {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(self) + Data("\n".utf8)
    }

    static func decoded(_ bytes: Data) throws -> BackupManifest {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        return try decoder.decode(BackupManifest.self, from: bytes)
    }

    static func digestLine(_ bytes: Data) -> String { "\(SHA256Digest.hex(of: bytes))  \(name)\n" }

    var takenAtText: String { takenAt.formatted(.iso8601) }
}

/// A line of `files`: SHA-256, size in bytes, path, with one space between them.
struct BackupEntry: Equatable {
    static let ledger = "ledger.sqlite"
    static let installation = "installation-id"
    static let images = "spool/studies"

    var digest: String
    var bytes: Int
    var path: String

    init(digest: String, bytes: Int, path: String) {
        (self.digest, self.bytes, self.path) = (digest, bytes, path)
    }

    /// nil for what no back-up lists: a path that leads elsewhere, or that is none of the node's.
    init?(line: Substring) {
        let parts = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].utf8.count == 64, let bytes = Int(parts[1]), bytes >= 0,
            Self.isPath(String(parts[2]))
        else { return nil }
        self.init(digest: String(parts[0]), bytes: bytes, path: String(parts[2]))
    }

    var line: String { "\(digest) \(bytes) \(path)\n" }

    static func isPath(_ path: String) -> Bool {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let isPlain = parts.allSatisfy { part in
            !part.isEmpty && !part.hasPrefix(".")
                && part.utf8.allSatisfy {
                    UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || UInt8(ascii: "a")...UInt8(ascii: "z") ~= $0
                        || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0 || [0x2D, 0x2E, 0x5F].contains($0)
                }
        }
        let isKnown =
            [ledger, installation].contains(path)
            || ["results/", "audit/", "\(images)/"].contains { path.hasPrefix($0) }
        return isPlain && isKnown
    }
}
