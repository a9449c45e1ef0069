import AlertDispatcher
import Console
import Foundation
import StoreSCP
import WorkerProtocol

/// What a message says of a study and its patient.
struct AuditSubject: Sendable {
    var patient = PatientIdentity()
    var accessionNumber: String?
}

/// From events to the messages of PS3.15 §A.5.3.
struct AuditMessages: Sendable {
    /// Titles under which the node is called.
    var aeTitles: [AETitle]
    var auditLog: URL
    var processID: Int32 = ProcessInfo.processInfo.processIdentifier

    /// - Parameter subject: of the event's study.
    func messages(of event: AuditEvent, _ subject: AuditSubject) -> [AuditMessage] {
        switch event {
        case .started: [activity(.applicationStart)]
        case .stopped: [activity(.applicationStop)]
        case .reception(.began(let transfer)): [received(transfer, .beginTransferring, .execute)]
        case .reception(.ended(let transfer, let trouble)): [received(transfer, trouble: trouble)]
        case .reception(.refused(let address, let reason)): [refused(address, reason)]
        case .furtherRefusals(let count):
            [
                refused(
                    LocalUser.hostName,
                    "\(count) more refusals in the minute before; see ichnode_associations_refused_total")
            ]
        case .delivery(let attempt, let peer): delivered(attempt, peer, subject)
        case .query(let query): [asked(query)]
        case .command(let action): [operated(action, subject)]
        case .removed(let study, let files, let trouble): [removed(study, files, trouble, subject)]
        case .auditLogUsed(let user): [used(by: user)]
        case .configured(let file, let user, let changes, let failure): [configured(file, user, changes, failure)]
        case .access(let event): [accessed(event, subject)]
        case .furtherSignIns(let count):
            [
                accessed(
                    .signInRefused(
                        user: "several", address: LocalUser.hostName,
                        reason: "\(count) more refusals in the minute before; see ichnode_console_sign_ins_total"),
                    subject)
            ]
        case .lost(let count): [lost(count)]
        }
    }

    // MARK: Participants

    /// This process: the process ID as in the system's logs (§A.5.2.1).
    private func node(
        as role: AuditCode? = nil, titles: [AETitle]? = nil, isRequestor: Bool = false
    ) -> AuditMessage.Participant {
        .init(
            userID: "\(processID)", aeTitles: titles ?? aeTitles, userName: "ichnode", isRequestor: isRequestor,
            role: role)
    }

    private func peer(
        _ title: AETitle?, at address: String, as role: AuditCode, isRequestor: Bool
    ) -> AuditMessage.Participant {
        .init(
            userID: title?.string ?? address, aeTitles: title.map { [$0] } ?? [], isRequestor: isRequestor, role: role,
            address: address)
    }

    // MARK: Objects

    private func study(_ uid: UID, _ accessionNumber: String?, _ counts: [UID?: Int]) -> AuditMessage.Object {
        .init(
            kind: .system, role: .report, idType: .studyInstanceUID, id: uid.string, name: "study",
            accessionNumber: accessionNumber, counts: counts)
    }

    /// §A.5.3 wants the Patient ID also where a study has none.
    private func patient(_ patient: PatientIdentity) -> AuditMessage.Object {
        .init(
            kind: .person, role: .patient, idType: .patientNumber, id: patient.id ?? "<none>", name: patient.name ?? "")
    }

    /// The subject of a Security Alert.
    private func alertSubject(_ idType: AuditCode, _ id: String, _ description: String) -> AuditMessage.Object {
        .init(
            kind: .system, role: .securityResource, idType: idType, id: id, name: id,
            details: [("Alert Description", description)])
    }

    // MARK: Messages

    /// §A.5.3.1
    private func activity(_ type: AuditCode) -> AuditMessage {
        AuditMessage(
            event: .applicationActivity, type: type, action: .execute, participants: [node(as: .application)])
    }

    /// §A.5.3.3 and §A.5.3.7
    private func received(
        _ transfer: ReceivedTransfer, _ event: AuditCode, _ action: AuditMessage.Action, trouble: String? = nil
    ) -> AuditMessage {
        let counts = Dictionary(uniqueKeysWithValues: transfer.counts.map { (Optional($0.key), $0.value) })
        return AuditMessage(
            event: event, action: action, outcome: trouble == nil ? .success : .minorFailure,
            outcomeDescription: trouble,
            participants: [
                peer(transfer.callingAETitle, at: transfer.peerAddress, as: .source, isRequestor: true),
                node(as: .destination, titles: transfer.calledAETitle.map { [$0] }),
            ],
            objects: [
                study(
                    // How many will come is not known.
                    transfer.studyInstanceUID, transfer.accessionNumber, event == .beginTransferring ? [:] : counts),
                patient(transfer.patient),
            ])
    }

    private func received(_ transfer: ReceivedTransfer, trouble: String?) -> AuditMessage {
        let action: AuditMessage.Action =
            switch transfer.effect {
            case .created: .create
            case .alreadyHeld: .read
            case .versioned: .update
            }
        return received(transfer, .instancesTransferred, action, trouble: trouble)
    }

    /// §A.5.3.7, one message for what was taken and one for what was refused for good. R: whether the receiver held
    /// copies before is not known.
    private func delivered(
        _ attempt: DeliveryAttempt, _ to: NodeConfiguration.Peer, _ subject: AuditSubject
    ) -> [AuditMessage] {
        [AuditMessage.Outcome.success, .seriousFailure].compactMap { outcome in
            let objects = attempt.objects.filter { Self.outcome(attempt.fates[$0.sopInstanceUID]) == outcome }
            guard !objects.isEmpty else { return nil }
            let reasons = Set(objects.compactMap { Self.reason(attempt.fates[$0.sopInstanceUID]) })
            return AuditMessage(
                event: .instancesTransferred, action: .read, outcome: outcome,
                outcomeDescription: reasons.isEmpty ? nil : reasons.sorted().joined(separator: "; "),
                participants: [
                    node(as: .source, titles: [to.callingAETitle], isRequestor: true),
                    peer(to.remote.aeTitle, at: to.remote.host, as: .destination, isRequestor: false),
                ],
                objects: [
                    study(
                        attempt.studyInstanceUID, subject.accessionNumber,
                        Dictionary(grouping: objects) { Optional($0.sopClassUID) }.mapValues(\.count)),
                    patient(subject.patient),
                ])
        }
    }

    /// nil: nothing was settled, it is tried again.
    private static func outcome(_ fate: ObjectFate?) -> AuditMessage.Outcome? {
        switch fate {
        case .delivered: .success
        case .refused: .seriousFailure
        case .retry, nil: nil
        }
    }

    private static func reason(_ fate: ObjectFate?) -> String? {
        if case .refused(_, let reason) = fate { reason } else { nil }
    }

    /// §A.5.3.10
    private func asked(_ query: StudyQuery) -> AuditMessage {
        AuditMessage(
            event: .query, action: .execute, outcome: query.failure == nil ? .success : .minorFailure,
            outcomeDescription: query.failure,
            participants: [
                node(as: .source, titles: [query.peer.callingAETitle], isRequestor: true),
                peer(query.peer.remote.aeTitle, at: query.peer.remote.host, as: .destination, isRequestor: false),
            ],
            objects: [
                .init(
                    kind: .system, role: .report, idType: .sopClassUID, id: StudyQuery.sopClassUID,
                    query: query.identifier, details: [("TransferSyntax", StudyQuery.transferSyntaxUID)])
            ])
    }

    /// §A.5.3.6: person and process, study and patient. No other message has all four.
    private func operated(_ action: OperatorAction, _ subject: AuditSubject) -> AuditMessage {
        var object = study(action.studyInstanceUID, nil, [:])
        object.details = [("Command", action.command)]
        return AuditMessage(
            event: .instancesAccessed, action: action.changes ? .update : .read,
            outcome: action.failure == nil ? .success : .minorFailure, outcomeDescription: action.failure,
            participants: [.init(userID: action.user, isRequestor: true), node()],
            objects: [object, patient(subject.patient)])
    }

    /// §A.5.3.8
    private func removed(_ uid: UID, _ files: Int, _ trouble: String?, _ subject: AuditSubject) -> AuditMessage {
        AuditMessage(
            event: .studyDeleted, action: .delete, outcome: trouble == nil ? .success : .minorFailure,
            outcomeDescription: trouble, participants: [node(isRequestor: true)],
            objects: [study(uid, subject.accessionNumber, [nil: files]), patient(subject.patient)])
    }

    /// §A.5.3.11. Minor failure: the refusal was what there was to do.
    private func refused(_ address: String, _ reason: String) -> AuditMessage {
        AuditMessage(
            event: .securityAlert, type: .nodeAuthentication, action: .execute, outcome: .minorFailure,
            participants: [node()], objects: [alertSubject(.nodeID, address, reason)])
    }

    /// §A.5.3.11
    private func lost(_ count: Int) -> AuditMessage {
        AuditMessage(
            event: .securityAlert, type: .auditRecordingStopped, action: .execute, outcome: .seriousFailure,
            participants: [node()],
            objects: [
                alertSubject(
                    .uri, auditLog.absoluteString,
                    "\(count) audit messages before this one were lost: the audit log could not be written in time")
            ])
    }

    /// §A.5.3.11. Who sent a signal is not known.
    private func configured(_ file: String, _ user: String, _ changes: [String], _ failure: String?) -> AuditMessage {
        let isByUser = user != ConfigurationReloader.signal
        let what = changes.isEmpty ? "nothing changed" : "changed: \(changes.joined(separator: ", "))"
        return AuditMessage(
            event: .securityAlert, type: .softwareConfiguration, action: .execute,
            outcome: failure == nil ? .success : .minorFailure, outcomeDescription: failure,
            participants: (isByUser ? [.init(userID: user, isRequestor: true)] : []) + [node(isRequestor: !isByUser)],
            objects: [
                alertSubject(
                    .uri, URL(fileURLWithPath: file).absoluteString,
                    failure == nil ? "configuration read again: \(what)" : "configuration refused")
            ])
    }

    /// §A.5.3.2
    private func used(by user: String) -> AuditMessage {
        AuditMessage(
            event: .auditLogUsed, action: .read, participants: [.init(userID: user, isRequestor: true), node()],
            objects: [
                .init(
                    kind: .system, role: .securityResource, idType: .uri, id: auditLog.absoluteString,
                    name: "Security Audit Log")
            ])
    }

    // MARK: The console

    /// A name as it was claimed may be anything.
    private static let mostUserScalars = 128

    private func accessed(_ event: AccessEvent, _ subject: AuditSubject) -> AuditMessage {
        switch event {
        case .signedIn(let user, let address): authenticated(user, address, .login)
        case .signInRefused(let user, let address, let reason): authenticated(user, address, .login, refusal: reason)
        case .signedOut(let user, let address): authenticated(user, address, .logout)
        case .viewed(let uid, let user, let address):
            // §A.5.3.6
            AuditMessage(
                event: .instancesAccessed, action: .read, participants: [person(user, address), node()],
                objects: [study(uid, subject.accessionNumber, [:]), patient(subject.patient)])
        }
    }

    private func person(_ user: String, _ address: String) -> AuditMessage.Participant {
        .init(userID: String(user.unicodeScalars.prefix(Self.mostUserScalars)), isRequestor: true, address: address)
    }

    /// §A.5.3.12. Minor failure: the refusal was what there was to do.
    private func authenticated(
        _ user: String, _ address: String, _ type: AuditCode, refusal: String? = nil
    ) -> AuditMessage {
        AuditMessage(
            event: .userAuthentication, type: type, action: .execute,
            outcome: refusal == nil ? .success : .minorFailure, outcomeDescription: refusal,
            participants: [person(user, address), node()])
    }
}
