internal import Foundation
public import Ledger
public import Logging
internal import Metrics
public import ServiceLifecycle
public import WorkerProtocol

/// Takes what the workers stored, in order: writes it to the ledger in batches, then tells the assembler.
///
/// The objects are durable and acknowledged before they come here; a ledger that cannot be written delays analysis,
/// loses nothing, and is mended at the next start.
public final class StudyIntake: Service {
    enum Item: Sendable {
        case opened(association: String, peer: String, at: Date)
        case stored(StoredInstance, association: String, isPlaced: Bool)
        case lost(LostObject, association: String, at: Date)
        case ended(association: String, AssociationConclusion, at: Date)
        /// Has the loop show that it turns.
        case nudge
    }

    private static let mostInBatch = 1024
    private static let pause: Duration = .milliseconds(50)
    private let ledger: any Ledger
    private let assembler: StudyAssembler
    private let clock: WallClock
    private let logger: Logger
    private let items: AsyncStream<[Item]>
    private let buffer: IntakeBuffer
    /// Beats for each `nudge`, and while the ledger is tried.
    public let pulse = Pulse()

    public init(ledger: any Ledger, assembler: StudyAssembler, clock: WallClock, logger: Logger) {
        self.ledger = ledger
        self.assembler = assembler
        self.clock = clock
        self.logger = logger
        let buffer = IntakeBuffer()
        self.buffer = buffer
        items = AsyncStream { await buffer.next(atMost: Self.mostInBatch) }
    }

    func associationOpened(_ id: String, peer: String) async {
        await buffer.add(.opened(association: id, peer: peer, at: clock.now()))
    }

    /// - Parameter isPlaced: there was no file at the path; otherwise one of the same bytes.
    func stored(_ record: InstanceRecord, path: String, association: String, isPlaced: Bool) async {
        let instance = StoredInstance(record: record, path: path, receivedAt: clock.now())
        await buffer.add(.stored(instance, association: association, isPlaced: isPlaced))
    }

    /// An image did not arrive, or was refused.
    func lost(_ object: LostObject, association: String) async {
        await buffer.add(.lost(object, association: association, at: clock.now()))
    }

    func associationEnded(_ id: String, _ conclusion: AssociationConclusion) async {
        await buffer.add(.ended(association: id, conclusion, at: clock.now()))
    }

    /// The node is stopping: whoever receives ends, even where the ledger takes nothing.
    func stopHoldingBack() async { await buffer.stopHoldingBack() }

    /// Goes the way of all that is stored.
    public func nudge() async { await buffer.add(.nudge) }

    public func run() async throws {
        await withTaskCancellationOrGracefulShutdownHandler {
            for await batch in items {
                await apply(batch)
                // What comes meanwhile shares the next transaction and its fsync.
                try? await clock.sleep(Self.pause)
            }
        } onCancelOrGracefulShutdown: { [buffer] in
            Task { await buffer.finish() }
        }
    }

    private func apply(_ batch: [Item]) async {
        var stored: [StoredInstance] = []
        var placed: Set<String> = []
        for case .stored(let instance, _, let isPlaced) in batch {
            stored.append(instance)
            if isPlaced { placed.insert(instance.path) }
        }
        let new = Set(await record(stored, placed: placed).map(\.path))
        let newlyLost = await recordLosses(in: batch)
        for item in batch {
            switch item {
            case .opened(let association, let peer, let at): await assembler.opened(association, peer: peer, at: at)
            case .lost(let object, let association, let at):
                let isNew = newlyLost.map { lost in object.studyInstanceUID.map(lost.contains) ?? false }
                await assembler.lost(object, association: association, at: at, isNew: isNew)
            case .ended(let association, let conclusion, let at):
                await assembler.ended(association, at: at, conclusion)
            case .stored(let instance, let association, _):
                if new.contains(instance.path) {
                    await assembler.arrived(instance, association: association, beating: pulse)
                }
            case .nudge: pulse.beat()
            }
        }
    }

    /// - Returns: the studies that lack an image more than was known; nil where the ledger takes nothing.
    private func recordLosses(in batch: [Item]) async -> Set<UID>? {
        let lost = batch.compactMap { item -> (study: UID, instance: UID?)? in
            guard case .lost(let object, _, _) = item, let study = object.studyInstanceUID else { return nil }
            return (study, object.sopInstanceUID)
        }
        guard !lost.isEmpty else { return [] }
        do { return try await ledger.recordLostImages(lost) } catch {
            logger.error("lost images are not recorded: a restart forgets them", metadata: ["error": "\(error)"])
            return nil
        }
    }

    /// Tries until the ledger takes it: what is acknowledged is never dropped.
    private func record(_ instances: [StoredInstance], placed: Set<String>) async -> [StoredInstance] {
        guard !instances.isEmpty else { return [] }
        var pause: Duration = .milliseconds(100)
        while true {
            do { return try await ledger.recordInstances(instances, placed: placed) } catch {
                logger.error("ledger cannot be written; objects wait in the spool", metadata: ["error": "\(error)"])
                pulse.beat()
                // A node that is stopping waits for no disk: the next start finds them in the spool.
                let waited = try? await cancelWhenGracefulShutdown { [clock, pause] in try await clock.sleep(pause) }
                guard waited != nil else { return [] }
                pause = min(pause * 2, .seconds(30))
            }
        }
    }
}

/// Items in order of arrival; adding waits while too many are there.
actor IntakeBuffer {
    static let capacity = 4096
    private var items: [StudyIntake.Item] = []
    private var reader: CheckedContinuation<Void, Never>?
    private var writers: [CheckedContinuation<Void, Never>] = []
    private var isFinished = false
    private var holdsBack = true

    func add(_ item: StudyIntake.Item) async {
        while items.count >= Self.capacity && holdsBack { await withCheckedContinuation { writers.append($0) } }
        items.append(item)
        reader?.resume()
        reader = nil
    }

    /// - Returns: nil after `finish`, when all was read.
    func next(atMost count: Int) async -> [StudyIntake.Item]? {
        while items.isEmpty {
            if isFinished { return nil }
            await withCheckedContinuation { reader = $0 }
        }
        let batch = Array(items.prefix(count))
        items.removeFirst(batch.count)
        writers.forEach { $0.resume() }
        writers = []
        return batch
    }

    /// From now on adding does not wait.
    func stopHoldingBack() {
        holdsBack = false
        writers.forEach { $0.resume() }
        writers = []
    }

    func finish() {
        isFinished = true
        reader?.resume()
        reader = nil
        stopHoldingBack()
    }
}
