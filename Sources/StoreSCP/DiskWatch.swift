internal import Foundation
public import Logging
internal import Metrics
public import ServiceLifecycle
public import WorkerProtocol

/// Free space on the spool's file system, against two watermarks.
///
/// Below the first no association that would store anything is accepted, while C-ECHO and reports of storage commitment
/// still are: without these nothing would become purgeable. Below the second the receive workers refuse each object
/// with 0xA700 by themselves, also those of associations that were there before. Both end by themselves.
///
/// `@unchecked Sendable` is safe because what changes is guarded by `lock`.
public final class DiskWatch: Service, @unchecked Sendable {
    /// Bytes that have to be free.
    public struct Watermarks: Sendable, Equatable {
        /// Below it associations that propose storage are rejected as transient.
        public var association: UInt64
        /// Below it an object is refused with 0xA700.
        public var object: UInt64

        public init(association: UInt64, object: UInt64) {
            self.association = association
            self.object = object
        }
    }

    public enum State: Sendable, Equatable {
        case roomy
        /// Below the first watermark.
        case low
        /// Below the second.
        case full
    }

    private let path: String
    private let watermarks: @Sendable () -> Watermarks
    private let interval: Duration
    private let logger: Logger
    private let freeBytes: @Sendable (String) throws -> UInt64
    private let free = Gauge(label: "ichnode_disk_free_bytes")
    private let lock = NSLock()
    private var last = State.roomy
    private var lastFree: UInt64?
    public let pulse = Pulse()

    /// - Parameters:
    ///   - path: on the file system that is watched.
    ///   - watermarks: asked for at each look: they may change.
    ///   - freeBytes: how to ask for free space.
    public init(
        path: String, watermarks: @escaping @autoclosure @Sendable () -> Watermarks, interval: Duration = .seconds(1),
        logger: Logger,
        freeBytes: @escaping @Sendable (String) throws -> UInt64 = { try DiskSpace.freeBytes(at: $0) }
    ) {
        self.path = path
        self.watermarks = watermarks
        self.interval = interval
        self.logger = logger
        self.freeBytes = freeBytes
        look()
    }

    /// As of the last look.
    public var state: State { lock.withLock { last } }
    /// As of the last look that succeeded, bytes.
    public var freeSpace: UInt64? { lock.withLock { lastFree } }

    /// Looks until it is told to stop.
    public func run() async throws {
        try await cancelWhenGracefulShutdown { [self] in
            while !Task.isCancelled {
                look()
                pulse.beat()
                do { try await Task.sleep(for: interval) } catch is CancellationError { return }
            }
        }
    }

    /// Where the file system does not answer, the last state stands.
    func look() {
        let watermarks = watermarks()
        for (refuses, bytes) in [("associations", watermarks.association), ("objects", watermarks.object)] {
            Gauge(label: "ichnode_disk_watermark_bytes", dimensions: [("refuses", refuses)]).record(bytes)
        }
        let found: UInt64
        do { found = try freeBytes(path) } catch {
            logger.error("free disk space is not known", metadata: ["error": "\(error)"])
            return
        }
        free.record(found)
        let now: State = found < watermarks.object ? .full : found < watermarks.association ? .low : .roomy
        let before = lock.withLock {
            defer { (last, lastFree) = (now, found) }
            return last
        }
        guard now != before else { return }
        let metadata: Logger.Metadata = ["free.mebibytes": "\(found >> 20)"]
        switch now {
        case .roomy: logger.notice("disk has room again: associations are accepted", metadata: metadata)
        case .low:
            logger.error(
                "disk nearly full: associations that store are rejected: make room, or lower disk.* in the file",
                metadata: metadata)
        case .full: logger.error("disk full: objects are refused; make room", metadata: metadata)
        }
    }
}
