internal import CDCMTK
public import WorkerProtocol

/// Why a request did not come to an answer.
public struct RequestFailure: Error, Sendable {
    /// nil where the peer accepted no presentation context.
    public var kind: SendFailure.Kind?
    /// Lower-case phrase that says what to check.
    public var reason: String
    /// The AE title that a rejection is about.
    public var refusedTitle: SendFailure.Title?
    /// Whether the peer answered by TLS; nil where that is not known.
    public var speaksTLS: Bool?
    public init(kind: SendFailure.Kind?, reason: String, speaksTLS: Bool? = nil) {
        self.kind = kind
        self.reason = reason
        self.speaksTLS = speaksTLS
    }
}

/// The requesting side of an association: C-STORE, C-FIND, C-MOVE, C-ECHO and N-ACTION as SCU. Owns a
/// `cdcmtk_requestor *`; used by one thread at a time. The association is released when the value goes away.
public final class Requestor {
    /// What to propose in one presentation context.
    public struct Proposal: Sendable {
        public var abstractSyntax: String
        public var transferSyntaxes: [String]
        public init(abstractSyntax: String, transferSyntaxes: [String]) {
            self.abstractSyntax = abstractSyntax
            self.transferSyntaxes = transferSyntaxes
        }
        /// Study Root Query/Retrieve Information Model - FIND (PS3.4 §C.6.2).
        public static let studyRootFind = Proposal(uncompressed: "1.2.840.10008.5.1.4.1.2.2.1")
        /// Study Root Query/Retrieve Information Model - MOVE (PS3.4 §C.6.2).
        public static let studyRootMove = Proposal(uncompressed: "1.2.840.10008.5.1.4.1.2.2.2")
        /// Storage Commitment Push Model (PS3.4 Annex J).
        public static let storageCommitment = Proposal(uncompressed: PresentationContext.storageCommitment)
        /// In order of preference.
        public static let uncompressed = [TransferSyntax.explicitLittleEndian, .implicitLittleEndian].map(\.uid.string)
        public init(uncompressed abstractSyntax: String) {
            self.init(abstractSyntax: abstractSyntax, transferSyntaxes: Self.uncompressed)
        }
        public static let verification = Proposal(
            abstractSyntax: PresentationContext.verification,
            transferSyntaxes: [TransferSyntax.implicitLittleEndian.uid.string])
    }

    public struct Response: Sendable {
        public var status: UInt16
        /// Error Comment (0000,0902).
        public var comment: String
    }

    private let handle: OpaquePointer

    /// Opens an association.
    /// - Parameters:
    ///   - identity: for a peer that speaks TLS; serves one association.
    ///   - connectTimeoutSeconds: for the connection, and again for the TLS handshake.
    public init(
        to peer: RemotePeer, from callingAETitle: AETitle, proposals: [Proposal],
        identity: Result<TLSIdentity, TLSFileProblem>? = nil, connectTimeoutSeconds: Double,
        responseTimeoutSeconds: Double
    ) throws(RequestFailure) {
        let identity = try Self.identity(identity, for: peer.tls)
        var failure = cdcmtk_request_failure()
        let strings = CStrings()
        var options = cdcmtk_requestor_options(
            calling_ae_title: strings.keep(callingAETitle.string), called_ae_title: strings.keep(peer.aeTitle.string),
            host: strings.keep(peer.host), port: Int32(clamping: peer.port),
            connect_timeout_seconds: connectTimeoutSeconds, response_timeout_seconds: responseTimeoutSeconds,
            implementation_class_uid: strings.keep(Implementation.classUID.string),
            implementation_version_name: strings.keep(Implementation.versionName),
            tls: identity?.withHandle { $0 }, verifies_host: peer.tls?.verifiesHost == false ? 0 : 1)
        let proposals = proposals.map { Self.proposal($0, strings) }
        let handle = cdcmtk_requestor_open(&options, proposals, proposals.count, &failure)
        withExtendedLifetime((strings, identity)) {}
        guard let handle else {
            throw Self.failure(failure, peer: peer, calling: callingAETitle, seconds: connectTimeoutSeconds)
        }
        self.handle = handle
    }

    deinit { cdcmtk_requestor_free(handle) }

    /// Never nil for a peer that speaks TLS.
    static func identity(
        _ identity: Result<TLSIdentity, TLSFileProblem>?, for tls: PeerTLS?
    ) throws(RequestFailure) -> TLSIdentity? {
        guard let tls else { return nil }
        guard let identity else {
            throw RequestFailure(kind: .handshake, reason: "no key material of \(tls.files.section) for TLS was read")
        }
        do { return try identity.get() } catch { throw RequestFailure(kind: .handshake, reason: "\(error)") }
    }

    /// nil without TLS.
    public var session: TLSSession? {
        var handshake = cdcmtk_handshake()
        cdcmtk_requestor_handshake(handle, &handshake)
        return TLSSession(handshake)
    }

    /// Whether the peer accepted a presentation context for it.
    public func accepts(_ abstractSyntax: UID) -> Bool { cdcmtk_requestor_accepts(handle, abstractSyntax.string) != 0 }

    /// Sends one file (PS3.4 Annex B).
    public func store(path: String, sopClassUID: UID, sopInstanceUID: UID) throws(RequestFailure) -> Response {
        var response = cdcmtk_response()
        var failure = cdcmtk_request_failure()
        let outcome = cdcmtk_requestor_store(
            handle, path, sopClassUID.string, sopInstanceUID.string, &response, &failure)
        guard outcome == CDCMTK_REQUEST_OK else { throw Self.failure(failure) }
        return Response(status: response.status, comment: text(response.comment))
    }

    /// The series of a study that the peer holds, and how many images each has (PS3.4 Annex C, Study Root). Where a
    /// peer does not tell the number, its images are listed.
    public func seriesCounts(ofStudy study: UID) throws(RequestFailure) -> [UID: Int] {
        var counts: [UID: Int] = [:]
        for match in try find(study: study) {
            guard let series = UID(match.series) else { continue }
            counts[series] = if let count = Int(match.count) { count } else { try imageCount(study, series) }
        }
        return counts
    }

    private func imageCount(_ study: UID, _ series: UID) throws(RequestFailure) -> Int {
        Set(try find(study: study, series: series).map(\.instance)).count
    }

    private struct Match {
        var series: String
        var instance: String
        var count: String
    }

    private final class Matches {
        var all: [Match] = []
    }

    /// A perfusion study has ten thousand images.
    private static let mostMatches = 100_000

    private func find(study: UID, series: UID? = nil) throws(RequestFailure) -> [Match] {
        var response = cdcmtk_response()
        var failure = cdcmtk_request_failure()
        let matches = Matches()
        let outcome = cdcmtk_requestor_find(
            handle, study.string, series?.string ?? "", Self.mostMatches,
            { context, match in
                guard let context, let match = match?.pointee else { return }
                let matches = Unmanaged<Matches>.fromOpaque(context).takeUnretainedValue()
                matches.all.append(
                    Match(
                        series: String(cString: match.series_instance_uid),
                        instance: String(cString: match.sop_instance_uid),
                        count: String(cString: match.series_instances).trimmingSpaces))
            }, Unmanaged.passUnretained(matches).toOpaque(), &response, &failure)
        guard outcome == CDCMTK_REQUEST_OK else { throw Self.failure(failure) }
        guard response.status == 0 else {
            let comment = text(response.comment)
            throw RequestFailure(
                kind: .other,
                reason: "the query failed with status 0x\(String(response.status, radix: 16))"
                    + (comment.isEmpty ? "" : ": \(comment)"))
        }
        return matches.all
    }

    /// Has the peer send a series to the AE `destination` (PS3.4 §C.4.2, Study Root). Cancelled after so many seconds.
    public func move(
        series: UID, ofStudy study: UID, to destination: AETitle, mostSeconds: Double
    ) throws(RequestFailure) -> (counts: MoveCounts, response: Response) {
        var counts = cdcmtk_move_counts()
        var response = cdcmtk_response()
        var failure = cdcmtk_request_failure()
        let outcome = cdcmtk_requestor_move(
            handle, study.string, series.string, destination.string, mostSeconds, &counts, &response, &failure)
        guard outcome == CDCMTK_REQUEST_OK else { throw Self.failure(failure) }
        func told(_ count: Int32) -> UInt16? { UInt16(exactly: count) }
        return (
            MoveCounts(completed: told(counts.completed), failed: told(counts.failed), warning: told(counts.warning)),
            Response(status: response.status, comment: text(response.comment))
        )
    }

    private final class Report {
        let transaction: UID
        var taken: CommitmentReport?
        init(of transaction: UID) { self.transaction = transaction }

        /// - Returns: the status to answer with. Those of other transactions have to come on associations of their own.
        func take(_ instance: String, _ eventTypeID: UInt16, _ dataSet: [UInt8]) -> StoreStatus {
            switch CommitmentReport.read(
                instance: instance, eventTypeID: eventTypeID, dataSet: dataSet, syntax: .explicitLittleEndian)
            {
            case .failure(let refusal): return refusal.status
            case .success(let report):
                guard report.transactionUID == transaction else { return .processingFailure }
                taken = report
                return .success
            }
        }
    }

    /// Asks for storage commitment (PS3.4 §J.3.2), and waits some seconds for the report.
    /// - Returns: the response, and the report where it came on this association.
    public func commit(
        _ objects: [ComposedObject], transaction: UID, reportSeconds: Double
    ) throws(RequestFailure) -> (Response, CommitmentReport?) {
        var response = cdcmtk_response()
        var failure = cdcmtk_request_failure()
        let report = Report(of: transaction)
        let strings = CStrings()
        let references = objects.map {
            cdcmtk_reference(
                sop_class_uid: strings.keep($0.sopClassUID.string),
                sop_instance_uid: strings.keep($0.sopInstanceUID.string))
        }
        let outcome = cdcmtk_requestor_commit(
            handle, transaction.string, references, references.count, reportSeconds,
            { context, instance, eventTypeID, bytes, count in
                guard let context, let instance else { return StoreStatus.processingFailure.code }
                return Unmanaged<Report>.fromOpaque(context).takeUnretainedValue().take(
                    String(cString: instance), eventTypeID,
                    Array(UnsafeBufferPointer(start: bytes, count: count))
                ).code
            }, Unmanaged.passUnretained(report).toOpaque(), &response, &failure)
        withExtendedLifetime(strings) {}
        guard outcome == CDCMTK_REQUEST_OK else { throw Self.failure(failure) }
        return (Response(status: response.status, comment: text(response.comment)), report.taken)
    }

    /// C-ECHO (PS3.4 Annex A).
    public func echo() throws(RequestFailure) -> Response {
        var response = cdcmtk_response()
        var failure = cdcmtk_request_failure()
        guard cdcmtk_requestor_echo(handle, &response, &failure) == CDCMTK_REQUEST_OK else {
            throw Self.failure(failure)
        }
        return Response(status: response.status, comment: text(response.comment))
    }

    /// Transfer syntax that a file's meta header names.
    public static func transferSyntax(ofFile path: String) -> String? {
        let (result, uid) = withReason { buffer, _ in cdcmtk_file_transfer_syntax(path, buffer) }
        return result == 0 && !uid.isEmpty ? uid : nil
    }

    private static func proposal(_ proposal: Proposal, _ strings: CStrings) -> cdcmtk_proposal {
        var made = cdcmtk_proposal()
        made.abstract_syntax = strings.keep(proposal.abstractSyntax)
        let syntaxes = proposal.transferSyntaxes.prefix(4).map { strings.keep($0) }
        made.transfer_syntax_count = Int32(syntaxes.count)
        withUnsafeMutableBytes(of: &made.transfer_syntaxes) { bytes in
            let slots = bytes.bindMemory(to: UnsafePointer<CChar>?.self)
            for (index, syntax) in syntaxes.enumerated() { slots[index] = syntax }
        }
        return made
    }

    // MARK: Failures in words

    private static func failure(_ failure: cdcmtk_request_failure) -> RequestFailure {
        let kind: SendFailure.Kind? =
            switch failure.outcome {
            case CDCMTK_REQUEST_CONNECT: .connect
            case CDCMTK_REQUEST_NAME: .name
            case CDCMTK_REQUEST_HANDSHAKE: .handshake
            case CDCMTK_REQUEST_NEEDS_TLS: .needsTLS
            case CDCMTK_REQUEST_REJECTED_PERMANENTLY: .rejectedPermanently
            case CDCMTK_REQUEST_REJECTED_TRANSIENTLY: .rejectedTransiently
            case CDCMTK_REQUEST_ABORTED: .aborted
            case CDCMTK_REQUEST_TIMEOUT: .timeout
            case CDCMTK_REQUEST_NO_CONTEXT: nil
            case CDCMTK_REQUEST_LOCAL_FILE: .localFile
            default: .other
            }
        return RequestFailure(kind: kind, reason: text(failure.reason))
    }

    private static func failure(
        _ failure: cdcmtk_request_failure, peer: RemotePeer, calling: AETitle, seconds: Double
    ) -> RequestFailure {
        var result = Self.failure(failure)
        switch result.kind {
        case .rejectedPermanently, .rejectedTransiently:
            result.reason = rejection(failure.source, failure.diagnosis, peer: peer, calling: calling)
            if failure.source == 1 {
                result.refusedTitle = [3: .calling, 7: .called][failure.diagnosis]
            }
        case .name:
            result.reason = "the name \"\(peer.host)\" is not known here, or has no IPv4 address"
        case .connect:
            result.reason = "cannot connect to \(peer.host):\(peer.port): \(result.reason)"
        case .handshake:
            guard let files = peer.tls?.files else { break }
            let handshake = HandshakeFailure(failure.handshake, .requesting, files)
            result.reason = "no TLS with \(peer.host):\(peer.port): \(handshake.text(seconds: seconds))"
        default: break
        }
        return result
    }

    /// PS3.8 Table 9-21.
    private static func rejection(
        _ source: Int32, _ diagnosis: Int32, peer: RemotePeer, calling: AETitle
    ) -> String {
        switch (source, diagnosis) {
        case (1, 2): "peer rejected the application context name: is it a DICOM application?"
        case (1, 3): "peer rejected calling AE title \"\(calling)\": add it to the peer's AE table"
        case (1, 7): "peer rejected called AE title \"\(peer.aeTitle)\": check its AE table"
        case (2, 2): "peer rejected the protocol version"
        case (3, 1): "peer rejected for now: temporary congestion"
        case (3, 2): "peer rejected for now: its limit of associations is reached"
        default: "peer rejected the association without a reason: check its AE table and its log"
        }
    }
}

extension String {
    fileprivate var trimmingSpaces: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " || $0 == "\0" }.reversed())
    }
}

/// Owns C strings as long as it lives.
private final class CStrings {
    private var kept: [UnsafeMutablePointer<CChar>] = []
    deinit { for string in kept { string.deallocate() } }

    func keep(_ string: String) -> UnsafePointer<CChar> {
        let characters = string.utf8CString
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: characters.count)
        for (index, character) in characters.enumerated() { (copy + index).initialize(to: character) }
        kept.append(copy)
        return UnsafePointer(copy)
    }
}
