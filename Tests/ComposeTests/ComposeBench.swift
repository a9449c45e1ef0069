import Foundation
import Testing
import WorkerProtocol

/// A worker with a spool and an output folder of its own; removed when the value goes away.
final class ComposeBench {
    let root: URL
    let worker: WorkerProcess
    var spool: URL { root.appendingPathComponent("spool") }
    var output: URL { root.appendingPathComponent("output") }

    init() async throws {
        root = FileManager.default.temporaryDirectory.appendingPathComponent("compose-\(UUID().uuidString)")
        for folder in ["spool", "output"] {
            try FileManager.default.createDirectory(
                at: root.appendingPathComponent(folder), withIntermediateDirectories: true)
        }
        worker = try WorkerProcess(
            WorkerProgram(
                path: WorkerProgram.beside("ichnode-dicom"),
                arguments: [
                    "compose", "--spool", root.appendingPathComponent("spool").path, "--output",
                    root.appendingPathComponent("output").path,
                ]))
        try await worker.start()
    }

    deinit {
        worker.kill()
        try? FileManager.default.removeItem(at: root)
    }

    /// Of the worker so far, user and system time: proc(5), /proc/pid/stat, fields 14 and 15 after the name.
    var processorSeconds: Double {
        get throws {
            let stat = try String(contentsOfFile: "/proc/\(worker.processID)/stat", encoding: .utf8)
            let fields = stat[stat.index(after: try #require(stat.lastIndex(of: ")")))...].split(separator: " ")
            let ticks = try fields[11...12].map { try #require(Double($0)) }
            return (ticks[0] + ticks[1]) / Double(sysconf(Int32(_SC_CLK_TCK)))
        }
    }

    func compose(_ request: ComposeRequest, bulk: [Data] = []) async throws -> ComposeEvent {
        try await worker.send(request, bulk: bulk)
        for try await frame in worker.frames {
            guard case .message(let payload) = frame else { break }
            return try JSONDecoder().decode(ComposeEvent.self, from: payload)
        }
        throw WorkerError(.closed, "the worker ended")
    }

    /// - Returns: the paths, report first.
    func composed(_ request: ComposeRequest, bulk: [Data] = []) async throws -> [String] {
        switch try await compose(request, bulk: bulk) {
        case .composed(let objects, _): return objects.map(\.path)
        case .failed(let code, let reason): throw WorkerError(code, reason)
        }
    }

    func refusal(_ request: ComposeRequest, bulk: [Data] = []) async throws -> String? {
        if case .failed(_, let reason) = try await compose(request, bulk: bulk) { return reason }
        return nil
    }

    var outputNames: [String] {
        get throws { try FileManager.default.contentsOfDirectory(atPath: output.path).sorted() }
    }

    /// A request over the slices, written to the spool; the first `flagged` of them are flagged.
    func request(
        over slices: [SourceSlice] = SourceSlice.series(count: 4), flagged: Int = 0, presence: Presence = .present,
        reportClass: ReportClass = .enhanced, captures: Bool = false, keyObjects: Bool = false
    ) throws -> ComposeRequest {
        let paths = try slices.map { try $0.write(in: spool) }
        let report = ReportContent(
            fileName: "report.dcm", reportClass: reportClass, sopInstanceUID: SourceSlice.uid(20),
            seriesInstanceUID: SourceSlice.uid(21), contentDate: "20250102", contentTime: "030405.678901",
            timezoneOffset: "+0100", device: .example, algorithmName: "ICH CNN-BiLSTM", algorithmVersion: "1.2.3",
            algorithmParameters: "operating point = 0.50", presence: presence,
            studyProbability: presence == .undetermined ? nil : presence == .present ? 0.934 : 0.0123,
            studyTrackingUID: SourceSlice.uid(22), imageLibrary: slices.map(\.reference),
            flaggedSlices: slices.prefix(flagged).enumerated().map { index, slice in
                FlaggedSlice(
                    image: slice.reference, instanceNumber: slice.instanceNumber,
                    trackingUID: SourceSlice.uid(1000 + index), probability: 0.75, attention: 0.125)
            },
            comment: "AI triage output. Not for diagnostic use.")
        return ComposeRequest(
            identitySourcePath: paths[0], report: report,
            captures: captures
                ? zip(slices, paths).prefix(flagged).enumerated().map { .example($0, $1.0, path: $1.1) } : [],
            keyObjects: keyObjects ? .example(slices.prefix(flagged).map(\.reference)) : nil,
            outputDirectory: output.path)
    }
}

extension Device {
    static let example = Device(
        manufacturer: "ICHNode project", modelName: "ICH-Detector", serialNumber: "1", softwareVersion: "1.0",
        deviceUID: SourceSlice.uid(30), stationName: "ICHNODE")
}

extension CaptureContent {
    static func example(_ index: Int, _ slice: SourceSlice, path: String) -> CaptureContent {
        CaptureContent(
            fileName: "capture-\(index).dcm", sopInstanceUID: SourceSlice.uid(2000 + index),
            seriesInstanceUID: SourceSlice.uid(23), instanceNumber: slice.instanceNumber, rows: slice.rows,
            columns: slice.columns, sources: [CaptureSource(path: path, image: slice.reference)],
            contentDate: "20250102", contentTime: "030405", timezoneOffset: "", device: .example,
            derivationDescription: "AI class activation heatmap over source CT (W80 L40). Not for diagnostic use.",
            imageComments: "Not for diagnostic use.")
    }

    /// A summary of the same slices, in place of a heatmap over one.
    static func exampleSummary(of captures: [CaptureContent]) -> CaptureContent {
        var summary = captures[0]
        (summary.fileName, summary.kind) = ("summary.dcm", .summary)
        (summary.sopInstanceUID, summary.seriesInstanceUID) = (SourceSlice.uid(3000), SourceSlice.uid(24))
        (summary.rows, summary.columns, summary.instanceNumber) = (40, 60, 1)
        summary.sources = captures.flatMap(\.sources)
        return summary
    }

    /// Pixels of the right size, not all alike.
    var examplePixels: Data { Data((0..<rows * columns * 3).map { UInt8(truncatingIfNeeded: $0 * 7) }) }
}

extension KeyObjectContent {
    static func example(_ images: [ImageReference]) -> KeyObjectContent {
        KeyObjectContent(
            fileName: "key-objects.dcm", sopInstanceUID: SourceSlice.uid(40), seriesInstanceUID: SourceSlice.uid(41),
            contentDate: "20250102", contentTime: "030405", timezoneOffset: "+0100", device: .example,
            description: "Slices with suspected intracranial hemorrhage. Not for diagnostic use.", images: images)
    }
}
