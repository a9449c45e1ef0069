internal import CDCMTK
public import WorkerProtocol

/// Certificate, private key and trusted issuers, for one handshake (PS3.15 §B.10: BCP 195 without downgrading).
/// Owns a `cdcmtk_tls *`; used by one thread at a time.
public final class TLSIdentity {
    /// One certificate, as far as its holder has to know it.
    public struct Certificate: Sendable, Equatable {
        public var subject: String
        public var issuer: String
        /// Seconds since 1970.
        public var validFrom: Int64
        public var validTo: Int64
        /// Whether its extended key usage, if it has one, allows a TLS server.
        public var mayServe: Bool
        /// A TLS client.
        public var mayRequest: Bool

        public init(
            subject: String, issuer: String, validFrom: Int64, validTo: Int64, mayServe: Bool = true,
            mayRequest: Bool = true
        ) {
            self.subject = subject
            self.issuer = issuer
            self.validFrom = validFrom
            self.validTo = validTo
            self.mayServe = mayServe
            self.mayRequest = mayRequest
        }

        init(_ certificate: cdcmtk_certificate) {
            subject = text(certificate.subject)
            issuer = text(certificate.issuer)
            validFrom = certificate.not_before
            validTo = certificate.not_after
            mayServe = certificate.may_serve != 0
            mayRequest = certificate.may_request != 0
        }
    }

    public let certificate: Certificate
    public let authorities: [Certificate]
    let files: TLSFiles
    private let handle: OpaquePointer

    /// Reads the files and checks that they belong together. Whether a certificate is valid now is not looked at.
    public init(_ files: TLSFiles, for side: TLSSide) throws(TLSFileProblem) {
        self.files = files
        var problem = cdcmtk_tls_problem()
        let role = side == .accepting ? CDCMTK_TLS_ACCEPTING : CDCMTK_TLS_REQUESTING
        let handle = files.certificate.withCString { certificate in
            files.key.withCString { key in
                let load = { (authorities: UnsafePointer<CChar>?) in
                    var paths = cdcmtk_tls_files(
                        certificate: files.certificate.isEmpty ? nil : certificate, key: key,
                        authorities: authorities)
                    return cdcmtk_tls_load(&paths, role, &problem)
                }
                return files.authorities.map { $0.withCString { load($0) } } ?? load(nil)
            }
        }
        guard let handle else { throw TLSFileProblem(problem, files) }
        self.handle = handle
        var found = cdcmtk_certificate()
        cdcmtk_tls_certificate_get(handle, &found)
        certificate = Certificate(found)
        authorities = (0..<cdcmtk_tls_authority_count(handle)).map { index in
            cdcmtk_tls_authority_get(handle, index, &found)
            return Certificate(found)
        }
    }

    deinit { cdcmtk_tls_free(handle) }

    func withHandle<R>(_ body: (OpaquePointer) -> R) -> R { withExtendedLifetime(self) { body(handle) } }

    /// The server's part of the handshake. The private key is forgotten, whatever comes of it.
    /// - Parameter seconds: for the handshake and the whole A-ASSOCIATE-RQ after it.
    /// - Throws: `AssociationEnding` with `how` handshake.
    func accept(
        takingOwnershipOf socket: Int32, within seconds: Double
    ) throws(AssociationEnding) -> SecureTransport {
        var handshake = cdcmtk_handshake()
        guard let secure = cdcmtk_tls_accept(handle, socket, seconds, &handshake) else {
            let failure = HandshakeFailure(handshake, .accepting, files)
            throw AssociationEnding(.handshake, failure.text(seconds: seconds))
        }
        let subject = text(handshake.peer_subject)
        return SecureTransport(
            takingOwnershipOf: secure,
            agreed: SecureConnection(
                version: text(handshake.version), cipher: text(handshake.cipher),
                peerCertificate: subject.isEmpty ? nil : subject))
    }
}

/// A connection within TLS, before there is an association on it. Owns a `cdcmtk_secure *`.
final class SecureTransport {
    let agreed: SecureConnection
    private var handle: OpaquePointer?

    init(takingOwnershipOf handle: OpaquePointer, agreed: SecureConnection) {
        self.handle = handle
        self.agreed = agreed
    }

    deinit { cdcmtk_secure_close(handle) }

    /// Gives the connection to someone else.
    func takeHandle() -> OpaquePointer? {
        defer { handle = nil }
        return handle
    }

    /// Waits for the whole A-ASSOCIATE-RQ and admits it, or answers with the reason.
    func receiveRequest(_ admission: SecureAdmission) throws(AssociationEnding) -> [UInt8] {
        let header = try read(AssociationRequest.headerBytes)
        let length = try orAborted(header) { () throws(AssociationRequest.Problem) in
            try AssociationRequest.length(header: header)
        }
        let pdu = header + (try read(length - header.count))
        let request = try orAborted(header) { () throws(AssociationRequest.Problem) in
            try AssociationRequest(pdu: pdu)
        }
        if let rejection = admission.rules.rejection(of: request, hasRoom: admission.hasRoom) {
            _ = cdcmtk_secure_write(handle, rejection.pdu, rejection.pdu.count)
            throw AssociationEnding(.rejected, admission.rules.advised(rejection, on: request))
        }
        return pdu
    }

    private func read(_ count: Int) throws(AssociationEnding) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        switch cdcmtk_secure_read(handle, &bytes, count) {
        case CDCMTK_OK: return bytes
        case CDCMTK_IDLE, CDCMTK_DEADLINE:
            throw AssociationEnding(.rejected, "no complete association request in time after the TLS handshake")
        case CDCMTK_CLOSED:
            throw AssociationEnding(
                .closedByPeer,
                "the peer closed after the TLS handshake, before its association request: does it accept our "
                    + "certificate, and the name in it?")
        default: throw AssociationEnding(.failed, "the connection failed within TLS, before an association request")
        }
    }

    /// PS3.8 Table 9-10: what is no request is answered with A-ABORT (AA-1), save an A-ABORT (AA-2).
    private func orAborted<R>(
        _ header: [UInt8], _ body: () throws(AssociationRequest.Problem) -> R
    ) throws(AssociationEnding) -> R {
        do { return try body() } catch {
            if header.first != AssociationAbort.type {
                let pdu = AssociationAbort.pdu
                _ = cdcmtk_secure_write(handle, pdu, pdu.count)
            }
            throw AssociationEnding(.rejected, error.text)
        }
    }
}
