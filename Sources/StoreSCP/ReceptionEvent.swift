public import WorkerProtocol

/// What receiving tells whoever keeps an audit trail.
public enum ReceptionEvent: Sendable, Equatable {
    /// The first instance of a patient's study came over an association.
    case began(ReceivedTransfer)
    /// No more will come over it.
    /// - Parameter trouble: how the association ended, where its peer did not release it.
    case ended(ReceivedTransfer, trouble: String?)
    /// A connection, association request or TLS handshake was refused.
    case refused(peerAddress: String, reason: String)
}

/// Instances of one patient's study that came over one association.
public struct ReceivedTransfer: Sendable, Equatable {
    /// What they changed in the spool.
    public enum Effect: String, Sendable, CaseIterable {
        case created, alreadyHeld, versioned
    }

    public var peerAddress: String
    public var callingAETitle: AETitle?
    public var calledAETitle: AETitle?
    public var studyInstanceUID: UID
    public var patient: PatientIdentity
    public var accessionNumber: String?
    public var effect: Effect
    /// Instances by SOP class.
    public var counts: [UID: Int]
}

/// Keeps count of what comes over one association.
struct ReceivedTransfers {
    /// Studies that are counted at once: a peer may send each object as one of its own.
    static let mostStudies = 64

    private struct Subject: Hashable {
        var study: UID
        var patient: PatientIdentity
    }

    private let peerAddress: String
    private var open: [Subject: [ReceivedTransfer]] = [:]

    init(peerAddress: String) { self.peerAddress = peerAddress }

    /// - Returns: what there is to tell.
    mutating func add(_ record: InstanceRecord, _ effect: ReceivedTransfer.Effect) -> [ReceptionEvent] {
        let subject = Subject(study: record.studyInstanceUID, patient: record.patient)
        if let index = open[subject]?.firstIndex(where: { $0.effect == effect }) {
            open[subject]?[index].counts[record.sopClassUID, default: 0] += 1
            return []
        }
        let transfer = ReceivedTransfer(
            peerAddress: peerAddress, callingAETitle: record.callingAETitle, calledAETitle: record.calledAETitle,
            studyInstanceUID: record.studyInstanceUID, patient: record.patient,
            accessionNumber: record.study.accessionNumber, effect: effect, counts: [record.sopClassUID: 1])
        guard open[subject] == nil else {
            open[subject]?.append(transfer)
            return []
        }
        let ended = open.count < Self.mostStudies ? [] : end(trouble: nil)
        open[subject] = [transfer]
        return ended + [.began(transfer)]
    }

    mutating func end(trouble: String?) -> [ReceptionEvent] {
        defer { open = [:] }
        return open.values.joined().sorted {
            ($0.studyInstanceUID, $0.effect.rawValue) < ($1.studyInstanceUID, $1.effect.rawValue)
        }.map { .ended($0, trouble: trouble) }
    }
}
