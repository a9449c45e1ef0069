import Console
import Foundation
import StoreSCP

extension NodeStanding {
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
