internal import CDCMTK
public import WorkerProtocol

/// A host that took a connection, which is closed again, within TLS where that was asked for.
public struct ReachedHost: Sendable {
    /// That took it.
    public var address: String
    public var session: TLSSession?

    /// - Parameter identity: of us, for TLS.
    /// - Throws: kind `name`, `connect` or `handshake`.
    public init(_ job: ReachJob, identity: Result<TLSIdentity, TLSFileProblem>?) throws(RequestFailure) {
        let own = try Requestor.identity(identity, for: job.tls)
        var reach = cdcmtk_reach()
        cdcmtk_reach_host(
            job.host, Int32(clamping: job.port), job.timeoutSeconds, own?.withHandle { $0 },
            job.tls?.verifiesHost == false ? 0 : 1, &reach)
        withExtendedLifetime(own) {}
        let reason = text(reach.reason)
        switch reach.outcome {
        case CDCMTK_REACH_NAME:
            throw RequestFailure(kind: .name, reason: "the name \"\(job.host)\" is not known here (\(reason))")
        case CDCMTK_REACH_CONNECT:
            throw RequestFailure(kind: .connect, reason: "cannot connect to \(job.host):\(job.port): \(reason)")
        case CDCMTK_REACH_HANDSHAKE:
            guard let files = job.tls?.files else { break }
            let failure = HandshakeFailure(reach.handshake, .requesting, files)
            throw RequestFailure(
                kind: .handshake,
                reason: "no TLS with \(job.host):\(job.port): \(failure.text(seconds: job.timeoutSeconds))",
                speaksTLS: failure.peerHasSpoken)
        default: break
        }
        address = text(reach.address)
        session = TLSSession(reach.handshake)
    }
}

extension TLSSession {
    /// nil where there was none.
    init?(_ handshake: cdcmtk_handshake) {
        let version = text(handshake.version)
        guard !version.isEmpty else { return nil }
        self.init(
            version: version, subject: text(handshake.peer_subject), issuer: text(handshake.peer_issuer),
            validTo: handshake.peer_not_after)
    }
}
