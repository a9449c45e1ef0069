import Foundation
import Logging

/// READY is said when both ports listen.
actor Readiness {
    private let dicomPort: Int
    private let logger: Logger
    private var consolePort: Int?

    init(dicomPort: Int, logger: Logger) {
        self.dicomPort = dicomPort
        self.logger = logger
    }

    var missing: String? { consolePort == nil ? "the console does not listen yet" : nil }

    func consoleListens(on port: Int) {
        consolePort = port
        logger.notice("node ready", metadata: ["dicom.port": "\(dicomPort)", "console.port": "\(port)"])
        SystemdNotifier.send("READY=1")
    }
}
