internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

/// `ichnode-dicom commit`: asks one peer for storage commitment, then exits.
struct Commit: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "commit", abstract: "Ask a peer whether it keeps objects (storage commitment).")

    @OptionGroup var tls: TLSOptions
    @OptionGroup var options: WorkerOptions

    func run() throws {
        RequestVerb.run("commit", tls: tls, options: options) { request, identity, channel in
            guard case .commit(let job) = request else { throw WorkerError(.protocolViolation, "not a job to commit") }
            for event in Self.answer(job, identity) { try channel.send(event) }
        }
    }

    private static func answer(_ job: CommitJob, _ identity: RequestVerb.Identity) -> [SendEvent] {
        do throws(RequestFailure) {
            let requestor = try Requestor(
                to: job.peer, from: job.callingAETitle, proposals: [.storageCommitment], identity: identity,
                connectTimeoutSeconds: job.timeoutSeconds, responseTimeoutSeconds: job.timeoutSeconds)
            let (response, report) = try requestor.commit(
                job.objects, transaction: job.transactionUID, reportSeconds: job.reportSeconds)
            if let reason = CommitmentStatus.failure(response) {
                return [.failed(SendFailure(kind: .other, reason: reason))]
            }
            return [.commitmentAsked] + (report.map { [.commitment($0)] } ?? [])
        } catch {
            let isRefused = error.kind == nil
            let reason =
                isRefused
                ? "the peer accepts no presentation context for storage commitment: switch it on there, or off for "
                    + "this peer" : error.reason
            return [.failed(SendFailure(kind: error.kind ?? .other, reason: reason))]
        }
    }
}
