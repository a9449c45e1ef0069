public import WorkerProtocol

/// What the encoder says of one plane; uncalibrated.
public struct EncodedPlane: Sendable, Equatable {
    /// [embedding]
    public var embedding: [Float]
    /// [class], in the order of the model package.
    public var logits: [Float]
    /// [row][column] of the study box, logits.
    public var lesionMap: [Float]

    public init(embedding: [Float], logits: [Float], lesionMap: [Float]) {
        self.embedding = embedding
        self.logits = logits
        self.lesionMap = lesionMap
    }
}

/// Runs the two networks of a model package. Implementations take calls from any task and run one at a time.
public protocol InferenceEngine: Sendable {
    /// - Parameter planes: [plane][row][column], HU, `count` planes of the package's input size.
    /// - Returns: one for each plane, in order; all numbers finite.
    func encode(planes: [Float], count: Int) async throws -> [EncodedPlane]

    /// - Parameters:
    ///   - embeddings: [slice][embedding], slices feet → head.
    ///   - logits: [slice][class].
    func score(embeddings: [Float], logits: [Float], count: Int) async throws -> StudyScores
}

/// Sizes that the answers of a model package have.
struct ModelSizes: Sendable, Equatable {
    /// Planes that one encoder call may hold: 64 planes of 192² are 9 MiB.
    static let mostPlanes = 64
    /// Slices of one study.
    static let mostSlices = 2048

    let input: Int
    let embedding: Int
    let classes: Int
    let map: Int

    init(_ package: ModelPackage) {
        input = package.inputSize
        embedding = package.embeddingSize
        classes = package.classes.count
        map = package.mapSize
    }

    var floatsPerPlane: Int { embedding + classes + map * map }

    func checkEncode(_ planes: [Float], count: Int) throws {
        guard (1...Self.mostPlanes).contains(count), planes.count == count * input * input else {
            throw ModelError(.inference, "\(planes.count) values are no \(count) planes of \(input)×\(input)")
        }
    }

    func checkScore(embeddings: [Float], logits: [Float], count: Int) throws {
        guard (1...Self.mostSlices).contains(count), embeddings.count == count * embedding,
            logits.count == count * classes
        else { throw ModelError(.inference, "embeddings or logits do not fit \(count) slices") }
    }

    /// Splits [plane][embedding, logits, lesion map].
    func split(_ values: [Float], count: Int) throws -> [EncodedPlane] {
        guard values.count == count * floatsPerPlane else {
            throw ModelError(.inference, "the encoder answered \(values.count) values for \(count) planes")
        }
        try Self.checkFinite(values, "the encoder")
        return (0..<count).map { index in
            let start = index * floatsPerPlane
            let logits = start + embedding
            let map = logits + classes
            return EncodedPlane(
                embedding: Array(values[start..<logits]), logits: Array(values[logits..<map]),
                lesionMap: Array(values[map..<(start + floatsPerPlane)]))
        }
    }

    func check(_ scores: StudyScores, count: Int) throws {
        guard scores.studyLogits.count == classes, scores.attention.count == count, scores.sliceLogits.count == count
        else {
            throw ModelError(.inference, "the sequence head answered with other shapes than the package says")
        }
        try Self.checkFinite(scores.studyLogits + scores.attention + scores.sliceLogits, "the sequence head")
    }

    static func checkFinite(_ values: [Float], _ who: String) throws {
        guard values.allSatisfy(\.isFinite) else {
            throw ModelError(.notFinite, "\(who) answered with a number that is not finite")
        }
    }
}
