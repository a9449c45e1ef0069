import AlertDispatcher
import Foundation
import Ledger
import Logging
import TestPrograms
import Testing
import WorkerProtocol

/// What becomes of a report whose workers end without an answer, or cannot do it.
@Suite final class ComposerTests: Sendable {
    private let root = FileManager.default.temporaryDirectory.appendingPathComponent("composer-\(UUID().uuidString)")
    private var spool: URL { root.appendingPathComponent("spool") }
    private var results: URL { root.appendingPathComponent("results") }

    init() throws { try FileManager.default.createDirectory(at: spool, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(at: root) }

    /// One kill costs nothing; a second of the same form the pictures, then the slices and what names them.
    @Test(arguments: [(0, 4), (1, 4), (2, 2), (3, 2), (4, 1), (5, 1)])
    func onlyWhatEndsTwoWorkersIsLeftOut(ended: Int, objects: Int) async throws {
        let composed = try await composer(ending: ended, afterHello: true).compose(try report(), route: route)
        #expect(composed.objects.count == objects)
        #expect(composed.objects.allSatisfy { FileManager.default.fileExists(atPath: $0.path) })
        #expect(try starts == ended + 1)
    }

    @Test func whatEndsEveryWorkerIsThrown() async throws {
        let composer = try composer(ending: 100, afterHello: true)
        await #expect(throws: WorkerError(.closed, "")) { try await composer.compose(try report(), route: route) }
        #expect(try starts == 6)
    }

    @Test func aWorkerThatDoesNotBeginLeavesNothingOut() async throws {
        let composer = try composer(ending: 1, afterHello: false)
        await #expect(throws: WorkerError(.start, "")) { try await composer.compose(try report(), route: route) }
        #expect(try starts == 1)
        #expect(try await composer.compose(try report(), route: route).objects.count == 4)
    }

    /// A worker that says so of the request costs the pictures; of the disk, nothing.
    @Test func whereTheDiskIsAtFaultNothingIsLeftOut() async throws {
        let composer = try composer(ending: 1, afterHello: true, saying: .failed(code: .system, reason: "disk full"))
        await #expect(throws: WorkerError(.system, "")) { try await composer.compose(try report(), route: route) }
        #expect(try starts == 1)
        #expect(try await composer.compose(try report(), route: route).objects.count == 4)
    }

    @Test func whatIsRefusedIsComposedWithoutItsPictures() async throws {
        let composer = try composer(ending: 1, afterHello: true, saying: .failed(code: .failed, reason: "a picture"))
        #expect(try await composer.compose(try report(), route: route).objects.count == 2)
        #expect(try starts == 2)
    }

    private let route = Route(name: "default", destinations: [], summary: false, keyObjects: true)

    private var starts: Int {
        get throws { try Data(contentsOf: root.appendingPathComponent("starts")).count }
    }

    /// - Parameters:
    ///   - count: so many workers end before they compose.
    ///   - answer: of these, which then wait to be told to end.
    private func composer(
        ending count: Int, afterHello: Bool, saying answer: ComposeEvent? = nil
    ) throws -> ReportComposer {
        var said = try afterHello ? workerFrame(Hello(verb: "compose", confinement: .init())) : Data()
        if let answer { said += try workerFrame(answer) }
        try said.write(to: root.appendingPathComponent("said"))
        let ending = answer == nil ? "exit 1" : "exec cat <&3 >/dev/null"
        let script = """
            cd "$0" && printf x >> starts
            if [ "$(wc -c < starts)" -le \(count) ]; then cat said >&3; \(ending); fi
            exec "$@"
            """
        let folders = ["--spool", spool.path, "--output", results.path]
        let worker = [WorkerProgram.beside("ichnode-dicom"), "compose"] + folders
        return ReportComposer(
            program: WorkerProgram(path: "/bin/sh", arguments: ["-c", script, root.path] + worker), results: results,
            installation: "1", stationName: "ICHNODE", softwareVersion: "1",
            algorithm: .init(name: "m", version: "1", digest: "d"), hasAlternatives: false,
            logger: Logger(label: "test"))
    }

    /// A positive study of four slices, two of them flagged.
    private func report() throws -> StudyReport {
        let images = try SourceSlice.series(count: 4).map { slice in
            var record = InstanceRecord(
                sopClassUID: SourceSlice.sopClassUID, sopInstanceUID: slice.sopUID, studyInstanceUID: slice.studyUID,
                seriesInstanceUID: slice.seriesUID, transferSyntaxUID: UID(literal: "1.2.840.10008.1.2.1"))
            record.image.instanceNumber = slice.instanceNumber
            return StoredInstance(record: record, path: try slice.write(in: spool), receivedAt: Date())
        }
        let flagged = images.prefix(2).map { image in
            StudyReport.Flagged(
                instance: image, probability: 0.9, attention: 0.5,
                slice: HeatmapSlice(
                    rows: 128, columns: 128, hounsfield: [Int16](repeating: 40, count: 128 * 128),
                    activation: [Float](repeating: 0.5, count: 128 * 128), probability: 0.9, instanceNumber: 1))
        }
        return StudyReport(
            studyInstanceUID: SourceSlice.uid(0), revisionDigest: "r", presence: .present, reason: "",
            studyProbability: 0.9, thresholdName: "balanced", threshold: 0.5, images: images, flagged: flagged,
            seriesText: "", completionText: "", startedAt: Date())
    }
}
