public import Foundation
public import Ledger
public import Logging
internal import Metrics
public import ServiceLifecycle
public import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// Removes the pixels of studies that are old enough, have an outcome, and of which nothing is owed to anybody: see
/// `Ledger.purgeOldestStudy`. Ledger rows and result files stay, so that a study that comes again unchanged gives
/// nothing.
///
/// A copy of an image that arrives while its study is purged is one more copy of what is purged, and goes with it.
public struct Retention: Service {
    public struct Policy: Sendable, Equatable {
        /// nil: for ever, as long as the disk has room.
        public var keep: Duration?
        /// While the disk is short of room, studies older than this go, the oldest first.
        public var leastKeep: Duration

        public init(keep: Duration?, leastKeep: Duration) {
            self.keep = keep
            self.leastKeep = leastKeep
        }
    }

    /// Days are what it counts in; a short disk waits for nobody.
    private static let pause: Duration = .seconds(10)

    private let policy: @Sendable () -> Policy
    private let ledger: any Ledger
    private let clock: WallClock
    private let latestArrival: Date?
    private let logger: Logger
    private let purgedStudies = Counter(label: "ichnode_studies_purged_total")
    private let isShort: @Sendable () -> Bool
    private let audit: @Sendable (_ study: UID, _ files: Int, _ trouble: String?) -> Void

    /// - Parameters:
    ///   - policy: asked for anew each time: it may change.
    ///   - latestArrival: of an image, before this start: a clock that is far ahead of it may be wrong.
    ///   - isShort: whether the disk is below its first watermark.
    ///   - audit: is told of each study whose files are removed, and what was in the way. Quick.
    public init(
        policy: @escaping @autoclosure @Sendable () -> Policy, ledger: any Ledger, clock: WallClock, logger: Logger,
        latestArrival: Date? = nil, isShort: @escaping @Sendable () -> Bool,
        audit: @escaping @Sendable (_ study: UID, _ files: Int, _ trouble: String?) -> Void = { _, _, _ in }
    ) {
        self.policy = policy
        self.ledger = ledger
        self.clock = clock
        self.latestArrival = latestArrival
        self.logger = logger
        self.isShort = isShort
        self.audit = audit
    }

    public func run() async throws {
        await cancelWhenGracefulShutdown {
            var doubt = ClockDoubt(clock, latestArrival: latestArrival)
            while !Task.isCancelled {
                do { try await purgeDue(&doubt) } catch is CancellationError { return } catch {
                    logger.error("retention cannot go on, tried again", metadata: ["error": "\(error)"])
                }
                do { try await clock.sleep(Self.pause) } catch { return }
            }
        }
    }

    /// One study after the other, until none is due.
    func purgeDue(_ doubt: inout ClockDoubt) async throws {
        while !Task.isCancelled, let moment = dueBefore(clock.now(), &doubt),
            let purged = try await ledger.purgeOldestStudy(receivedBefore: moment)
        {
            // Marked first: what is not removed now is at the next start, by `SpoolMender`.
            do { try remove(purged.paths) } catch {
                audit(purged.study, purged.paths.count, "\(error); removed at the next start")
                throw error
            }
            audit(purged.study, purged.paths.count, nil)
            purgedStudies.increment()
            logger.notice(
                "pixels removed by retention",
                metadata: ["study.uid": "\(purged.study)", "files": "\(purged.paths.count)"])
        }
    }

    /// While the clock may be wrong, only for want of room.
    private func dueBefore(_ now: Date, _ doubt: inout ClockDoubt) -> Date? {
        let policy = policy()
        if doubt.look() { logger.warning("the clock was set ahead; retention waits") }
        let keep = doubt.holds(at: now) ? nil : policy.keep
        let kept = isShort() ? min(policy.keep ?? policy.leastKeep, policy.leastKeep) : keep
        return kept.map { now - $0.inSeconds }
    }

    /// The folder stays: something may be arriving in it.
    private func remove(_ paths: [String]) throws {
        for path in paths where unlink(path) != 0 && errno != ENOENT {
            throw SpoolError("cannot remove a purged file: \(Errno.text)")
        }
    }
}
