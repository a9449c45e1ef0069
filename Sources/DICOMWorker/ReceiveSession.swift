internal import DICOM
internal import Foundation
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// Serves one association from its request to its end: C-ECHO and C-STORE as SCP (PS3.4 Annexes A and B), reports of
/// storage commitment as SCU (Annex J).
final class ReceiveSession {
    private let channel: Channel
    private let job: AssociationJob
    private let spool: Spool
    /// For TLS; nil on the plain port.
    private let identity: TLSIdentity?
    private var stored = 0
    private var toldCommon: CommonAttributes?
    /// When the command of the object that is received was read.
    private var begun = ContinuousClock.now
    /// Whether a message has begun and not ended.
    private var isWithinMessage = false
    /// The object that is received.
    private var underWay: LostObject?
    private var mustStop = false

    init(channel: Channel, job: AssociationJob, spool: Spool, identity: TLSIdentity? = nil) {
        self.channel = channel
        self.job = job
        self.spool = spool
        self.identity = identity
    }

    /// Sends all events of the association, `ended` last.
    /// - Throws: `WorkerError` when the daemon is gone or breaks the protocol.
    func serve(takingOwnershipOf socket: Int32) throws {
        let association: AcceptedAssociation
        do throws(AssociationEnding) {
            association = try accept(takingOwnershipOf: socket)
        } catch {
            return try end(error)
        }
        try channel.send(
            ReceiveEvent.accepted(
                AssociationAccepted(
                    callingAETitle: association.callingAETitle, calledAETitle: association.calledAETitle,
                    acceptedContexts: association.contexts.count, proposedContexts: association.proposedContexts,
                    implementation: association.implementation, tls: association.tls)))
        do {
            while true { try serveMessage(association) }
        } catch let ending as AssociationEnding {
            spool.discard()
            switch ending.how {
            case .released: association.acknowledgeRelease()
            case .abortedByPeer, .closedByPeer: break
            default: association.abort()
            }
            // What was being sent is missing: no proper end, though PS3.8 has every release answered.
            let isCutOff = ending.how == .released && isWithinMessage
            try end(isCutOff ? AssociationEnding(.abortedByPeer, "released within a message") : ending)
        } catch {
            spool.discard()
            association.abort()
            throw error
        }
    }

    private func accept(takingOwnershipOf socket: Int32) throws(AssociationEnding) -> AcceptedAssociation {
        guard let admission = job.tls else {
            return try AcceptedAssociation(takingOwnershipOf: socket, job: job)
        }
        guard let identity else {
            close(socket)
            throw AssociationEnding(.failed, "a connection with TLS for a worker without a certificate")
        }
        return try AcceptedAssociation(
            takingOwnershipOf: socket, identity: identity, admission: admission, job: job)
    }

    private func end(_ ending: AssociationEnding) throws {
        try channel.send(
            ReceiveEvent.ended(
                AssociationEnded(
                    how: ending.how, reason: ending.reason, storedInstances: stored,
                    isWithinMessage: isWithinMessage, lost: isWithinMessage ? underWay : nil)))
    }

    // MARK: Messages

    private func serveMessage(_ association: AcceptedAssociation) throws {
        if mustStop { throw AssociationEnding(.abortedByUs, "stopped by the daemon") }
        isWithinMessage = false
        underWay = nil
        let (command, contextID) = try receiveCommand(association)
        guard let context = association.contexts[contextID] else {
            throw AssociationEnding(.abortedByUs, "a command in a presentation context that was not accepted")
        }
        switch command.operation {
        case .echo:
            if command.hasDataSet { try drain(association, contextID) }
            try association.send(command.response(.success), contextID: contextID)
            try channel.send(ReceiveEvent.echoed)
        case .store: try serveStore(command, contextID, context, association)
        case .eventReport where context.abstractSyntax == AcceptedAssociation.storageCommitment:
            try serveReport(command, contextID, context, association)
        // Nothing that is under way can be cancelled: PS3.7 §9.3.2.3 asks for no answer.
        case .cancel: break
        // N-ACTION among them: we never promise to keep what others may then delete.
        case .eventReport, .other:
            if command.hasDataSet { try drain(association, contextID) }
            try association.send(
                command.response(.unrecognizedOperation, comment: "only C-STORE and C-ECHO are served"),
                contextID: contextID)
        case .response: throw AssociationEnding(.abortedByUs, "a response where a request was due")
        }
    }

    private func receiveCommand(_ association: AcceptedAssociation) throws -> (CommandSet, contextID: UInt8) {
        var bytes: [UInt8] = []
        var contextID: UInt8?
        while true {
            // Between messages the daemon may ask to stop; within one it waits.
            guard let fragment = try association.nextFragment(interrupt: bytes.isEmpty ? channel.descriptor : nil)
            else {
                try receiveStop()
                continue
            }
            isWithinMessage = true
            guard fragment.isCommand else {
                throw AssociationEnding(.abortedByUs, "a data set where a command was due")
            }
            guard contextID ?? fragment.contextID == fragment.contextID else {
                throw AssociationEnding(.abortedByUs, "a command in two presentation contexts")
            }
            contextID = fragment.contextID
            bytes.append(contentsOf: fragment.bytes)
            guard bytes.count <= CommandSet.mostBytes else {
                throw AssociationEnding(.abortedByUs, "a command set over the limit")
            }
            guard fragment.isLast else { continue }
            guard let command = CommandSet(bytes) else {
                throw AssociationEnding(.abortedByUs, "a command set that cannot be read")
            }
            return (command, fragment.contextID)
        }
    }

    private func receiveStop() throws {
        guard let (request, _) = try channel.receive(ReceiveRequest.self) else {
            throw WorkerError(.closed, "the daemon is gone")
        }
        guard case .stop = request else {
            throw WorkerError(.protocolViolation, "a request that no worker waits for")
        }
        throw AssociationEnding(.abortedByUs, "stopped by the daemon")
    }

    /// Hands on every fragment of a data set.
    private func receiveDataSet(
        _ association: AcceptedAssociation, _ contextID: UInt8, _ take: (UnsafeRawBufferPointer) -> Void
    ) throws {
        var bytes = 0
        while true {
            guard let fragment = try association.nextFragment() else { continue }
            guard !fragment.isCommand else {
                throw AssociationEnding(.abortedByUs, "a command within a data set")
            }
            guard fragment.contextID == contextID else {
                throw AssociationEnding(.abortedByUs, "a data set in another presentation context than its command")
            }
            bytes += fragment.bytes.count
            // What is refused is read to its end, so that the association goes on; not without end.
            guard bytes <= 2 * job.limits.objectBytes else {
                throw AssociationEnding(.abortedByUs, "a data set that does not end")
            }
            take(fragment.bytes)
            if fragment.isLast { return }
        }
    }

    private func drain(_ association: AcceptedAssociation, _ contextID: UInt8) throws {
        try receiveDataSet(association, contextID) { _ in }
    }

    // MARK: C-STORE

    private func serveStore(
        _ command: CommandSet, _ contextID: UInt8, _ context: AcceptedAssociation.Context,
        _ association: AcceptedAssociation
    ) throws {
        begun = .now
        let object = LostObject(
            sopClassUID: context.abstractSyntax, sopInstanceUID: UID(command.affectedSOPInstanceUID))
        underWay = object
        do {
            try store(command, contextID, context, association)
            try association.send(command.response(.success), contextID: contextID)
        } catch let refusal as StoreRefusal {
            spool.discard()
            try channel.send(
                ReceiveEvent.refused(
                    InstanceRefused(status: refusal.status.code, reason: refusal.reason, object: underWay ?? object)))
            try association.send(command.response(refusal.status, comment: refusal.reason), contextID: contextID)
        }
    }

    /// Returns when the object is durable, and the daemon knows.
    /// - Throws: `StoreRefusal`, when the whole data set was read.
    private func store(
        _ command: CommandSet, _ contextID: UInt8, _ context: AcceptedAssociation.Context,
        _ association: AcceptedAssociation
    ) throws {
        guard command.hasDataSet else { throw StoreRefusal(.noDataSet, "no data set with the command") }
        var refusal: StoreRefusal?
        var object: IncomingObject?
        // Of what is not kept: which study will lack it?
        var header: HeaderReader?
        do throws(StoreRefusal) {
            let meta = try meta(command, context, association)
            object = try spool.begin(meta, syntax: context.transferSyntax)
        } catch {
            refusal = error
            header = HeaderReader(transferSyntax: context.transferSyntax, limits: job.limits)
        }
        defer { note(study: object?.studyInstanceUID ?? study(header)) }
        try receiveDataSet(association, contextID) { bytes in
            do throws(StoreRefusal) { try object?.append(bytes) } catch {
                refusal = error
                note(study: object?.studyInstanceUID)
                object = nil
                spool.discard()
            }
            do throws(HeaderError) { try header?.consume(bytes) } catch {
                note(study: study(header))
                header = nil
            }
        }
        if let refusal { throw refusal }
        guard let object else { throw StoreRefusal(.outOfResources, "no object was begun") }
        try place(object.temporaryPath, try object.finish())
    }

    private func study(_ header: HeaderReader?) -> UID? {
        underWay?.sopInstanceUID.flatMap { header?.studyInstanceUID(of: $0) }
    }

    private func note(study uid: UID?) {
        if let uid { underWay?.studyInstanceUID = uid }
    }

    private func meta(
        _ command: CommandSet, _ context: AcceptedAssociation.Context, _ association: AcceptedAssociation
    ) throws(StoreRefusal) -> FileMeta {
        guard let sopClass = UID(command.affectedSOPClassUID), sopClass.string == context.abstractSyntax,
            ![AcceptedAssociation.verification, AcceptedAssociation.storageCommitment].contains(sopClass.string)
        else { throw StoreRefusal(.doesNotMatch, "SOP Class UID of command and presentation context differ") }
        guard let instance = UID(command.affectedSOPInstanceUID) else {
            throw StoreRefusal(.invalidUID, "Affected SOP Instance UID is no UID")
        }
        return FileMeta(
            sopClassUID: sopClass, sopInstanceUID: instance, transferSyntaxUID: context.transferSyntax.uid,
            sourceAETitle: association.callingAETitle, receivingAETitle: association.calledAETitle)
    }

    private func place(_ temporaryPath: String, _ record: InstanceRecord) throws {
        var record = record
        var path = spool.path(of: record)
        // Others may take the name of a version while the verdict is on its way. Each has stored one then, and the
        // daemon refuses when there are too many.
        while true {
            switch try spool.place(temporaryPath, as: path, study: record.studyInstanceUID) {
            case .placed:
                stored += 1
                return try tell(record)
            case .placedOnly(let refusal):
                // It stays: another association may have found it there and acknowledged the same bytes. Known, it is
                // no litter, and the sender comes again.
                try tell(record)
                throw refusal
            case .taken:
                guard let version = try version(of: record, temporaryPath) else { return }
                (path, record.version) = version
            }
        }
    }

    private func tell(_ record: InstanceRecord) throws {
        let common = CommonAttributes(record)
        if common != toldCommon { try channel.send(ReceiveEvent.common(common)) }
        toldCommon = common
        let microseconds = begun.duration(to: .now) / .microseconds(1)
        try channel.send(ReceiveEvent.stored(OwnAttributes(record), microseconds: Int(microseconds)))
    }

    /// The name is taken: where to put the object.
    /// - Returns: nil where it is there already, byte for byte.
    private func version(of record: InstanceRecord, _ temporaryPath: String) throws -> (path: String, version: Int)? {
        try channel.send(
            ReceiveEvent.collision(
                Collision(record: record, temporaryPath: temporaryPath, existingPath: spool.path(of: record))))
        switch try receiveAnswer({ if case .verdict(let verdict) = $0 { verdict } else { nil } }) {
        case .identical:
            spool.discard()
            try spool.confirm(study: record.studyInstanceUID)
            return nil
        case .refuse(let reason): throw StoreRefusal(.outOfResources, reason)
        case .keepAs(let path, let version):
            guard spool.isVersionPath(path, of: record) else {
                throw WorkerError(.protocolViolation, "a version's path outside of its study")
            }
            return (path, version)
        }
    }

    /// - Parameter answer: what the worker waits for; nil for any other request.
    private func receiveAnswer<Answer>(_ answer: (ReceiveRequest) -> Answer?) throws -> Answer {
        while true {
            guard let (request, _) = try channel.receive(ReceiveRequest.self) else {
                throw WorkerError(.closed, "the daemon is gone")
            }
            if let found = answer(request) { return found }
            guard case .stop = request else {
                throw WorkerError(.protocolViolation, "a request that no worker waits for")
            }
            mustStop = true
        }
    }

    // MARK: N-EVENT-REPORT

    /// Answers when the daemon has recorded it.
    private func serveReport(
        _ command: CommandSet, _ contextID: UInt8, _ context: AcceptedAssociation.Context,
        _ association: AcceptedAssociation
    ) throws {
        var bytes: [UInt8] = []
        if command.hasDataSet {
            try receiveDataSet(association, contextID) { piece in
                if bytes.count <= CommitmentReport.mostBytes { bytes.append(contentsOf: piece) }
            }
        }
        let result = CommitmentReport.read(
            instance: command.affectedSOPInstanceUID, eventTypeID: command.eventTypeID, dataSet: bytes,
            syntax: context.transferSyntax)
        switch result {
        case .failure(let refusal):
            try channel.send(ReceiveEvent.reportRefused(reason: refusal.reason))
            try association.send(command.response(refusal.status, comment: refusal.reason), contextID: contextID)
        case .success(let report):
            try channel.send(ReceiveEvent.commitment(report))
            let (status, comment) = Self.status(
                try receiveAnswer({ if case .commitment(let answer) = $0 { answer } else { nil } }))
            try association.send(command.response(status, comment: comment), contextID: contextID)
        }
    }

    private static func status(_ answer: CommitmentAnswer) -> (StoreStatus, comment: String) {
        switch answer {
        case .recorded: (.success, "")
        case .unknown: (.processingFailure, "unknown Transaction UID")
        case .failed: (.resourceLimitation, "cannot be recorded now")
        }
    }
}
