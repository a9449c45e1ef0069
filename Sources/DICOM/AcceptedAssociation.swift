internal import CDCMTK
public import WorkerProtocol

/// Why an association is over.
public struct AssociationEnding: Error, Sendable {
    public var how: AssociationEnded.How
    /// Lower-case phrase.
    public var reason: String
    public init(_ how: AssociationEnded.How, _ reason: String = "") {
        self.how = how
        self.reason = reason
    }
}

/// The accepting side of an association (PS3.8). Owns a `cdcmtk_association *`; used by one thread at a time.
public final class AcceptedAssociation {
    /// A presentation data value (PS3.8 Annex E.2). The bytes are valid until the next call on the association.
    public struct Fragment {
        public var contextID: UInt8
        public var isCommand: Bool
        public var isLast: Bool
        public var bytes: UnsafeRawBufferPointer
    }

    /// An accepted presentation context.
    public struct Context: Sendable, Equatable {
        public var abstractSyntax: String
        public var transferSyntax: TransferSyntax
    }

    public let callingAETitle: AETitle
    public let calledAETitle: AETitle
    /// Implementation class UID and version name of the peer.
    public let implementation: String
    public private(set) var contexts: [UInt8: Context] = [:]
    public private(set) var proposedContexts = 0
    /// What the handshake agreed on; nil without TLS.
    public let tls: SecureConnection?

    /// Verification SOP class (PS3.4 Annex A).
    public static let verification = PresentationContext.verification
    /// Storage Commitment Push Model SOP class (PS3.4 Annex J).
    public static let storageCommitment = PresentationContext.storageCommitment

    private let handle: OpaquePointer

    /// PS3.7 Annex A.2.1.
    static let applicationContext = "1.2.840.10008.3.1.1.1"

    /// Reads the A-ASSOCIATE-RQ that waits in the socket, which the association owns from here on, checks it, answers.
    /// - Throws: `AssociationEnding` when the request was rejected or never came whole.
    public convenience init(takingOwnershipOf socket: Int32, job: AssociationJob) throws(AssociationEnding) {
        try self.init(
            opening: withReason { reason, size in
                Self.open(job) { cdcmtk_association_receive(socket, &$0, &$1, reason, size) }
            }, tls: nil, job: job)
    }

    /// The same within TLS, after its handshake. The request is checked before DCMTK sees a byte of it.
    public convenience init(
        takingOwnershipOf socket: Int32, identity: TLSIdentity, admission: SecureAdmission, job: AssociationJob
    ) throws(AssociationEnding) {
        let transport = try identity.accept(takingOwnershipOf: socket, within: admission.requestSeconds)
        let request = try transport.receiveRequest(admission)
        let handle = transport.takeHandle()
        try self.init(
            opening: withReason { reason, size in
                Self.open(job) {
                    cdcmtk_association_receive_secure(handle, request, request.count, &$0, &$1, reason, size)
                }
            }, tls: transport.agreed, job: job)
    }

    private init(
        opening: ((outcome: cdcmtk_outcome, handle: OpaquePointer?), String), tls: SecureConnection?,
        job: AssociationJob
    ) throws(AssociationEnding) {
        let (opened, reason) = opening
        guard let handle = opened.handle else { throw Self.ending(opened.outcome, reason) }
        var request = cdcmtk_association_request()
        let outcome = cdcmtk_association_request_get(handle, &request)
        let titles = Self.titles(request)
        let rejection = outcome == CDCMTK_OK ? Self.rejection(request, titles.calling, titles.called, job) : .noReason
        guard rejection == nil, let calling = titles.calling, let called = titles.called else {
            let rejection = rejection ?? .noReason
            cdcmtk_association_reject(
                handle, Int32(rejection.result), Int32(rejection.source), Int32(rejection.reason))
            cdcmtk_association_free(handle)
            throw AssociationEnding(.rejected, rejection.text)
        }
        self.handle = handle
        self.tls = tls
        callingAETitle = calling
        calledAETitle = called
        implementation = "\(text(request.implementation_class_uid)) \(text(request.implementation_version_name))"
        try negotiate(count: request.context_count, job: job)
    }

    deinit { cdcmtk_association_free(handle) }

    private func negotiate(count: Int32, job: AssociationJob) throws(AssociationEnding) {
        let storage = Library.storageSOPClasses.union(job.extraSOPClasses.map(\.string))
        proposedContexts = Int(count)
        for index in 0..<count {
            var proposed = cdcmtk_context()
            guard cdcmtk_association_context_get(handle, index, &proposed) == CDCMTK_OK else { continue }
            let context = PresentationContext(proposed)
            switch context.decide(storageSOPClasses: storage) {
            case .accept(let syntax):
                let role = context.grantedRole == .scp ? CDCMTK_ROLE_SCP : CDCMTK_ROLE_SCU
                guard cdcmtk_association_context_accept(handle, context.id, syntax.uid.string, role) == CDCMTK_OK
                else { continue }
                contexts[context.id] = Context(abstractSyntax: context.abstractSyntax, transferSyntax: syntax)
            case .refuse(let result):
                _ = cdcmtk_association_context_refuse(handle, context.id, result)
            }
        }
        let (outcome, reason) = withReason { cdcmtk_association_acknowledge(handle, $0, $1) }
        guard outcome == CDCMTK_OK else {
            abort()
            throw Self.ending(outcome, reason)
        }
    }

    /// Waits for the peer's next presentation data value.
    /// - Parameter interrupt: a descriptor that ends the wait for a PDU when it is readable.
    /// - Returns: nil when interrupted.
    public func nextFragment(interrupt: Int32? = nil) throws(AssociationEnding) -> Fragment? {
        var fragment = cdcmtk_fragment()
        let (outcome, reason) = withReason {
            cdcmtk_association_next_fragment(handle, interrupt ?? -1, &fragment, $0, $1)
        }
        if outcome == CDCMTK_INTERRUPTED { return nil }
        guard outcome == CDCMTK_OK else { throw Self.ending(outcome, reason) }
        return Fragment(
            contextID: fragment.context_id, isCommand: fragment.is_command != 0, isLast: fragment.is_last != 0,
            bytes: UnsafeRawBufferPointer(start: fragment.bytes, count: fragment.count))
    }

    public func send(_ command: CommandSet, contextID: UInt8) throws(AssociationEnding) {
        let bytes = command.encoded
        let (outcome, reason) = withReason {
            cdcmtk_association_send_command(handle, contextID, bytes, bytes.count, $0, $1)
        }
        guard outcome == CDCMTK_OK else { throw Self.ending(outcome, reason) }
    }

    /// Sends A-RELEASE-RP.
    public func acknowledgeRelease() { cdcmtk_association_acknowledge_release(handle) }
    /// Sends A-ABORT.
    public func abort() { cdcmtk_association_abort(handle) }

    // MARK: The request

    private static func open(
        _ job: AssociationJob, _ receive: (inout cdcmtk_accept_options, inout OpaquePointer?) -> cdcmtk_outcome
    ) -> (outcome: cdcmtk_outcome, handle: OpaquePointer?) {
        Implementation.classUID.string.withCString { classUID in
            Implementation.versionName.withCString { versionName in
                var options = cdcmtk_accept_options(
                    idle_seconds: job.idleTimeoutSeconds, deadline_seconds: job.deadlineSeconds,
                    max_pdu_bytes: job.maxPDUBytes, implementation_class_uid: classUID,
                    implementation_version_name: versionName)
                var handle: OpaquePointer?
                let outcome = receive(&options, &handle)
                return (outcome, handle)
            }
        }
    }

    private static func titles(_ request: cdcmtk_association_request) -> (calling: AETitle?, called: AETitle?) {
        (AETitle(text(request.calling_ae_title)), AETitle(text(request.called_ae_title)))
    }

    private static func rejection(
        _ request: cdcmtk_association_request, _ calling: AETitle?, _ called: AETitle?, _ job: AssociationJob
    ) -> Rejection? {
        guard text(request.application_context) == applicationContext else { return .applicationContext }
        guard let called, job.calledAETitles.contains(called) else {
            return .calledAETitle(text(request.called_ae_title))
        }
        return calling == nil ? .callingAETitle(text(request.calling_ae_title)) : nil
    }

    static func ending(_ outcome: cdcmtk_outcome, _ reason: String) -> AssociationEnding {
        switch outcome {
        case CDCMTK_RELEASED: AssociationEnding(.released, reason)
        case CDCMTK_ABORTED: AssociationEnding(.abortedByPeer, reason)
        case CDCMTK_CLOSED: AssociationEnding(.closedByPeer, reason)
        case CDCMTK_IDLE: AssociationEnding(.idle, reason)
        case CDCMTK_DEADLINE: AssociationEnding(.deadline, reason)
        case CDCMTK_VIOLATION: AssociationEnding(.abortedByUs, "the peer broke the protocol: \(reason)")
        default: AssociationEnding(.failed, "the connection failed: \(reason)")
        }
    }
}
