internal import Foundation
public import Ledger
public import Logging
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// Brings ledger and spool in line at start-up: objects that were acknowledged right before a crash are read again, and
/// what retention had marked and not removed is removed. A study's folder, or a file in it, that cannot be mended keeps
/// no other from being received: it is logged, and left to the next start.
public struct SpoolMender: Sendable {
    private let spool: Spool
    private let ledger: any Ledger
    private let decoder: DecodeClient
    private let clock: WallClock
    private let logger: Logger
    private let progress: @Sendable (String) -> Void

    /// - Parameter progress: is told all the time how far it is.
    public init(
        spool: Spool, ledger: any Ledger, decoder: DecodeClient, clock: WallClock, logger: Logger,
        progress: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.spool = spool
        self.ledger = ledger
        self.decoder = decoder
        self.clock = clock
        self.logger = logger
        self.progress = progress
    }

    /// Before anything is received.
    /// - Returns: how many objects the ledger did not know.
    @discardableResult
    public func mend() async throws -> Int {
        let unfinished = try spool.removeUnfinished()
        var found = 0
        let folders = try spool.folders()
        for (index, (study, folder)) in folders.enumerated() {
            found += try await mend(study, folder) {
                progress("study \(index + 1) of \(folders.count) in the spool, \(found + $0) objects read")
            }
        }
        if unfinished > 0 || found > 0 {
            logger.notice(
                "spool mended", metadata: ["unfinished.removed": "\(unfinished)", "instances.found": "\(found)"])
        }
        return found
    }

    private func mend(_ study: UID, _ folder: String, _ progress: (_ read: Int) -> Void) async throws -> Int {
        let known = try await ledger.instancePaths(ofStudy: study)
        let unknown: [String]
        do { unknown = try tidy(folder, known) } catch {
            logger.error(
                "a folder of the spool cannot be mended: give it to the node's user, or look at the disk",
                metadata: ["path": "\(folder)", "error": "\(error)"])
            return 0
        }
        let now = clock.now()
        progress(0)
        for start in stride(from: 0, to: unknown.count, by: 256) {
            let batch = Array(unknown[start..<min(start + 256, unknown.count)])
            var records = try await decoder.describe(batch)
            // A worker that died over one file is no reason to forget another.
            records.merge(try await decoder.describe(batch.filter { records[$0] == nil })) { $1 }
            try await ledger.recordInstances(
                records.map { StoredInstance(record: $1, path: $0, receivedAt: now) })
            progress(start + batch.count)
        }
        return unknown.count
    }

    /// Removes what retention had marked.
    /// - Returns: what the ledger does not know.
    private func tidy(_ folder: String, _ known: [String: FileStanding]) throws -> [String] {
        var unknown: [String] = []
        for path in try spool.paths(in: folder) {
            switch known[path] {
            case .present: break
            case .purged(let receivedAt):
                do {
                    // Purged, sent again, and acknowledged before the ledger knew of it.
                    if try isNewer(path, than: receivedAt) {
                        unknown.append(path)
                    } else {
                        try FileManager.default.removeItem(atPath: path)
                    }
                } catch {
                    logger.error(
                        "a file of the spool cannot be mended: give it to the node's user, or look at the disk",
                        metadata: ["path": "\(path)", "error": "\(error)"])
                }
            case nil: unknown.append(path)
            }
        }
        // Does nothing to one that holds anything.
        rmdir(folder)
        return unknown
    }

    /// A file is written before it is recorded.
    private func isNewer(_ path: String, than moment: Date) throws -> Bool {
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        return (attributes[.modificationDate] as? Date).map { $0 > moment } ?? true
    }
}
