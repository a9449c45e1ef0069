internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

/// `ichnode-dicom move`: has one peer send a series to the node, then exits.
struct Move: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "move", abstract: "Have a peer send a series to the node (C-MOVE).")

    @OptionGroup var tls: TLSOptions
    @OptionGroup var options: WorkerOptions

    func run() throws {
        RequestVerb.run("move", tls: tls, options: options) { request, identity, channel in
            guard case .move(let job) = request else { throw WorkerError(.protocolViolation, "not a job to move") }
            for event in Self.answer(job, identity) { try channel.send(event) }
        }
    }

    private static func answer(_ job: MoveJob, _ identity: RequestVerb.Identity) -> [SendEvent] {
        do throws(RequestFailure) {
            let requestor = try Requestor(
                to: job.peer, from: job.callingAETitle, proposals: [.studyRootMove], identity: identity,
                connectTimeoutSeconds: job.timeoutSeconds, responseTimeoutSeconds: job.timeoutSeconds)
            let (counts, response) = try requestor.move(
                series: job.seriesInstanceUID, ofStudy: job.studyInstanceUID, to: job.callingAETitle,
                mostSeconds: job.mostSeconds)
            guard let reason = MoveStatus.failure(response) else { return [.moved(counts)] }
            return [.moved(counts), .failed(SendFailure(kind: .other, reason: reason))]
        } catch {
            let isRefused = error.kind == nil
            let reason = (isRefused ? "the peer refuses retrieval (Study Root C-MOVE): " : "") + error.reason
            return [.failed(SendFailure(kind: error.kind ?? .other, reason: reason))]
        }
    }
}
