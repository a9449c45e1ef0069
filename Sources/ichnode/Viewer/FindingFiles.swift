import CLinux
import Foundation
import ICHModel
import Ledger
import Logging
import Metrics
import StoreSCP
import WorkerProtocol

#if canImport(Glibc)
import Glibc
#endif

/// Findings as they are kept to be looked at: `<results>/<Study UID>/finding-<name>.json`.
struct FindingFiles: Sendable {
    private let results: URL
    private let logger: Logger
    private let failures = Counter(label: "ichnode_findings_not_kept_total")

    init(results: URL, logger: Logger) {
        self.results = results
        self.logger = logger
    }

    /// Durable when this returns. What fails is logged and counted: no result waits for it.
    /// - Parameter record: nil where none could be made.
    func keep(_ record: FindingRecord?, of study: UID, as name: String) async {
        do {
            guard let record else { throw WorkerError(.failed, "an image of it is not known") }
            try write(record, of: study, as: name)
        } catch {
            failures.increment()
            logger.error(
                "a finding cannot be kept: its images cannot be looked at with it",
                metadata: ["study.uid": "\(study)", "error": "\(error)"])
        }
    }

    /// - Parameter name: hexadecimal; of another there is none.
    /// - Returns: nil where none was kept.
    /// - Throws: `WorkerError` where it cannot be read, or is none.
    func read(_ name: String, of study: UID) throws -> FindingRecord? {
        guard name.utf8.allSatisfy({ Self.hexadecimal.contains($0) }) else { return nil }
        let descriptor = clinux_open_read(path(name, study))
        if descriptor < 0 && errno == ENOENT { return nil }
        guard descriptor >= 0 else { throw WorkerError(.system, "open: \(Errno.text)") }
        let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        let bytes = try file.read(upToCount: FindingRecord.mostBytes + 1) ?? Data()
        guard bytes.count <= FindingRecord.mostBytes else { throw WorkerError(.failed, "too long for a finding") }
        let record: FindingRecord
        do { record = try JSONDecoder().decode(FindingRecord.self, from: bytes) } catch {
            throw WorkerError(.failed, "the file is no finding")
        }
        if let flaw = record.flaw { throw WorkerError(.failed, "the file is no finding: \(flaw)") }
        return record
    }

    private static let hexadecimal = Set("0123456789abcdef".utf8)

    private func path(_ name: String, _ study: UID) -> String {
        results.appendingPathComponent(study.string).appendingPathComponent("finding-\(name).json").path
    }

    private func write(_ record: FindingRecord, of study: UID, as name: String) throws {
        if let flaw = record.flaw { throw WorkerError(.failed, flaw) }
        let bytes = try JSONEncoder().encode(record)
        guard bytes.count <= FindingRecord.mostBytes else {
            throw WorkerError(.failed, "more than \(FindingRecord.mostBytes) bytes")
        }
        let path = path(name, study)
        let folder = results.appendingPathComponent(study.string)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        // What stands there was never recorded.
        unlink(path + ".part")
        let descriptor = clinux_create(path + ".part")
        guard descriptor >= 0 else { throw WorkerError(.system, "create: \(Errno.text)") }
        let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        try file.write(contentsOf: bytes)
        try file.synchronize()
        guard rename(path + ".part", path) == 0 else { throw WorkerError(.system, "rename: \(Errno.text)") }
        for name in [folder.path, results.path] { try DurableFolder.sync(name) }
    }
}

extension FindingRecord {
    /// - Returns: nil where an image of the finding is not known.
    init?(_ finding: Finding, _ known: [UID: StoredInstance]) {
        var images: [Image] = []
        var slices: [Slice] = []
        for slice in finding.slices {
            guard let middle = slice.instances.firstIndex(of: slice.representative) else { return nil }
            slices.append(
                Slice(
                    imageCount: slice.instances.count, representative: images.count + middle,
                    positionMillimetres: slice.positionMillimetres, probability: slice.probability,
                    attention: slice.attention, isFlagged: slice.isFlagged,
                    map: slice.lesionMap.map(Self.fixedPoint)))
            for uid in slice.instances {
                guard let record = known[uid]?.record, let image = Image(record) else { return nil }
                images.append(image)
            }
        }
        guard let first = finding.slices.first?.instances.first, let shown = known[first]?.record else { return nil }
        self.init(
            seriesInstanceUID: shown.seriesInstanceUID, images: images, slices: slices,
            probability: finding.probability, threshold: finding.threshold.value,
            thresholdName: finding.threshold.name, isPositive: finding.isPositive,
            sliceThreshold: finding.sliceThreshold, rows: finding.rows, columns: finding.columns,
            pixelSpacing: shown.image.pixelSpacing, orientation: shown.image.orientation,
            box: Box(x: finding.box.x, y: finding.box.y, size: finding.box.size), mapSize: finding.mapSize)
    }

    private static func fixedPoint(_ map: [Float]) -> Data {
        var bytes = Data(capacity: map.count * 2)
        for value in map {
            let fixed = UInt16((max(0, min(1, value)) * 65535).rounded())
            bytes.append(UInt8(truncatingIfNeeded: fixed))
            bytes.append(UInt8(fixed >> 8))
        }
        return bytes
    }
}

extension FindingRecord.Image {
    /// nil: without a position.
    fileprivate init?(_ record: InstanceRecord) {
        let geometry: SliceGeometry
        do { geometry = try SliceGeometry(record.image) } catch { return nil }
        self.init(
            sopInstanceUID: record.storedSOPInstanceUID, frame: record.frame?.number, version: record.version,
            instanceNumber: record.image.instanceNumber, positionMillimetres: geometry.positionMillimetres)
    }
}
