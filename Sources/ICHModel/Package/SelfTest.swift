internal import Foundation
internal import WorkerProtocol

/// What a model says of `SelfTestPhantom`: stored in `model.json` by the training side, found anew by `run`.
public struct SelfTest: Codable, Sendable, Equatable {
    /// Which phantom, in words.
    public let formula: String
    /// [class], uncalibrated.
    public let studyLogits: [Double]
    /// [slab], feet → head, uncalibrated.
    public let sliceLogits: [Double]
    /// Of *any haemorrhage*, calibrated.
    public let studyProbability: Double
    /// [slab], calibrated.
    public let sliceProbabilities: [Double]

    enum CodingKeys: String, CodingKey {
        case formula
        case studyLogits = "study_logits"
        case sliceLogits = "slice_logits"
        case studyProbability = "study_probability"
        case sliceProbabilities = "slice_probabilities"
    }

    /// What two runtimes on two processors may differ by.
    public static let logitTolerance = 1e-2
    public static let probabilityTolerance = 1e-3

    public init(
        formula: String, studyLogits: [Double], sliceLogits: [Double], studyProbability: Double,
        sliceProbabilities: [Double]
    ) {
        self.formula = formula
        self.studyLogits = studyLogits
        self.sliceLogits = sliceLogits
        self.studyProbability = studyProbability
        self.sliceProbabilities = sliceProbabilities
    }

    /// The phantom through everything that a study goes through: slabs, crop, encoder, sequence head, calibration.
    /// - Throws: what the engine throws; `ModelError` with code `inference` where the phantom gives no finding.
    public static func run(_ package: ModelPackage, _ engine: any InferenceEngine) async throws -> SelfTest {
        let recorder = ScoreRecorder(engine)
        let encoder = StudyEncoder(package: package, engine: recorder) { _ in [:] }
        for (slice, plane) in try SelfTestPhantom.slices() { try await encoder.add(slice, plane: plane) }
        let threshold = ModelPackage.Threshold(name: "self-test", value: 0.5)
        guard case .finding(let finding) = try await encoder.finish(threshold: threshold),
            let scores = await recorder.scores
        else { throw ModelError(.inference, "the phantom gives no finding: this build of the node is broken") }
        return SelfTest(
            formula: SelfTestPhantom.formula, studyLogits: scores.studyLogits.map(Double.init),
            sliceLogits: finding.slices.map(\.logit), studyProbability: finding.probability,
            sliceProbabilities: finding.slices.map(\.probability))
    }

    /// What `found` differs in from this, beyond the tolerances; empty where they agree.
    public func differences(from found: SelfTest) -> [String] {
        guard Self.words(formula) == Self.words(found.formula) else {
            return ["self-test is of another phantom than this node makes: use the node that the package is made for"]
        }
        return [
            Self.difference("study logits", studyLogits, found.studyLogits, Self.logitTolerance),
            Self.difference("slice logits", sliceLogits, found.sliceLogits, Self.logitTolerance),
            Self.difference(
                "study probability", [studyProbability], [found.studyProbability], Self.probabilityTolerance),
            Self.difference(
                "slice probabilities", sliceProbabilities, found.sliceProbabilities, Self.probabilityTolerance),
        ].compactMap { $0 }
    }

    private static func words(_ text: String) -> [Substring] { text.split(whereSeparator: \.isWhitespace) }

    private static func difference(_ what: String, _ wanted: [Double], _ found: [Double], _ tolerance: Double)
        -> String?
    {
        guard wanted.count == found.count else {
            return "self-test has \(found.count) \(what) where the package says \(wanted.count)"
        }
        let differences = zip(wanted, found).map { abs($0 - $1) }
        // Asked this way round, so that NaN differs.
        guard !differences.allSatisfy({ $0 <= tolerance }) else { return nil }
        let largest = differences.first(where: \.isNaN) ?? differences.max() ?? 0
        return String(format: "self-test differs by %.4g in %@, at most %g is allowed", largest, what, tolerance)
    }
}

/// Passes calls on and keeps the study's scores, which a finding holds only calibrated.
private actor ScoreRecorder: InferenceEngine {
    private let engine: any InferenceEngine
    private(set) var scores: StudyScores?

    init(_ engine: any InferenceEngine) { self.engine = engine }

    func encode(planes: [Float], count: Int) async throws -> [EncodedPlane] {
        try await engine.encode(planes: planes, count: count)
    }

    func score(embeddings: [Float], logits: [Float], count: Int) async throws -> StudyScores {
        let scores = try await engine.score(embeddings: embeddings, logits: logits, count: count)
        self.scores = scores
        return scores
    }
}
