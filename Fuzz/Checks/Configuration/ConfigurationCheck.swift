import AlertDispatcher
import Console
import StoreSCP
import WorkerProtocol
@testable import ichnode

#if canImport(FuzzSupport)
import FuzzSupport
#endif

/// The configuration reader. Input: the file.
public enum ConfigurationCheck {
    public static func check(_ input: [UInt8]) throws {
        let text = String(decoding: input, as: UTF8.self)
        do {
            try checkConfiguration(try ConfigurationReader.parse(text, file: "fuzz.yaml"))
        } catch let error as ConfigurationError {
            try checkError(error, lines: text.split(omittingEmptySubsequences: false, whereSeparator: isBreak).count)
        }
        // Any other error is a finding.
    }

    /// YAML 1.1 §5.4, as libyaml has them.
    private static func isBreak(_ character: Character) -> Bool {
        ["\n", "\r", "\r\n", "\u{85}", "\u{2028}", "\u{2029}"].contains(character)
    }

    private static func checkError(_ error: ConfigurationError, lines: Int) throws {
        try require(error.file == "fuzz.yaml" && !error.problems.isEmpty, "an error without a problem")
        for problem in error.problems {
            // The end of the file counts as a line.
            try require((1...lines + 1).contains(problem.line), "line \(problem.line) of \(lines): \(problem.text)")
            try require(!problem.text.isEmpty, "a problem without a text")
        }
        try require(error.description.hasPrefix("fuzz.yaml:"), error.description)
    }

    /// Within what the example configuration says, and usable.
    private static func checkConfiguration(_ configuration: NodeConfiguration) throws {
        let dicom = configuration.dicom
        let ports: [Int?] = [dicom.port, configuration.console.port]
        try require(ports.compactMap { $0 }.allSatisfy { (0...65535).contains($0) }, "ports \(ports)")
        try require((1...1024).contains(dicom.mostAssociations), "most_associations")
        try require(dicom.mostAssociationsPerPeer <= dicom.mostAssociations, "most_associations_per_peer")
        try require((4096...131_072).contains(dicom.maxPDUBytes), "max_pdu_bytes")
        try require((4...ObjectLimits.widest.sequenceDepth).contains(dicom.sequenceDepth), "sequence_depth")
        try require((1...64).contains(configuration.node.inferenceThreads), "inference_threads")
        let completion = configuration.completion
        let times = [
            dicom.admissionQueueSeconds, dicom.requestDeadlineSeconds, dicom.idleTimeoutSeconds,
            dicom.associationDeadlineSeconds, dicom.stopDeadlineSeconds, completion.graceSeconds,
            completion.quietSeconds, completion.deadlineSeconds, configuration.delivery.firstRetrySeconds,
            configuration.delivery.mostRetrySeconds,
        ]
        try require(times.allSatisfy { (0...86400).contains($0) }, "times \(times)")
        try require(completion.graceSeconds <= completion.quietSeconds, "grace_seconds")
        try require(completion.quietSeconds <= completion.deadlineSeconds, "quiet_seconds")
        let console = configuration.console
        let isLocal = ["127.0.0.1", "::1", "localhost"].contains(console.host)
        try require(isLocal || (console.tls != nil && !console.users.isEmpty), "console.host")
        let names = configuration.peers.map(\.name)
        try require(Set(names).count == names.count, "two peers of one name")
        try require(!configuration.routes.isEmpty, "no route")
        for route in configuration.routes {
            try require(!route.destinations.isEmpty && Set(route.destinations).isSubset(of: names), "route to nobody")
        }
        for peer in configuration.peers {
            try require(!peer.name.isEmpty && !peer.remote.host.isEmpty, "a peer without name or host")
            try require((1...65535).contains(peer.remote.port), "port of a peer")
        }
        let open = dicom.allowedNetworks.contains { $0.contains("8.8.8.8") || $0.contains("2001:db8::1") }
        try require(!open || !dicom.allowedCallingAETitles.isEmpty, "open to everyone")
        // Durations trap on what does not fit.
        _ = configuration.reception(hasRoom: { true })
        _ = (configuration.completionPolicy, configuration.retryPolicy)
    }
}
