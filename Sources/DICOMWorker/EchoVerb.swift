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
        var identity: Result<TLSIdentity, TLSFileProblem>?
        let confinement = Confinement(
            fileSizeBytes: 1 << 20, paths: [.init("/dev/null", .write)] + NameResolution.paths, allowsNetwork: true)
        Worker.run(
            "echo", options, confinement: confinement,
            prepare: {
                try Library.prepare(needsDictionary: true)
                identity = tls.requestorIdentity()
            },
            serve: { channel in
                guard let (request, _) = try channel.receive(SendRequest.self) else { return }
                guard case .echo(let job) = request else { throw WorkerError(.protocolViolation, "not a job to echo") }
                try channel.send(Self.answer(job, identity))
                try channel.send(SendEvent.done)
            })
    }

    private static func answer(
        _ job: EchoJob, _ identity: Result<TLSIdentity, TLSFileProblem>?
    ) -> SendEvent {
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
