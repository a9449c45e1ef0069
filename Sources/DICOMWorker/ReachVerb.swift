internal import ArgumentParser
internal import DICOM
internal import WorkerProtocol

/// `ichnode-dicom reach`: connects to one host, within TLS where that is asked for, then exits.
struct Reach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reach", abstract: "See whether a host takes a connection, and TLS.")

    @OptionGroup var tls: TLSOptions
    @OptionGroup var options: WorkerOptions

    func run() throws {
        RequestVerb.run("reach", tls: tls, options: options) { request, identity, channel in
            guard case .reach(let job) = request else { throw WorkerError(.protocolViolation, "not a job to reach") }
            try channel.send(Self.answer(job, identity))
        }
    }

    private static func answer(_ job: ReachJob, _ identity: RequestVerb.Identity) -> SendEvent {
        do throws(RequestFailure) {
            let host = try ReachedHost(job, identity: identity)
            return .reached(address: host.address, session: host.session)
        } catch {
            return .failed(
                SendFailure(kind: error.kind ?? .other, reason: error.reason, speaksTLS: error.speaksTLS))
        }
    }
}
