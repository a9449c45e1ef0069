import Foundation
import Testing

@testable import ICHModel

@Suite struct ModelPackageTests {
    private func reason(_ change: (inout [String: Any]) -> Void) -> String {
        do {
            _ = try FakePackage.load(change: change)
            return "loaded"
        } catch let error as ModelError {
            #expect(error.code == .package)
            return error.reason
        } catch {
            return "\(error)"
        }
    }

    @Test func loadsAWholePackage() throws {
        let package = try FakePackage.load()
        #expect(package.anyClass == 0)
        #expect(package.thresholds.map(\.name) == ["balanced", "high-ppv", "high-sensitivity"])
        #expect(try package.threshold(named: "high-ppv").value == 0.7)
        #expect(package.modelDigest.count == 64)
        #expect(abs(package.sliceCalibration.probability(logit: 0.5) - 0.5) < 1e-12)
    }

    @Test func digestNamesTheModel() throws {
        let first = try FakePackage.load()
        #expect(try FakePackage.load().modelDigest == first.modelDigest)
        #expect(try FakePackage.load { $0["slice_threshold"] = 0.4 }.modelDigest != first.modelDigest)
    }

    @Test(arguments: [
        "format", "name", "classes", "input_size", "slab_thickness_mm", "box_threshold_hu", "box_margin",
        "embedding_size",
        "map_size", "encoder", "head", "calibration", "thresholds", "slice_threshold", "heatmap_method",
    ]) func namesTheMissingKey(key: String) {
        #expect(reason { $0[key] = nil }.contains("lacks \"\(key)\""))
    }

    @Test func refusesWhatItCannotUse() {
        #expect(reason { $0["format"] = 2 }.contains("format 2 where this node reads 1"))
        #expect(reason { ($0["format"], $0["classes"], $0["name"]) = (2, nil, nil) }.contains("format 2"))
        #expect(reason { $0["classes"] = ["epidural"] }.contains("any"))
        #expect(reason { $0["box_margin"] = "wide" }.contains("box_margin"))
        #expect(reason { $0["encoder"] = ["file": "../encoder.onnx", "sha256": ""] }.contains("plain file name"))
        #expect(
            reason { $0["thresholds"] = ["balanced": 0.5, "high-ppv": 1.5, "high-sensitivity": 0.1] }.contains(
                "high-ppv"))
        #expect(reason { $0["thresholds"] = ["balanced": 0.5] }.contains("high-sensitivity"))
        #expect(reason { $0["slice_threshold"] = -0.1 }.contains("slice_threshold"))
        #expect(
            reason { $0["calibration"] = ["study": ["a": 0, "b": 0], "slice": ["a": 1, "b": 0]] }.contains(
                "calibration.study"))
    }

    @Test func refusesAFileThatIsNotTheOneNamed() throws {
        let folder = try TemporaryFolder()
        try FakePackage.write(to: folder)
        try folder.write("encoder, but changed", to: "encoder.onnx")
        let error = #expect(throws: ModelError.self) { try ModelPackage(directory: folder.path) }
        #expect(error?.reason.contains("SHA-256 differs") == true)
        try FileManager.default.removeItem(atPath: folder.path + "/encoder.onnx")
        #expect(throws: ModelError(.package, "")) { try ModelPackage(directory: folder.path) }
    }

    @Test func refusesAFolderWithoutManifestAndWhatIsNoJSON() throws {
        let folder = try TemporaryFolder()
        #expect(throws: ModelError(.package, "")) { try ModelPackage(directory: folder.path) }
        try folder.write("{", to: "model.json")
        let error = #expect(throws: ModelError.self) { try ModelPackage(directory: folder.path) }
        #expect(error?.reason.contains("not JSON") == true)
    }

    @Test func unknownThresholdNamesTheKnownOnes() throws {
        let package = try FakePackage.load()
        let error = #expect(throws: ModelError.self) { try package.threshold(named: "best") }
        #expect(error?.reason.contains("balanced, high-ppv, high-sensitivity") == true)
    }
}
