internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

/// What name resolution reads (nsswitch.conf(5), resolv.conf(5)), for the verbs that open connections.
enum NameResolution {
    static let paths: [Confinement.PathRule] = [
        "/etc/hosts", "/etc/resolv.conf", "/run/systemd/resolve", "/etc/nsswitch.conf", "/etc/host.conf",
        "/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/ld.so.cache", "/lib", "/lib64", "/usr/lib",
    ].map { .init($0, .read) }
}

/// `ichnode-dicom send`: C-STORE of result objects to one peer over one association, then exits.
struct Send: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "send", abstract: "Send result objects to one peer.")

    @Option(help: "The folder of result objects; read only.")
    var results: String

    @OptionGroup var tls: TLSOptions
    @OptionGroup var options: WorkerOptions

    func run() throws {
        RequestVerb.run("send", tls: tls, options: options, reading: [results]) { request, identity, channel in
            guard case .store(let job) = request else { throw WorkerError(.protocolViolation, "not a job to send") }
            try StoreDelivery(channel: channel, results: results, job: job, identity: identity).run()
        }
    }
}

/// Sends the objects of one job.
struct StoreDelivery {
    let channel: Channel
    let results: String
    let job: StoreJob
    let identity: RequestVerb.Identity

    /// PS3.8 §9.3.2.2: identifiers are odd numbers of one byte.
    private static let mostContexts = 128

    func run() throws {
        let objects = try job.objects.filter(isReadable)
        guard !objects.isEmpty else { return }
        do {
            let requestor = try Requestor(
                to: job.peer, from: job.callingAETitle, proposals: proposals(objects), identity: identity,
                connectTimeoutSeconds: job.connectTimeoutSeconds, responseTimeoutSeconds: job.responseTimeoutSeconds)
            for (index, object) in objects.enumerated() {
                let isStored = try send(object, requestor)
                if index == 0 && !isStored && job.waitsForFirst { return }
            }
        } catch let failure as RequestFailure {
            try fail(failure)
        }
    }

    /// Says so where it is not; the others are sent.
    private func isReadable(_ object: ComposedObject) throws -> Bool {
        let root = results.hasSuffix("/") ? results : results + "/"
        let isBelow = object.path.hasPrefix(root) && !object.path.split(separator: "/").contains("..")
        if isBelow, Requestor.transferSyntax(ofFile: object.path) != nil { return true }
        try channel.send(
            SendEvent.failed(
                SendFailure(
                    kind: .localFile,
                    reason: "cannot read the file of \(object.sopInstanceUID): is it there, and whole?")))
        return false
    }

    /// One context for each SOP class; one more for each transfer syntax that is no plain little endian.
    private func proposals(_ objects: [ComposedObject]) -> [Requestor.Proposal] {
        let plain = Requestor.Proposal.uncompressed
        var proposals: [Requestor.Proposal] = []
        var known: Set<[String]> = []
        for object in objects {
            let own = Requestor.transferSyntax(ofFile: object.path) ?? plain[0]
            let syntaxes = plain.contains(own) ? plain : [own]
            if known.insert([object.sopClassUID.string] + syntaxes).inserted {
                proposals.append(.init(abstractSyntax: object.sopClassUID.string, transferSyntaxes: syntaxes))
            }
        }
        return Array(proposals.prefix(Self.mostContexts))
    }

    /// - Returns: whether the peer has it.
    /// - Throws: `RequestFailure` of the association, after which nothing more can be sent.
    private func send(_ object: ComposedObject, _ requestor: Requestor) throws -> Bool {
        do {
            let response = try requestor.store(
                path: object.path, sopClassUID: object.sopClassUID, sopInstanceUID: object.sopInstanceUID)
            try channel.send(
                SendEvent.response(
                    sopInstanceUID: object.sopInstanceUID, status: response.status, comment: response.comment))
            return StoredStatus.contains(response.status)
        } catch let failure as RequestFailure where failure.kind == nil {
            try channel.send(
                SendEvent.noPresentationContext(
                    sopInstanceUID: object.sopInstanceUID, sopClassUID: object.sopClassUID))
        } catch let failure as RequestFailure where failure.kind == .localFile {
            try fail(failure)
        }
        return false
    }

    private func fail(_ failure: RequestFailure) throws {
        try channel.send(SendEvent.failed(SendFailure(kind: failure.kind ?? .other, reason: failure.reason)))
    }
}
