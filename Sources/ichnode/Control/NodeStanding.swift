import Console
import Foundation
import StoreSCP

/// Which node runs, and with what.
struct NodeStanding: Codable, Sendable {
    var version: String
    var processID: Int32
    /// The file that it has read, and the digest of its text.
    var configurationFile: String
    var configurationDigest: String
    /// What the file says otherwise than what is in force until the next start: "dicom.port". nil of a node that does
    /// not know that.
    var pendingKeys: [String]?
    /// As configured.
    var ports: [Int]

    init(_ inForce: InForce) {
        let (configuration, source) = (inForce.configuration, inForce.source)
        version = NodeVersion.string
        processID = ProcessInfo.processInfo.processIdentifier
        configurationFile = URL(fileURLWithPath: source.file).standardizedFileURL.path
        configurationDigest = source.digest
        pendingKeys = source.pendingKeys
        ports = [configuration.dicom.port, configuration.tls?.port, configuration.console.port].compactMap { $0 }
    }
}
