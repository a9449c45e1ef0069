internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

/// `ichnode-dicom find`: asks one peer what it holds of a study, then exits.
struct Find: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "find", abstract: "Ask a peer which series of a study it holds (C-FIND).")

    @OptionGroup var tls: TLSOptions
    @OptionGroup var options: WorkerOptions

    func run() throws {
        RequestVerb.run("find", tls: tls, options: options) { request, identity, channel in
            guard case .find(let job) = request else { throw WorkerError(.protocolViolation, "not a job to find") }
            for event in Self.answer(job, identity) { try channel.send(event) }
        }
    }

    private static func answer(_ job: FindJob, _ identity: RequestVerb.Identity) -> [SendEvent] {
        do throws(RequestFailure) {
            let requestor = try Requestor(
                to: job.peer, from: job.callingAETitle, proposals: [.studyRootFind], identity: identity,
                connectTimeoutSeconds: job.timeoutSeconds, responseTimeoutSeconds: job.timeoutSeconds)
            let counts = try requestor.seriesCounts(ofStudy: job.studyInstanceUID)
            return counts.sorted { $0.key < $1.key }.map { .found(seriesInstanceUID: $0.key, images: $0.value) }
        } catch {
            let isRefused = error.kind == nil
            let reason = (isRefused ? "the peer refuses queries (Study Root C-FIND): " : "") + error.reason
            return [.failed(SendFailure(kind: error.kind ?? .other, reason: reason))]
        }
    }
}
