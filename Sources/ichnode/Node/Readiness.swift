import Foundation
import Logging
import StoreSCP

/// READY is said when all ports listen.
actor Readiness {
    private let ports: DICOMPorts
    private let logger: Logger
    private var consolePort: Int?

    init(ports: DICOMPorts, logger: Logger) {
        self.ports = ports
        self.logger = logger
    }

    var missing: String? { consolePort == nil ? "the console does not listen yet" : nil }

    func consoleListens(on port: Int) {
        consolePort = port
        var metadata: Logger.Metadata = ["console.port": "\(port)"]
        if let plain = ports.plain { metadata["dicom.port"] = "\(plain)" }
        if let tls = ports.tls { metadata["tls.port"] = "\(tls)" }
        logger.notice("node ready", metadata: metadata)
        SystemdNotifier.send("READY=1\nSTATUS=Ready")
    }
}
