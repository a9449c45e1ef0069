internal import ArgumentParser
internal import CLinux
internal import DICOM
internal import Foundation
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// `ichnode-dicom compose`: writes a report and what goes with it for each request, until the daemon closes
/// the channel.
struct Compose: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compose", abstract: "Write reports, captures and key objects as DICOM files.")

    @Option(help: "The folder of stored instances; read only.")
    var spool: String

    @Option(help: "The folder that may be written to.")
    var output: String

    static func confinement(spool: String, output: String) -> Confinement {
        Confinement(fileSizeBytes: 256 << 20, paths: [.init(spool, .read), .init(output, .scratch)])
    }

    func run() throws {
        do {
            try ResultWriting.prepare()
            let files = ResultFiles()
            let channel = try WorkerSide.begin(
                verb: "compose",
                confinement: Self.confinement(spool: spool, output: output),
                limits: Frame.Limits(bulk: ComposeRequests.mostPixelBytes),
                onDaemonGone: { files.discard() })
            let requests = ComposeRequests(
                spool: SubtreePath(spool), output: SubtreePath(output), channel: channel, files: files)
            while try requests.serveNext() {}
        } catch let error as WorkerError where error.code == .closed {
            // The daemon is gone, in the middle of a request: nobody waits for an answer, and nothing is left of it.
        } catch {
            WorkerSide.fail("compose", error)
        }
    }
}

/// Reads requests and answers them.
private struct ComposeRequests {
    static let mostPixelBytes = CaptureWriter.mostRowsOrColumns * CaptureWriter.mostRowsOrColumns * 3

    let spool: SubtreePath
    let output: SubtreePath
    let channel: Channel
    let files: ResultFiles

    /// - Returns: false at the end of the channel.
    func serveNext() throws -> Bool {
        guard let (request, descriptor) = try channel.receive(ComposeRequest.self) else { return false }
        if let descriptor { Glibc.close(descriptor) }
        var captures = request.captures[...]
        do {
            let composed = try compose(request) {
                captures = captures.dropFirst()
                return try channel.receiveBulk()
            }
            // The files are the daemon's from here on, whatever becomes of this process.
            files.handOver()
            try channel.send(composed)
        } catch let error as WorkerError where error.code == .failed || error.code == .system {
            files.discard()
            // What was announced still arrives; it is not of the next request.
            for _ in captures { _ = try channel.receiveBulk() }
            try channel.send(ComposeEvent.failed(code: error.code, reason: error.reason))
        } catch {
            files.discard()
            throw error
        }
        return true
    }

    private func compose(_ request: ComposeRequest, nextPixels: () throws -> Data) throws -> ComposeEvent {
        guard request.captures.count <= CaptureWriter.mostCaptures else {
            throw WorkerError(.failed, "more captures than a request may have")
        }
        let directory = try output.checked(request.outputDirectory)
        let identity = try SourceHeader(path: try spool.checked(request.identitySourcePath))
        var composed: [ComposedObject] = []
        func stage(_ file: [UInt8], of content: some ResultContent, _ sopClassUID: UID) throws {
            try files.stage(file, as: content.fileName, in: directory)
            composed.append(
                ComposedObject(
                    path: "\(directory)/\(content.fileName)", sopClassUID: sopClassUID,
                    sopInstanceUID: content.sopInstanceUID))
        }
        var report = request.report
        if identity.identity.isTextGuessed {
            report.comment +=
                " Patient or study text is not of the character set that the images declare: letters may be wrong."
        }
        try stage(
            try ReportWriter.encode(report, identity: identity), of: report, report.reportClass.sopClassUID)
        for capture in request.captures {
            let pixels = try nextPixels()
            let slices = try capture.sources.map { source in
                try SourceHeader(path: try spool.checked(source.path), frame: source.image.frames.first ?? 1)
            }
            let file = try CaptureWriter.encode(capture, pixels: pixels, identity: identity, slices: slices)
            try stage(file, of: capture, CaptureWriter.sopClassUID)
        }
        if let keyObjects = request.keyObjects {
            let file = try KeyObjectWriter.encode(keyObjects, identity: identity)
            try stage(file, of: keyObjects, KeyObjectWriter.sopClassUID)
        }
        for alternative in report.alternatives.map(report.encoded) {
            let file = try ReportWriter.encode(alternative, identity: identity)
            try stage(file, of: alternative, alternative.reportClass.sopClassUID)
        }
        try files.publish(in: directory)
        return .composed(composed, identity.identity)
    }
}
