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
            for event in Self.answers(job, identity) { try channel.send(event) }
        }
    }

    private static func answers(_ job: EchoJob, _ identity: RequestVerb.Identity) -> [SendEvent] {
        let clock = ContinuousClock()
        do throws(RequestFailure) {
            let requestor = try Requestor(
                to: job.peer, from: job.callingAETitle,
                proposals: [.verification] + job.sopClasses.map { .init(uncompressed: $0.string) }, identity: identity,
                connectTimeoutSeconds: job.timeoutSeconds, responseTimeoutSeconds: job.timeoutSeconds)
            let reached = requestor.session.map { [SendEvent.reached(address: job.peer.host, session: $0)] } ?? []
            let start = clock.now
            let response = try requestor.echo()
            let answer = SendEvent.echoed(status: response.status, milliseconds: (clock.now - start) / .milliseconds(1))
            if job.sopClasses.isEmpty { return reached + [answer] }
            return reached + [answer, .refused(sopClasses: job.sopClasses.filter { !requestor.accepts($0) })]
        } catch {
            let reason = error.kind == nil ? "the peer refuses Verification: \(error.reason)" : error.reason
            let failure = SendFailure(
                kind: error.kind ?? .other, reason: reason, refusedTitle: error.refusedTitle)
            return [.failed(failure)]
        }
    }
}
