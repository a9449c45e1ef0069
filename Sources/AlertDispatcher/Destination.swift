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

/// Where results go. Delivering the same object again is harmless: it has the same UID and the same bytes.
public protocol Destination: Sendable {
    var name: String { get }
    /// - Returns: the fate of each object, by SOP Instance UID; what is not in it has to be tried again.
    /// - Throws: where nothing could be tried; the text says what to check.
    func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate]
    /// nil where what is accepted is delivered.
    var commitment: (any Commitment)? { get }
}

extension Destination {
    public var commitment: (any Commitment)? { nil }
}

/// C-STORE statuses (PS3.4 Table B.2-1, PS3.7 Annex C) as a destination's answer to one of our result objects.
enum StoreStatusTable {
    static func fate(_ status: UInt16, comment: String) -> ObjectFate {
        let code = String(status, radix: 16, uppercase: true)
        let said = comment.isEmpty ? "" : ": \(comment)"
        switch status {
        case 0x0000: return .delivered(status: status)
        // Warnings, such as Coercion of Data Elements or Elements Discarded: stored all the same.
        case 0xB000...0xBFFF, 0x0107, 0x0116: return .delivered(status: status)
        // Duplicate SOP Instance: our UID names these very bytes.
        case 0x0111: return .delivered(status: status)
        // Out of Resources.
        case 0xA700...0xA7FF: return .retry(status: status, reason: "peer is out of resources (0x\(code))\(said)")
        // Data Set does not match SOP Class; Cannot Understand.
        case 0xA900...0xA9FF, 0xC000...0xCFFF:
            return .refused(status: status, reason: "peer refused the object (0x\(code))\(said)")
        // SOP Class Not Supported; Not Authorized.
        case 0x0122, 0x0124: return .refused(status: status, reason: "peer refuses this SOP class (0x\(code))\(said)")
        default: return .retry(status: status, reason: "peer answered 0x\(code)\(said)")
        }
    }
}

/// A PACS: objects are sent by C-STORE through a confined worker process.
public struct DICOMDestination: Destination {
    public let name: String
    private let peer: RemotePeer
    private let callingAETitle: AETitle
    private let program: WorkerProgram
    private let deadline: Duration
    public let commitment: (any Commitment)?

    /// - Parameter deadline: for all objects of a delivery.
    public init(
        name: String, peer: RemotePeer, callingAETitle: AETitle, program: WorkerProgram,
        deadline: Duration = .seconds(600), commitment: (any Commitment)? = nil
    ) {
        self.name = name
        self.peer = peer
        self.callingAETitle = callingAETitle
        self.program = program
        self.deadline = deadline
        self.commitment = commitment
    }

    public func deliver(_ objects: [ComposedObject]) async throws -> [UID: ObjectFate] {
        let job = StoreJob(peer: peer, callingAETitle: callingAETitle, objects: objects)
        let events = try await SendClient(program: program, deadline: deadline).run(.store(job))
        var fates: [UID: ObjectFate] = [:]
        var failures: [String] = []
        for event in events {
            switch event {
            case .response(let uid, let status, let comment):
                fates[uid] = StoreStatusTable.fate(status, comment: comment)
            case .noPresentationContext(let uid, let sopClass):
                // Often a setting at the peer that somebody is about to change.
                fates[uid] = .retry(status: nil, reason: "peer accepts no presentation context for \(sopClass)")
            case .failed(let failure): failures.append(failure.reason)
            case .echoed, .found, .moved, .commitmentAsked, .commitment, .done: break
            }
        }
        guard !failures.isEmpty else { return fates }
        let failure = failures.joined(separator: "; ")
        if fates.isEmpty { throw WorkerError(.failed, failure) }
        // What was answered before the failure stays answered.
        for object in objects where fates[object.sopInstanceUID] == nil {
            fates[object.sopInstanceUID] = .retry(status: nil, reason: failure)
        }
        return fates
    }
}

/// Runs one job in a `send`, `echo`, `find` or `move` worker, which reads the key material for the peer first.
public struct SendClient: Sendable {
    private let program: WorkerProgram
    private let deadline: Duration

    public init(program: WorkerProgram, deadline: Duration) {
        self.program = program
        self.deadline = deadline
    }

    /// - Returns: all events up to `done`, or up to the worker's death.
    public func run(_ request: SendRequest) async throws -> [SendEvent] {
        var program = program
        program.arguments += request.peer.tls?.files.arguments ?? []
        let worker = try WorkerProcess(program, limits: .messagesOnly)
        defer { Task { await worker.stop(patience: .milliseconds(500)) } }
        try await worker.start()
        return try await withDeadline(deadline, "the peer took too long") {
            try await worker.send(request)
            var events: [SendEvent] = []
            do {
                for try await frame in worker.frames {
                    let event = try frame.message(SendEvent.self)
                    if case .done = event { return events }
                    events.append(event)
                }
                throw WorkerError(.closed, "send worker ended before it was done")
            } catch {
                events.append(.failed(SendFailure(kind: .other, reason: "\(error)")))
                return events
            }
        } onDeadline: {
            worker.kill()
        }
    }
}
