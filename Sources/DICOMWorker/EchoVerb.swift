internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

/// `ichnode-dicom echo`: C-ECHO to one peer, then exits.
struct Echo: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "echo", abstract: "Ask a peer whether it answers (C-ECHO).")

    @OptionGroup var tls: TLSOptions
    @OptionGroup var options: WorkerOptions

    func run() throws {
        RequestVerb.run("echo", tls: tls, options: options) { request, identity, channel in
            guard case .echo(let job) = request else { throw WorkerError(.protocolViolation, "not a job to echo") }
            try channel.send(Self.answer(job, identity))
        }
    }

    private static func answer(_ job: EchoJob, _ identity: RequestVerb.Identity) -> SendEvent {
        let clock = ContinuousClock()
        do throws(RequestFailure) {
            let requestor = try Requestor(
                to: job.peer, from: job.callingAETitle, proposals: [.verification], identity: identity,
                connectTimeoutSeconds: job.timeoutSeconds, responseTimeoutSeconds: job.timeoutSeconds)
            let start = clock.now
            let response = try requestor.echo()
            return .echoed(status: response.status, milliseconds: (clock.now - start) / .milliseconds(1))
        } catch {
            let reason = error.kind == nil ? "the peer refuses Verification: \(error.reason)" : error.reason
            return .failed(SendFailure(kind: error.kind ?? .other, reason: reason))
        }
    }
}
