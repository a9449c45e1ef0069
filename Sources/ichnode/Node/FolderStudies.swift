import Foundation
import ICHModel
import Ledger
import Logging
import StoreSCP
import WorkerProtocol

/// The studies in a folder of DICOM files, and the children that read and analyse them, without a network and without
/// a ledger. `stop()` when done.
struct FolderStudies {
    struct Study {
        let assembled: AssembledStudy
        /// For reading the headers of its files.
        let readingSeconds: Double
    }

    let folder: URL
    let package: ModelPackage
    let decoder: DecodeClient
    let engine: InferenceChild
    private let logger: Logger

    init(folder: URL, package: ModelPackage, logger: Logger) {
        self.folder = folder
        self.package = package
        self.logger = logger
        // Nothing is composed with these programs.
        let programs = WorkerPrograms(spool: folder, results: folder)
        decoder = DecodeClient(program: programs.decode, logger: logger)
        engine = InferenceChild(package: package, executable: WorkerProgram.beside("ichnode"), logger: logger)
    }

    /// Does the work, then ends the children, whatever came of it.
    func whileRunning<R>(_ body: () async throws -> R) async throws -> R {
        let result: Result<R, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        await engine.stop()
        await decoder.stop()
        return try result.get()
    }

    /// Reads the headers of all files below the folder.
    /// - Returns: by Study Instance UID; a study with gaps is incomplete.
    /// - Throws: where there is no DICOM file.
    func read() async throws -> [Study] {
        let paths = try files()
        Terminal.complain("reading \(paths.count) files…")
        let now = Date()
        var instances: [StoredInstance] = []
        var seconds: [UID: Double] = [:]
        for path in paths {
            let started = ContinuousClock.now
            guard let record = try await decoder.describe([path])[path] else { continue }
            instances.append(StoredInstance(record: record, path: path, receivedAt: now))
            seconds[record.studyInstanceUID, default: 0] += (ContinuousClock.now - started) / .seconds(1)
        }
        guard !instances.isEmpty else {
            throw CommandFailure(.failed, "no DICOM file below \(folder.path): name a folder that holds a study")
        }
        if instances.count < paths.count {
            Terminal.complain("\(paths.count - instances.count) files are not DICOM, left out")
        }
        return Dictionary(grouping: instances, by: \.record.studyInstanceUID).sorted { $0.key < $1.key }.map {
            uid, all in
            let evidence = HeaderEvidence().find(all)
            let missing = evidence.missing
            let study = AssembledStudy(
                studyInstanceUID: uid, instances: all, origin: StudyOrigin(),
                decision: missing.isEmpty ? .complete(.forced) : .incomplete(.forced, reasons: missing),
                lastArrival: now, decidedSeries: evidence.seriesInstanceUID)
            return Study(assembled: study, readingSeconds: seconds[uid] ?? 0)
        }
    }

    private func files() throws -> [String] {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder), isFolder.boolValue,
            let enumerator = FileManager.default.enumerator(atPath: folder.path)
        else { throw CommandFailure(.failed, "\(folder.path) is no folder that can be read") }
        return enumerator.compactMap { $0 as? String }.map { folder.appendingPathComponent($0).path }.filter {
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: $0, isDirectory: &isFolder) && !isFolder.boolValue
        }.sorted()
    }

    /// For one study.
    func analyzer() -> StudyAnalyzer {
        StudyAnalyzer(
            tools: .init(package: package, engine: engine, decoder: decoder, clock: .system, logger: logger))
    }
}
