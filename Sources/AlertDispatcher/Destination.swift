public import Ledger
internal import Metrics
internal import Synchronization
public import WorkerProtocol

/// What became of one object at a destination.
public enum ObjectFate: Sendable, Equatable {
    /// Accepted, or there already under our UID.
    case delivered(status: UInt16)
    /// Worth another try.
    case retry(status: UInt16?, reason: String)
    /// Refused for good.
    case refused(status: UInt16?, reason: String)
}

/// What became of a message.
public enum MessageFate: Sendable, Equatable {
    case delivered
    /// Worth another try; other messages go on meanwhile.
    case retry(reason: String)
    /// Refused for good.
    case refused(reason: String)
}

/// Nothing could be tried: no connection, no association. Whatever else is owed there would fare the same.
public struct Unreachable: Error, CustomStringConvertible {
    /// What to check.
    public let description: String
    public init(_ reason: String) { description = reason }
}

/// One attempt to deliver objects, for whoever keeps an audit trail.
public struct DeliveryAttempt: Sendable {
    public var studyInstanceUID: UID
    public var destination: String
    /// What was owed.
    public var objects: [ComposedObject]
    /// What became of those that were answered.
    public var fates: [UID: ObjectFate]

    public init(_ study: UID, to destination: String, _ objects: [ComposedObject], _ fates: [UID: ObjectFate]) {
        studyInstanceUID = study
        self.destination = destination
        self.objects = objects
        self.fates = fates
    }
}

/// Where results go. Delivering the same object or message again is harmless: it has the same UID, or id, and bytes.
///
/// Both functions throw `Unreachable`, or another error where something was begun and no answer came.
public protocol Destination: Sendable {
    var name: String { get }
    /// - Returns: the fate of each object, by SOP Instance UID; what is not in it has to be tried again.
    func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate]
    func deliver(_ message: OutboundMessage) async throws -> MessageFate
    /// nil where what is accepted is delivered.
    var commitment: (any Commitment)? { get }
    /// nil where it has none.
    var fallback: DestinationFallback? { get }
}

extension Destination {
    public var commitment: (any Commitment)? { nil }
    public var fallback: DestinationFallback? { nil }
    public func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate] {
        let reason = "\(name) takes no DICOM objects"
        return Dictionary(objects.map { ($0.sopInstanceUID, .refused(status: nil, reason: reason)) }) { $1 }
    }
    public func deliver(_ message: OutboundMessage) async throws -> MessageFate {
        .refused(reason: "\(name) takes no messages")
    }
}

/// Another way to the same archive, for when a destination cannot be reached.
public struct DestinationFallback: Sendable, Equatable {
    /// Name of a destination.
    public var name: String
    /// How long the destination has to have been out of reach.
    public var after: Duration
    public init(name: String, after: Duration) {
        self.name = name
        self.after = after
    }
}

/// C-STORE statuses (PS3.4 Table B.2-1, PS3.7 Annex C) as a destination's answer to one of our result objects.
enum StoreStatusTable {
    /// Statuses other than those of `StoredStatus`. What is not here is tried again.
    static let failures: [(codes: ClosedRange<UInt16>, name: String, text: String, isFinal: Bool)] = [
        (0xA700...0xA7FF, "out of resources", "peer is out of resources", false),
        (0xA900...0xA9FF, "data set does not match SOP class", "peer refused the object", true),
        (0xC000...0xCFFF, "cannot understand", "peer refused the object", true),
        (0x0122...0x0122, "SOP class not supported", "peer refuses this SOP class", true),
        (0x0124...0x0124, "not authorized", "peer refuses this SOP class", true),
    ]

    static func fate(_ status: UInt16, comment: String) -> ObjectFate {
        let code = String(status, radix: 16, uppercase: true)
        let said = comment.isEmpty ? "" : ": \(comment)"
        if StoredStatus.contains(status) { return .delivered(status: status) }
        guard let known = failures.first(where: { $0.codes.contains(status) }) else {
            return .retry(status: status, reason: "peer answered 0x\(code)\(said)")
        }
        let reason = "\(known.text) (0x\(code))\(said)"
        return known.isFinal ? .refused(status: status, reason: reason) : .retry(status: status, reason: reason)
    }
}

/// A PACS: objects are sent by C-STORE through a confined worker process.
public struct DICOMDestination: Destination {
    public let name: String
    private let peer: RemotePeer
    private let callingAETitle: AETitle
    private let program: WorkerProgram
    private let deadline: Duration
    /// For all objects of a delivery.
    public static let defaultDeadline: Duration = .seconds(600)
    public let commitment: (any Commitment)?
    public let fallback: DestinationFallback?

    /// - Parameter deadline: for all objects of a delivery.
    public init(
        name: String, peer: RemotePeer, callingAETitle: AETitle, program: WorkerProgram,
        deadline: Duration = defaultDeadline, commitment: (any Commitment)? = nil, fallback: DestinationFallback? = nil
    ) {
        self.name = name
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.program = program
        self.deadline = deadline
        self.commitment = commitment
        self.fallback = fallback
    }

    public func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate] {
        // No picture without the report that explains it, unless the report is refused for good.
        let isReport = ReportClass.allCases.contains { $0.sopClassUID == objects.first?.sopClassUID }
        let job = StoreJob(
            peer: peer, callingAETitle: callingAETitle, objects: objects, waitsForFirst: isReport)
        let events = try await SendClient(program: program, deadline: deadline).run(.store(job))
        var fates: [UID: ObjectFate] = [:]
        var failures: [SendFailure] = []
        for event in events {
            switch event {
            case .response(let uid, let status, let comment):
                fates[uid] = StoreStatusTable.fate(status, comment: comment)
            case .noPresentationContext(let uid, let sopClass):
                fates[uid] = .refused(
                    status: nil, reason: "peer accepts no presentation context for \(sopClass): add it there")
            case .failed(let failure): failures.append(failure)
            case .reached, .echoed, .refused, .found, .moved, .commitmentAsked, .commitment, .done: break
            }
        }
        guard let last = failures.last else { return fates }
        let reason = failures.map(\.reason).joined(separator: "; ")
        if fates.isEmpty {
            switch last.kind {
            case .name, .connect, .handshake, .needsTLS, .rejectedPermanently, .rejectedTransiently:
                throw Unreachable(reason)
            // Says nothing about the peer.
            case .localFile: break
            case .aborted, .timeout, .other: throw WorkerError(.failed, reason)
            }
        }
        // What was answered before the failure stays answered.
        for object in objects where fates[object.sopInstanceUID] == nil {
            fates[object.sopInstanceUID] = .retry(status: nil, reason: reason)
        }
        return fates
    }
}

/// Runs one job in a `send`, `echo`, `reach`, `find` or `move` worker, which reads the key material for the peer first.
public struct SendClient: Sendable {
    private let program: WorkerProgram
    private let deadline: Duration
    private let crashes: Counter

    public init(program: WorkerProgram, deadline: Duration) {
        self.program = program
        self.deadline = deadline
        let verb = program.arguments.first ?? "send"
        crashes = Counter(label: "ichnode_worker_crashes_total", dimensions: [("verb", verb)])
    }

    /// - Returns: all events up to `done`, or up to the worker's death or the deadline, and why it was one of these.
    public func run(_ request: SendRequest) async throws -> [SendEvent] {
        var program = program
        program.arguments += request.tls?.files.arguments ?? []
        let worker = try WorkerProcess(program, limits: .messagesOnly)
        defer { Task { await worker.stop(patience: .milliseconds(500)) } }
        try await worker.start()
        let events = SaidEvents()
        do {
            try await withDeadline(deadline, "the peer took too long") {
                try await worker.send(request)
                for try await frame in worker.frames {
                    let event = try frame.message(SendEvent.self)
                    if case .done = event { return }
                    events.add(event)
                }
                throw WorkerError(.closed, "send worker ended before it was done")
            } onDeadline: {
                worker.kill()
            }
        } catch let error as WorkerError {
            if error.code == .closed && !Task.isCancelled { crashes.increment() }
            let isLate = error.code == .deadline
            events.add(
                .failed(SendFailure(kind: isLate ? .timeout : .other, reason: isLate ? error.reason : "\(error)")))
        } catch is CancellationError where !events.all.isEmpty {
            // The node stops: what was answered stays answered.
        }
        return events.all
    }
}

/// What a worker has said so far: what came before a failure stays.
private final class SaidEvents: Sendable {
    private let held = Mutex<[SendEvent]>([])

    var all: [SendEvent] { held.withLock { $0 } }

    func add(_ event: SendEvent) { held.withLock { $0.append(event) } }
}
