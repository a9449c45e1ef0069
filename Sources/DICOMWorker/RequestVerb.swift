internal import DICOM
internal import WorkerProtocol

/// What the verbs share that open an association: network but no files of the node's, key material read before they
/// confine themselves, and one job.
enum RequestVerb {
    /// Of us; nil where no key material was named.
    typealias Identity = Result<TLSIdentity, TLSFileProblem>?

    static func confinement(reading paths: [String] = []) -> Confinement {
        Confinement(
            fileSizeBytes: 1 << 20,
            paths: paths.map { .init($0, .read) } + [.init("/dev/null", .write)] + NameResolution.paths,
            allowsNetwork: true)
    }

    /// - Parameters:
    ///   - paths: what it may read beside what name resolution needs.
    ///   - serve: sends its events; `done` follows. Throws `WorkerError` for a job of another kind.
    static func run(
        _ name: String, tls: TLSOptions, options: WorkerOptions, reading paths: [String] = [],
        serve: (SendRequest, Identity, Channel) throws -> Void
    ) {
        var identity: Identity = nil
        Worker.run(
            name, options, confinement: confinement(reading: paths),
            prepare: {
                try Library.prepare(needsDictionary: true)
                identity = tls.requestorIdentity()
            },
            serve: { channel in
                guard let (request, _) = try channel.receive(SendRequest.self) else { return }
                try serve(request, identity, channel)
                try channel.send(SendEvent.done)
            })
    }
}
