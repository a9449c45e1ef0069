/// Daemon → `ichnode infer`.
public enum InferRequest: Codable, Sendable {
    /// Load the model package in the folder; answered by `loaded` or `failed`.
    case load(modelDirectory: String, threads: Int)
    /// Followed by one bulk frame: float32 [count][size][size], HU. Answered by `encoded` with one bulk frame.
    case encode(count: Int, size: Int)
    /// Followed by two bulk frames: embeddings float32 [count][embedding], logits float32 [count][classes], slices feet
    /// → head. Answered by `scored`.
    case score(count: Int)
}

/// `ichnode infer` → daemon.
public enum InferEvent: Codable, Sendable {
    /// With the digest of the package as it was read: what the daemon judges by has to be the same.
    case loaded(embeddingSize: Int, classCount: Int, mapSize: Int, modelDigest: String)
    /// Followed by one bulk frame: for each plane embedding, logits, then lesion map [row][column], float32.
    case encoded(count: Int)
    case scored(StudyScores)
    case failed(reason: String)
}

/// What the sequence head says of a study; uncalibrated logits.
public struct StudyScores: Codable, Sendable, Equatable {
    /// [class], in the order of the model package.
    public var studyLogits: [Float]
    /// [slice], sums to 1.
    public var attention: [Float]
    /// [slice], logit of *any haemorrhage* in the slice.
    public var sliceLogits: [Float]
    public init(studyLogits: [Float], attention: [Float], sliceLogits: [Float]) {
        self.studyLogits = studyLogits
        self.attention = attention
        self.sliceLogits = sliceLogits
    }
}
