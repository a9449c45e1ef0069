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

    public func request(_ objects: [ComposedObject], under transaction: UID) async throws -> CommitmentReport? {
        let job = CommitJob(peer: peer, callingAETitle: callingAETitle, transactionUID: transaction, objects: objects)
        // The worker gives up before: connection, request, report, release.
        let deadline: Duration = .seconds(4 * job.timeoutSeconds + job.reportSeconds)
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
    private static let reasons: [UInt16: (text: String, isFinal: Bool)] = [
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
    ///   - problems: why some are not accepted, or not committed.
    mutating func settle(at now: Date, nextAttemptAfter pause: TimeInterval, problems: [String]) {
        let states = Set(objects.map(\.state))
        if states.contains(.pending) {
            state = .pending
            nextAttemptAt = now + pause
            lastError = problems.joined(separator: "; ")
        } else if states.contains(.dead) {
            state = .dead
            lastError = problems.joined(separator: "; ")
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

    mutating func takeAcceptedAsDelivered() {
        for index in objects.indices where objects[index].state == .accepted { objects[index].state = .delivered }
    }

    /// All that is accepted is committed, or sent again.
    /// - Returns: why what is not committed is not.
    mutating func apply(_ report: CommitmentReport) -> [String] {
        let committed = Set(report.committed)
        let failures = Dictionary(report.failed.map { ($0.sopInstanceUID, $0) }) { first, _ in first }
        var problems: [String] = []
        for index in objects.indices where objects[index].state == .accepted {
            let uid = objects[index].object.sopInstanceUID
            let fate: ObjectFate =
                if let failure = failures[uid] {
                    CommitmentFailureTable.fate(failure.reason, of: uid)
                } else if committed.contains(uid) {
                    .delivered(status: objects[index].status ?? 0)
                } else {
                    .retry(status: nil, reason: "commitment failed for \(uid): the report does not name it")
                }
            switch fate {
            case .delivered: objects[index].state = .delivered
            case .retry(let status, let reason):
                (objects[index].state, objects[index].status) = (.pending, status)
                problems.append(reason)
            case .refused(let status, let reason):
                (objects[index].state, objects[index].status) = (.dead, status)
                problems.append(reason)
            }
        }
        return problems
    }
}
