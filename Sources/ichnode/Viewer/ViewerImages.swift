import AlertDispatcher
import Console
import Foundation
import ICHModel
import Ledger
import Logging
import ServiceLifecycle
import StoreSCP
import WorkerProtocol

/// The images of analysed series, decoded when somebody looks at them: by a worker of its own that steps back behind
/// the one of the analyses, is started when needed, and ends when nobody looks any more. One image at a time.
actor ViewerImages: StudyImages, Service {
    /// Requests that may wait; a browser asks for a few at a time.
    private static let mostWaiting = 32
    private static let idle: Duration = .seconds(60)
    /// For how long what the ledger says of a study's files is believed.
    private static let lookedUpFor: TimeInterval = 10
    private static let mostStudies = 8
    /// All decoded images that are kept: 128 of 512².
    private static let mostBytes = 64 << 20

    private let findings: FindingFiles
    private let ledger: any Ledger
    private let decoder: DecodeClient
    private let clock: WallClock
    private let logger: Logger
    private let turn = AsyncLock()
    private var waiting = 0
    private var usedAt = Date.distantPast
    private var isAwake = false
    private var studies: [Key: Looked] = [:]
    private var pictures = RecentlyUsed<Picture, Data>(mostBytes: ViewerImages.mostBytes)

    private struct Key: Hashable {
        let study: UID
        let finding: String
    }

    private struct Picture: Hashable {
        let key: Key
        let index: Int
    }

    /// A finding, and where its images are.
    private struct Looked {
        let record: FindingRecord
        /// nil: removed by retention, or not in the ledger.
        let locations: [FrameLocation?]
        let at: Date
    }

    init(findings: FindingFiles, ledger: any Ledger, program: WorkerProgram, clock: WallClock, logger: Logger) {
        self.findings = findings
        self.ledger = ledger
        self.clock = clock
        self.logger = logger
        decoder = DecodeClient(program: program, deadline: .seconds(30), logger: logger)
    }

    func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            while !Task.isCancelled {
                do {
                    try await clock.sleep(Self.idle / 4)
                    try await fallAsleep()
                } catch { return }
            }
        }
        await decoder.stop()
    }

    /// Of activations from 0 to 1, in 256 steps.
    nonisolated let shades: [HeatmapShade] = (0...255).map { step in
        guard let (colour, opacity) = HeatmapRenderer.shade(Float(step) / 255) else { return HeatmapShade() }
        func byte(_ share: Float) -> UInt8 { UInt8((share * 255).rounded()) }
        return HeatmapShade(
            red: byte(colour.red), green: byte(colour.green), blue: byte(colour.blue), opacity: byte(opacity))
    }

    func finding(_ name: String, ofStudy uid: UID) async throws -> FindingRecord? {
        do { return try findings.read(name, of: uid) } catch {
            logger.error("a kept finding cannot be read", metadata: ["study.uid": "\(uid)", "error": "\(error)"])
            throw ImageRefusal.undecodable("the kept finding cannot be read: see the node's log")
        }
    }

    func slice(_ index: Int, of name: String, study uid: UID, isGzipped: Bool) async throws -> ViewedSlice {
        guard waiting < Self.mostWaiting else { throw ImageRefusal.busy }
        waiting += 1
        defer { waiting -= 1 }
        let key = Key(study: uid, finding: name)
        let looked = try await look(key)
        guard looked.locations.indices.contains(index) else { throw ImageRefusal.unknown }
        guard let location = looked.locations[index] else { throw ImageRefusal.removed }
        let pixels = try await pixels(Picture(key: key, index: index), at: location, looked.record)
        let (rows, columns) = (looked.record.rows, looked.record.columns)
        if isGzipped, let small = Gzip.compress(pixels) {
            return ViewedSlice(rows: rows, columns: columns, pixels: small, isGzipped: true)
        }
        return ViewedSlice(rows: rows, columns: columns, pixels: pixels, isGzipped: false)
    }

    private func pixels(_ picture: Picture, at location: FrameLocation, _ record: FindingRecord) async throws -> Data {
        usedAt = clock.now()
        if let known = pictures[picture] { return known }
        return try await turn.inTurn {
            // Somebody else may have asked for it.
            if let known = pictures[picture] { return known }
            isAwake = true
            defer { usedAt = clock.now() }
            switch try await decoder.planes(of: [location])[location] {
            case .plane(let decoded):
                guard decoded.plane.rows == record.rows, decoded.plane.columns == record.columns else {
                    throw ImageRefusal.undecodable("the image has another size than when it was analysed")
                }
                let pixels = decoded.hounsfield.withUnsafeBytes { Data($0) }
                pictures[picture] = pixels
                return pixels
            case .failed(let reason): throw ImageRefusal.undecodable(reason)
            case nil: throw ImageRefusal.undecodable("the decoder did not answer")
            }
        }
    }

    /// Only what the ledger lists is opened, in the version that was analysed.
    private func look(_ key: Key) async throws -> Looked {
        let now = clock.now()
        studies = studies.filter { abs(now.timeIntervalSince($0.value.at)) < Self.lookedUpFor }
        if let known = studies[key] { return known }
        guard let record = try await finding(key.finding, ofStudy: key.study) else { throw ImageRefusal.unknown }
        let stored = Dictionary(
            try await ledger.instances(ofStudy: key.study).map {
                (StoredVersion(uid: $0.record.sopInstanceUID, version: $0.record.version), $0)
            }, uniquingKeysWith: { first, _ in first })
        let locations = record.images.map { image -> FrameLocation? in
            guard let file = stored[StoredVersion(uid: image.sopInstanceUID, version: image.version)], !file.isPurged
            else { return nil }
            return FrameLocation(path: file.path, number: image.frame)
        }
        let looked = Looked(record: record, locations: locations, at: now)
        if studies.count >= Self.mostStudies, let oldest = studies.min(by: { $0.value.at < $1.value.at }) {
            studies[oldest.key] = nil
        }
        studies[key] = looked
        return looked
    }

    private struct StoredVersion: Hashable {
        let uid: UID
        let version: Int
    }

    /// When nobody looks any more, pixels and worker go.
    private func fallAsleep() async throws {
        guard isAwake, waiting == 0, clock.now().timeIntervalSince(usedAt) >= Self.idle.inSeconds else { return }
        try await turn.inTurn {
            isAwake = false
            pictures.removeAll()
            await decoder.stop()
        }
    }
}

/// Keeps what was used last, up to so many bytes.
struct RecentlyUsed<Key: Hashable, Value: Collection> where Value.Element == UInt8 {
    private let mostBytes: Int
    private var entries: [Key: (value: Value, use: Int)] = [:]
    private var uses = 0
    private(set) var bytes = 0

    init(mostBytes: Int) { self.mostBytes = mostBytes }

    subscript(key: Key) -> Value? {
        mutating get {
            guard let value = entries[key]?.value else { return nil }
            uses += 1
            entries[key]?.use = uses
            return value
        }
        set {
            if let old = entries.removeValue(forKey: key) { bytes -= old.value.count }
            guard let newValue, newValue.count <= mostBytes else { return }
            uses += 1
            entries[key] = (newValue, uses)
            bytes += newValue.count
            while bytes > mostBytes, let oldest = entries.min(by: { $0.value.use < $1.value.use }) {
                entries[oldest.key] = nil
                bytes -= oldest.value.value.count
            }
        }
    }

    mutating func removeAll() {
        entries = [:]
        bytes = 0
    }
}
