internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// `ichnode-dicom receive`: serves one association on a socket that the daemon hands over, then exits.
struct Receive: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "receive", abstract: "Receive the objects of one association.")

    @Option(help: "The folder for objects that are under way.")
    var incoming: String

    @Option(help: "The folder of studies, into which whole objects are moved.")
    var studies: String

    @OptionGroup var tls: TLSOptions
    @OptionGroup var options: WorkerOptions

    static func confinement(incoming: String, studies: String) -> Confinement {
        Confinement(paths: [.init(incoming, .scratch), .init(studies, .addOnly), .init("/dev/null", .write)])
    }

    func run() throws {
        let partial = PartialFile()
        var identity: TLSIdentity?
        Worker.run(
            "receive", options, confinement: Self.confinement(incoming: incoming, studies: studies),
            prepare: {
                try Library.prepare()
                // Confined, the worker may not read the files any more.
                if let files = tls.files { identity = try TLSIdentity(files, for: .accepting) }
                if options.template { try Rehearsal.run() }
            },
            onDaemonGone: { partial.remove() },
            serve: { channel in
                guard let (request, socket) = try channel.receive(ReceiveRequest.self) else { return }
                guard case .serve(let job) = request, let socket else {
                    if let socket { close(socket) }
                    if case .stop = request { return }
                    throw WorkerError(.protocolViolation, "no job, or no socket with it")
                }
                let spool = try Spool(incoming: incoming, studies: studies, job: job, partial: partial)
                let session = ReceiveSession(channel: channel, job: job, spool: spool, identity: identity)
                try session.serve(takingOwnershipOf: socket)
            })
    }
}
