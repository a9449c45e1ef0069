internal import Foundation
public import Ledger
public import WorkerProtocol

/// How a destination is asked whether it keeps what it has accepted (storage commitment, PS3.4 Annex J).
public protocol Commitment: Sendable {
    /// How long its report may take.
    var timeout: Duration { get }
    /// - Returns: the report where it came at once; otherwise it comes later, on an association of the peer's own.
    /// - Throws: where the request was not taken; the text says what to check.
    func request(_ objects: [ComposedObject], under transaction: UID) async throws -> CommitmentReport?
}

/// Storage Commitment Push Model, through a confined worker process.
public struct DICOMCommitment: Commitment {
    public let timeout: Duration
    private let peer: RemotePeer
    private let callingAETitle: AETitle
    private let program: WorkerProgram

    public init(timeout: Duration, peer: RemotePeer, callingAETitle: AETitle, program: WorkerProgram) {
        self.timeout = timeout
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.program = program
    }

    static func deadline(of job: CommitJob) -> Duration { .seconds(4 * job.timeoutSeconds + job.reportSeconds) }

    public func request(_ objects: [ComposedObject], under transaction: UID) async throws -> CommitmentReport? {
        let job = CommitJob(peer: peer, callingAETitle: callingAETitle, transactionUID: transaction, objects: objects)
        // The worker gives up before: connection, request, report, release.
        let deadline = Self.deadline(of: job)
        var wasTaken = false
        var report: CommitmentReport?
        for event in try await SendClient(program: program, deadline: deadline).run(.commit(job)) {
            switch event {
            case .commitmentAsked: wasTaken = true
            case .commitment(let told): report = told
            case .failed(let failure) where !wasTaken: throw WorkerError(.failed, failure.reason)
            default: break
            }
        }
        guard wasTaken else { throw WorkerError(.failed, "no answer to the request for commitment") }
        return report
    }
}

/// Failure Reasons (PS3.3 §C.14.1.1) of objects that a peer has accepted and does not commit.
enum CommitmentFailureTable {
    static let reasons: [UInt16: (text: String, isFinal: Bool)] = [
        0x0110: ("processing failure", false),
        0x0112: ("the peer does not have it", false),
        0x0119: ("the peer has it under another SOP class", true),
        0x0122: ("the peer commits no objects of this SOP class", true),
        0x0131: ("the peer has had this Transaction UID before", false),
        0x0213: ("the peer is out of resources", false),
    ]

    /// - Parameter reason: nil where the peer gives none.
    static func fate(_ reason: UInt16?, of object: UID) -> ObjectFate {
        let known = reason.flatMap { reasons[$0] }
        let code = reason.map { " (0x\(String($0, radix: 16, uppercase: true)))" } ?? ""
        let text = "commitment failed for \(object): \(known?.text ?? "no reason that is known")\(code)"
        return known?.isFinal == true ? .refused(status: reason, reason: text) : .retry(status: reason, reason: text)
    }
}

extension DeliveryEntry {
    /// What follows from the states of the objects.
    /// - Parameters:
    ///   - pause: seconds.
    ///   - reason: why all that is not taken is not; nil where each object has its own.
    mutating func settle(at now: Date, nextAttemptAfter pause: TimeInterval, because reason: String? = nil) {
        let states = Set(objects.map(\.state))
        if states.contains(.pending) {
            state = .pending
            nextAttemptAt = now + pause
            lastError = reason ?? reasons(of: .pending, .dead)
        } else if states.contains(.dead) {
            state = .dead
            lastError = reasons(of: .dead)
        } else if states.contains(.accepted) {
            state = .accepted
            nextAttemptAt = now
            lastError = nil
        } else {
            state = .delivered
            deliveredAt = now
            lastError = nil
        }
    }

    /// Each once.
    private func reasons(of states: DeliveryState...) -> String {
        let known = objects.filter { states.contains($0.state) }.compactMap(\.reason)
        let each = known.reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
        return each.isEmpty ? "no answer for some objects" : each.joined(separator: "; ")
    }

    mutating func takeAcceptedAsDelivered() {
        for index in objects.indices where objects[index].state == .accepted { objects[index].state = .delivered }
    }

    /// - Parameter taken: what an object is that the destination has.
    mutating func apply(_ fates: [UID: ObjectFate], taken: DeliveryState) {
        for index in objects.indices {
            switch fates[objects[index].object.sopInstanceUID] {
            case nil: break
            case .delivered(let status):
                (objects[index].state, objects[index].status, objects[index].reason) = (taken, status, nil)
                // Another encoding of what the destination has would be a second object.
                (objects[index].alternatives, objects[index].refusals) = (nil, nil)
            case .retry(let status, let reason):
                (objects[index].state, objects[index].status, objects[index].reason) = (.pending, status, reason)
            case .refused(let status, let reason): objects[index].refuse(status: status, reason: reason)
            }
        }
    }

    /// All that is accepted is committed, or sent again.
    mutating func apply(_ report: CommitmentReport) {
        let committed = Set(report.committed)
        let failures = Dictionary(report.failed.map { ($0.sopInstanceUID, $0) }) { first, _ in first }
        let accepted = objects.filter { $0.state == .accepted }.map { object in
            let uid = object.object.sopInstanceUID
            let fate: ObjectFate =
                if let failure = failures[uid] {
                    CommitmentFailureTable.fate(failure.reason, of: uid)
                } else if committed.contains(uid) {
                    .delivered(status: object.status ?? 0)
                } else {
                    .retry(status: nil, reason: "commitment failed for \(uid): the report does not name it")
                }
            return (uid, fate)
        }
        apply(Dictionary(accepted) { first, _ in first }, taken: .delivered)
    }
}
