internal import Foundation
public import Ledger
public import Logging
internal import WorkerProtocol

/// Brings the ledger in line with the spool at start-up: objects that were acknowledged right before a crash are read
/// again.
public struct SpoolMender: Sendable {
    private let spool: Spool
    private let ledger: any Ledger
    private let decoder: DecodeClient
    private let clock: WallClock
    private let logger: Logger

    public init(spool: Spool, ledger: any Ledger, decoder: DecodeClient, clock: WallClock, logger: Logger) {
        self.spool = spool
        self.ledger = ledger
        self.decoder = decoder
        self.clock = clock
        self.logger = logger
    }

    /// - Returns: how many objects the ledger did not know.
    @discardableResult
    public func mend() async throws -> Int {
        let removed = try spool.removeUnfinished()
        let known = try await ledger.instancePaths()
        let unknown = try spool.paths().filter { !known.contains($0) }
        if removed > 0 || !unknown.isEmpty {
            logger.notice(
                "spool mended", metadata: ["unfinished.removed": "\(removed)", "instances.found": "\(unknown.count)"])
        }
        let now = clock.now()
        for start in stride(from: 0, to: unknown.count, by: 256) {
            let batch = Array(unknown[start..<min(start + 256, unknown.count)])
            var records = try await decoder.describe(batch)
            // A worker that died over one file is no reason to forget another.
            records.merge(try await decoder.describe(batch.filter { records[$0] == nil })) { $1 }
            try await ledger.recordInstances(
                records.map { StoredInstance(record: $1, path: $0, receivedAt: now) })
        }
        return unknown.count
    }
}
