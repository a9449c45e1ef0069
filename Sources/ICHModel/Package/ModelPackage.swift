internal import Foundation
internal import WorkerProtocol

/// A model package: a folder with `model.json`, the slice encoder and the sequence head.
///
/// Loading checks the manifest and the SHA-256 of both files; a value of this type is a package that was whole when
/// read.
public struct ModelPackage: Sendable {
    /// One file of the package and what its bytes have to hash to.
    public struct File: Codable, Sendable, Equatable {
        /// Name inside the package folder.
        public let file: String
        /// Lower-case hexadecimal.
        public let sha256: String
    }

    /// Platt scaling: probability = sigmoid(a · logit + b).
    public struct Calibration: Codable, Sendable, Equatable {
        public let a: Double
        public let b: Double

        public init(a: Double, b: Double) {
            self.a = a
            self.b = b
        }

        public func probability(logit: Double) -> Double { 1 / (1 + exp(-(a * logit + b))) }
    }

    /// A window of Hounsfield values that the encoder's graph applies.
    public struct Window: Codable, Sendable, Equatable {
        /// Middle and width, HU.
        public let level: Double
        public let width: Double
    }

    /// An operating point: study probability from which a study counts as positive.
    public struct Threshold: Codable, Sendable, Equatable {
        public let name: String
        public let value: Double

        public init(name: String, value: Double) {
            self.name = name
            self.value = value
        }
    }

    public static let manifestName = "model.json"
    /// The manifest format this node reads.
    public static let format = 1

    /// Absolute path of the package folder.
    public let directory: String
    public let name: String
    public let version: String
    public let created: String
    public let description: String
    /// Names of the classes, in the order of all logits; one of them is `any`.
    public let classes: [String]
    /// Rows and columns of the encoder's input.
    public let inputSize: Int
    public let slabThicknessMillimetres: Double
    /// HU above which a voxel counts as bone for the head crop.
    public let boxThreshold: Int
    /// Share of the head's extent added to the crop's side.
    public let boxMargin: Double
    public let embeddingSize: Int
    /// Rows and columns of a lesion map.
    public let mapSize: Int
    public let encoder: File
    public let head: File
    public let studyCalibration: Calibration
    public let sliceCalibration: Calibration
    public let thresholds: [Threshold]
    /// Slice probability from which a slice of a positive study is flagged.
    public let sliceThreshold: Double
    public let heatmapMethod: String
    /// For people: the graph has them inside.
    public let windows: [Window]
    /// What it was trained on and how well it did, as the training side wrote it.
    public let training: JSONValue?
    public let figures: JSONValue?
    /// nil where the package has none.
    public let selfTest: SelfTest?
    /// SHA-256 over the digests of manifest, encoder and head: names this very model in derived UIDs. Lower-case
    /// hexadecimal.
    public let modelDigest: String

    /// Index of *any haemorrhage* in `classes`.
    public let anyClass: Int

    public var encoderPath: String { directory + "/" + encoder.file }
    public var headPath: String { directory + "/" + head.file }

    /// Reads and checks the package in a folder.
    /// - Throws: `ModelError` with code `package` that says what is wrong and what to do.
    public init(directory: String) throws {
        let folder = URL(fileURLWithPath: directory).standardizedFileURL.path
        let (manifest, bytes) = try Self.manifest(in: folder)
        self.directory = folder
        name = manifest.name
        version = manifest.version
        created = manifest.created
        description = manifest.description
        classes = manifest.classes
        inputSize = manifest.inputSize
        slabThicknessMillimetres = manifest.slabThickness
        boxThreshold = manifest.boxThreshold
        boxMargin = manifest.boxMargin
        embeddingSize = manifest.embeddingSize
        mapSize = manifest.mapSize
        encoder = manifest.encoder
        head = manifest.head
        studyCalibration = manifest.calibration.study
        sliceCalibration = manifest.calibration.slice
        thresholds = manifest.thresholds.sorted { $0.key < $1.key }.map { Threshold(name: $0.key, value: $0.value) }
        sliceThreshold = manifest.sliceThreshold
        heatmapMethod = manifest.heatmapMethod
        windows = manifest.windows ?? []
        training = manifest.training
        figures = manifest.figures
        selfTest = manifest.selfTest
        anyClass = manifest.classes.firstIndex(of: "any") ?? 0
        for file in [manifest.encoder, manifest.head] { try Self.check(file, in: folder) }
        let digests = [SHA256Digest.hex(of: bytes), manifest.encoder.sha256, manifest.head.sha256]
        modelDigest = SHA256Digest.hex(of: digests)
    }

    /// - Throws: `ModelError` with code `package` where the package has no threshold of that name.
    public func threshold(named name: String) throws -> Threshold {
        guard let threshold = thresholds.first(where: { $0.name == name }) else {
            let known = thresholds.map(\.name).joined(separator: ", ")
            throw ModelError(
                .package, "model \(self.name) has no threshold \"\(name)\": choose one of \(known), or a number")
        }
        return threshold
    }

    /// Everything that is wrong with the files of a folder; empty where `init(directory:)` accepts it.
    public static func faults(inDirectory directory: String) -> [ModelError] {
        let folder = URL(fileURLWithPath: directory).standardizedFileURL.path
        var faults: [ModelError] = []
        func note(_ body: () throws -> Void) {
            do { try body() } catch let error as ModelError { faults.append(error) } catch {
                faults.append(ModelError(.package, "\(error)"))
            }
        }
        note {
            let manifest = try Self.manifest(in: folder).manifest
            for file in [manifest.encoder, manifest.head] { note { try Self.check(file, in: folder) } }
        }
        return faults
    }

    private static func manifest(in folder: String) throws -> (manifest: Manifest, bytes: Data) {
        let path = folder + "/" + Self.manifestName
        let bytes: Data
        do { bytes = try Data(contentsOf: URL(fileURLWithPath: path)) } catch {
            throw ModelError(.package, "cannot read \(path): install a model package in that folder")
        }
        let manifest = try Manifest(json: bytes)
        try manifest.validate()
        return (manifest, bytes)
    }

    private static func check(_ file: File, in folder: String) throws {
        let digest: String
        do { digest = try SHA256Digest.hex(ofFile: folder + "/" + file.file) } catch {
            throw ModelError(.package, "cannot read \(folder)/\(file.file): install the model package again")
        }
        guard digest == file.sha256.lowercased() else {
            throw ModelError(
                .package,
                "\(folder)/\(file.file) is not the file that model.json names (SHA-256 differs): "
                    + "install the model package again")
        }
    }
}

/// `model.json` as it stands.
private struct Manifest: Decodable {
    struct Calibrations: Decodable {
        let study: ModelPackage.Calibration
        let slice: ModelPackage.Calibration
    }

    private struct Format: Decodable { let format: Int }

    let format: Int
    let name: String
    let version: String
    let created: String
    let description: String
    let classes: [String]
    let inputSize: Int
    let slabThickness: Double
    let boxThreshold: Int
    let boxMargin: Double
    let embeddingSize: Int
    let mapSize: Int
    let encoder: ModelPackage.File
    let head: ModelPackage.File
    let calibration: Calibrations
    let thresholds: [String: Double]
    let sliceThreshold: Double
    let heatmapMethod: String
    let windows: [ModelPackage.Window]?
    let training: JSONValue?
    let figures: JSONValue?
    let selfTest: SelfTest?

    enum CodingKeys: String, CodingKey {
        case format, name, version, created, description, classes, encoder, head, calibration, thresholds
        case windows, training, figures
        case selfTest = "self_test"
        case inputSize = "input_size"
        case slabThickness = "slab_thickness_mm"
        case boxThreshold = "box_threshold_hu"
        case boxMargin = "box_margin"
        case embeddingSize = "embedding_size"
        case mapSize = "map_size"
        case sliceThreshold = "slice_threshold"
        case heatmapMethod = "heatmap_method"
    }

    static let requiredThresholds = ["balanced", "high-sensitivity", "high-ppv"]

    init(json: Data) throws {
        // Before anything else: another format may lack what this one requires.
        if let other = try? JSONDecoder().decode(Format.self, from: json).format, other != ModelPackage.format {
            throw ModelError(
                .package,
                "model.json: format \(other) where this node reads \(ModelPackage.format): install a package made for "
                    + "this version of the node")
        }
        do { self = try JSONDecoder().decode(Manifest.self, from: json) } catch let error as DecodingError {
            throw ModelError(
                .package, "model.json \(Self.phrase(error)): install a package made for this version of the node")
        }
    }

    private static func phrase(_ error: DecodingError) -> String {
        func place(_ path: [any CodingKey]) -> String { path.map(\.stringValue).joined(separator: ".") }
        switch error {
        case .keyNotFound(let key, let context): return "lacks \"\(place(context.codingPath + [key]))\""
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return "has another type of value at \"\(place(context.codingPath))\""
        case .dataCorrupted(let context) where !context.codingPath.isEmpty:
            return "has a bad value at \"\(place(context.codingPath))\""
        default: return "is not JSON"
        }
    }

    func validate() throws {
        func require(_ condition: Bool, _ what: String) throws {
            guard condition else {
                throw ModelError(.package, "model.json: \(what): correct it or install another package")
            }
        }
        try require(!name.isEmpty && !version.isEmpty, "name or version is empty")
        try require((1...64).contains(classes.count) && Set(classes).count == classes.count, "classes must be distinct")
        try require(classes.contains("any"), "classes lacks \"any\"")
        try require((16...1024).contains(inputSize), "input_size must be 16 to 1024")
        try require(
            slabThickness.isFinite && slabThickness > 0 && slabThickness <= 20, "slab_thickness_mm must be in (0, 20]")
        try require((-1024...3071).contains(boxThreshold), "box_threshold_hu must be -1024 to 3071")
        try require(boxMargin.isFinite && (0...1).contains(boxMargin), "box_margin must be 0 to 1")
        try require((1...65536).contains(embeddingSize), "embedding_size must be 1 to 65536")
        try require((1...1024).contains(mapSize), "map_size must be 1 to 1024")
        for file in [encoder, head] {
            try require(
                !file.file.isEmpty && !file.file.contains("/") && !file.file.hasPrefix("."),
                "\"\(file.file)\" is not a plain file name")
        }
        for (level, scale) in [("study", calibration.study), ("slice", calibration.slice)] {
            try require(scale.a.isFinite && scale.b.isFinite && scale.a > 0, "calibration.\(level).a must be positive")
        }
        for name in Self.requiredThresholds { try require(thresholds[name] != nil, "thresholds lacks \"\(name)\"") }
        for (name, value) in thresholds {
            try require(value.isFinite && (0...1).contains(value), "threshold \"\(name)\" must be 0 to 1")
        }
        try require(sliceThreshold.isFinite && (0...1).contains(sliceThreshold), "slice_threshold must be 0 to 1")
        if let selfTest {
            try require(
                selfTest.studyLogits.count == classes.count, "self_test.study_logits has no logit for each class")
            try require(
                selfTest.sliceLogits.count == selfTest.sliceProbabilities.count,
                "self_test has another number of slice_logits than of slice_probabilities")
        }
    }
}
