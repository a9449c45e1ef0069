import Foundation
import ICHModel
import TestPrograms
import WorkerProtocol

/// A folder that goes away with the value.
final class TemporaryFolder {
    let path: String

    init() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("ichmodel-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        path = url.path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ text: String, to name: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/" + name))
    }
}

/// A package whose files are no networks: for all that happens around inference.
enum FakePackage {
    static let inputSize = 32
    static let mapSize = 4

    /// - Parameter change: applied to the manifest before it is written.
    static func write(to folder: TemporaryFolder, change: (inout [String: Any]) -> Void = { _ in }) throws {
        try folder.write("encoder", to: "encoder.onnx")
        try folder.write("head", to: "head.onnx")
        var manifest: [String: Any] = [
            "format": 1, "name": "fake", "version": "1", "created": "2026-01-01T00:00:00Z", "description": "no model",
            "classes": ["any", "epidural"], "input_size": inputSize, "slab_thickness_mm": 5.0, "box_threshold_hu": 250,
            "box_margin": 0.08, "windows": [], "embedding_size": 3, "map_size": mapSize,
            "encoder": ["file": "encoder.onnx", "sha256": SHA256Digest.hex(of: Data("encoder".utf8))],
            "head": ["file": "head.onnx", "sha256": SHA256Digest.hex(of: Data("head".utf8))],
            "calibration": ["study": ["a": 1.0, "b": 0.0], "slice": ["a": 2.0, "b": -1.0]],
            "thresholds": ["balanced": 0.5, "high-sensitivity": 0.3, "high-ppv": 0.7], "slice_threshold": 0.5,
            "heatmap_method": "class activation", "training": [String: Any](), "figures": [String: Any](),
        ]
        change(&manifest)
        let json = try JSONSerialization.data(withJSONObject: manifest, options: [.sortedKeys])
        try json.write(to: URL(fileURLWithPath: folder.path + "/model.json"))
    }

    static func load(change: (inout [String: Any]) -> Void = { _ in }) throws -> ModelPackage {
        let folder = try TemporaryFolder()
        try write(to: folder, change: change)
        return try ModelPackage(directory: folder.path)
    }
}

/// Answers with sums over the pixels, so that a single different pixel shows.
actor FakeEngine: InferenceEngine {
    private(set) var planeCount = 0
    private let offset: Float

    init(logitOffset offset: Float = 0) { self.offset = offset }

    func encode(planes: [Float], count: Int) async throws -> [EncodedPlane] {
        planeCount += count
        let length = planes.count / count
        return (0..<count).map { index in
            let plane = planes[(index * length)..<((index + 1) * length)]
            let sum = plane.reduce(0, +)
            let weighted = plane.enumerated().reduce(Float(0)) { $0 + Float($1.offset % 7) * $1.element }
            return EncodedPlane(
                embedding: [sum, weighted, plane.max() ?? 0], logits: [sum / Float(length) / 100, 0],
                lesionMap: (0..<16).map { Float($0) - 8 })
        }
    }

    func score(embeddings: [Float], logits: [Float], count: Int) async throws -> StudyScores {
        let any = (0..<count).map { logits[$0 * 2] }
        return StudyScores(
            studyLogits: [any.reduce(0, +) + offset, embeddings.reduce(0, +) / 1e6],
            attention: [Float](repeating: 1 / Float(count), count: count), sliceLogits: any.map { $0 + offset })
    }
}

/// A skull with brain in it, as a formula: ellipses that shrink towards both ends.
struct SyntheticHead {
    var rows = 96
    var columns = 80
    var pixelSpacing = 2.0
    var spacing = 5.0
    var count = 30
    /// mm along z of the first slice.
    var start = -120.0
    var brain: Int16 = 32
    var skull: Int16 = 900

    func plane(at index: Int) throws -> Plane {
        let middle = Double(count - 1) / 2
        let shrink = (1 - pow(Double(index) - middle, 2) / pow(middle + 2, 2)).squareRoot()
        let (half, outer) = (36.0 * shrink, 42.0 * shrink)
        var values = [Int16](repeating: -1024, count: rows * columns)
        for row in 0..<rows {
            for column in 0..<columns {
                let (x, y) = ((Double(column) - 40) / 0.85, Double(row) - 48)
                let radius = (x * x + y * y).squareRoot()
                if radius < half {
                    values[row * columns + column] = brain + Int16((row * 7 + column * 13 + index * 29) % 9) - 4
                } else if radius < outer {
                    values[row * columns + column] = skull
                }
            }
        }
        return try Plane(rows: rows, columns: columns, values: values)
    }

    func record(at index: Int, series: String = "1.2.3") throws -> InstanceRecord {
        var record = Records.make(series: series, index: index)
        record.image.rows = rows
        record.image.columns = columns
        record.image.pixelSpacing = [pixelSpacing, pixelSpacing]
        record.image.position = [0, 0, start + Double(index) * spacing]
        record.image.sliceThickness = spacing
        record.image.spacingBetweenSlices = spacing
        return record
    }

    func slices() throws -> [(StudySlice, Plane)] {
        try (0..<count).map { (try StudySlice(record(at: $0), contentDigest: "d\($0)"), try plane(at: $0)) }
    }

    func encoder(_ package: ModelPackage, _ engine: any InferenceEngine) throws -> StudyEncoder {
        let planes = Dictionary(uniqueKeysWithValues: try slices().map { ($0.sopInstanceUID, $1) })
        return StudyEncoder(package: package, engine: engine) { uids in
            Dictionary(uniqueKeysWithValues: uids.compactMap { uid in planes[uid].map { (uid, $0) } })
        }
    }
}

/// Header values as a scanner sends them.
enum Records {
    static func uid(_ text: String) -> UID {
        guard let uid = UID(text) else { preconditionFailure("not a UID: \(text)") }
        return uid
    }

    /// An axial CT image of a head, 5 mm, 512².
    static func make(
        series: String = "1.2.3", index: Int = 0, sopClass: String = "1.2.840.10008.5.1.4.1.1.2",
        change: (inout InstanceRecord) -> Void = { _ in }
    ) -> InstanceRecord {
        var record = InstanceRecord(
            sopClassUID: uid(sopClass), sopInstanceUID: uid("\(series).\(index + 1)"), studyInstanceUID: uid("1.2"),
            seriesInstanceUID: uid(series), transferSyntaxUID: uid("1.2.840.10008.1.2.1"))
        record.series.modality = "CT"
        record.series.manufacturer = "GE MEDICAL SYSTEMS"
        record.series.convolutionKernel = "STANDARD"
        record.series.bodyPartExamined = "HEAD"
        record.image.imageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        record.image.position = [-125, -125, Double(index) * 5]
        record.image.orientation = [1, 0, 0, 0, 1, 0]
        record.image.pixelSpacing = [0.488, 0.488]
        record.image.rows = 512
        record.image.columns = 512
        record.image.sliceThickness = 5
        record.image.samplesPerPixel = 1
        record.image.photometricInterpretation = "MONOCHROME2"
        record.image.hasPixelData = true
        change(&record)
        return record
    }

    static func series(_ uid: String = "1.2.3", count: Int = 28, change: (inout InstanceRecord) -> Void = { _ in })
        -> [InstanceRecord]
    {
        (0..<count).map { make(series: uid, index: $0, change: change) }
    }
}

/// Where the repository and its build products are.
enum Places {
    static let repository = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static var shippedModel: String? {
        let models = repository.appendingPathComponent("Models")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: models.path)) ?? []
        return names.sorted().map { models.appendingPathComponent($0).path }
            .first { FileManager.default.fileExists(atPath: $0 + "/model.json") }
    }
    static var reference: String { repository.appendingPathComponent("Training/reference/phantom.json").path }

    /// The `ichnode` beside the test's own executable, where it knows the subcommand `infer`.
    static let executable: String? = {
        let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        let candidate = own.appendingPathComponent("ichnode").path
        guard FileManager.default.isExecutableFile(atPath: candidate) else { return nil }
        let help = try? TestProgram.run(candidate, ["infer", "--help"])
        return help?.output.contains("--model") == true ? candidate : nil
    }()
}
