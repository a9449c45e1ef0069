internal import COpenVINO
internal import Dispatch
internal import Foundation
public import WorkerProtocol

/// The two networks in this process, on the CPU. For the inference child; the daemon uses `InferenceChild`.
///
/// `@unchecked Sendable` is safe because the models are only used on `queue`, which is serial.
public final class OpenVINOEngine: InferenceEngine, @unchecked Sendable {
    private let encoder: Network
    private let head: Network
    let sizes: ModelSizes
    private let queue = DispatchQueue(label: "inference")

    /// - Parameter threads: at most this many for one inference.
    /// - Throws: `ModelError`: `package` where a network's inputs or outputs are not what the package says,
    ///   `inference`.
    public init(package: ModelPackage, threads: Int) throws {
        sizes = ModelSizes(package)
        let (side, map, width) = (Int64(sizes.input), Int64(sizes.map), Int64(sizes.embedding))
        let classes = Int64(sizes.classes)
        let encoder = Result {
            try Network(
                path: package.encoderPath, threads: threads, inputs: [.init("hounsfield", [-1, 1, side, side])],
                outputs: [
                    .init("embedding", [-1, width]), .init("logits", [-1, classes]),
                    .init("lesion_map", [-1, map, map]),
                ])
        }
        let head = Result {
            try Network(
                path: package.headPath, threads: threads,
                inputs: [.init("embedding", [1, -1, width]), .init("logits", [1, -1, classes])],
                outputs: [
                    .init("study_logits", [1, classes]), .init("attention", [1, -1]), .init("slice_logits", [1, -1]),
                ])
        }
        if case .failure(let first as ModelError) = encoder, case .failure(let second as ModelError) = head {
            throw ModelError(first.code, "\(first.reason); \(second.reason)")
        }
        self.encoder = try encoder.get()
        self.head = try head.get()
    }

    public func encode(planes: [Float], count: Int) async throws -> [EncodedPlane] {
        let values = try await onQueue { [self] in try encodeNow(planes, count: count) }
        return try sizes.split(values, count: count)
    }

    public func score(embeddings: [Float], logits: [Float], count: Int) async throws -> StudyScores {
        try await onQueue { [self] in try scoreNow(embeddings: embeddings, logits: logits, count: count) }
    }

    /// Blocks. Not to be called while an async call runs.
    /// - Returns: [plane][embedding, logits, lesion map]
    func encodeNow(_ planes: [Float], count: Int) throws -> [Float] {
        try sizes.checkEncode(planes, count: count)
        let side = Int64(sizes.input)
        let room = [sizes.embedding, sizes.classes, sizes.map * sizes.map].map { $0 * count }
        let answers = try encoder.run([(planes, [Int64(count), 1, side, side])], room: room)
        for answer in answers { try ModelSizes.checkFinite(answer, "the encoder") }
        var values: [Float] = []
        values.reserveCapacity(count * sizes.floatsPerPlane)
        for plane in 0..<count {
            for (answer, total) in zip(answers, room) {
                let length = total / count
                values += answer[(plane * length)..<((plane + 1) * length)]
            }
        }
        return values
    }

    /// Blocks. Not to be called while an async call runs.
    func scoreNow(embeddings: [Float], logits: [Float], count: Int) throws -> StudyScores {
        try sizes.checkScore(embeddings: embeddings, logits: logits, count: count)
        let answers = try head.run(
            [
                (embeddings, [1, Int64(count), Int64(sizes.embedding)]),
                (logits, [1, Int64(count), Int64(sizes.classes)]),
            ], room: [sizes.classes, count, count])
        let scores = StudyScores(studyLogits: answers[0], attention: answers[1], sliceLogits: answers[2])
        try sizes.check(scores, count: count)
        return scores
    }

    private func onQueue<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result { try body() }) }
        }
    }

    /// The folder that OpenVINO's libraries are loaded from: as the linker found it, and with links resolved.
    static func libraryFolders() -> [String] {
        var bytes = [CChar](repeating: 0, count: 4096)
        guard copenvino_library_folder(&bytes, bytes.count) == 0 else { return [] }
        let found = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let library = URL(fileURLWithPath: found).appendingPathComponent("libopenvino_c.so").resolvingSymlinksInPath()
        return Array(Set([found, library.deletingLastPathComponent().path])).sorted()
    }
}

/// Owns a `copenvino_model *`.
private final class Network {
    struct Port {
        let name: String
        /// -1 where the length is free.
        let shape: [Int64]

        init(_ name: String, _ shape: [Int64]) {
            self.name = name
            self.shape = shape
        }
    }

    private let handle: OpaquePointer
    private let inputOrder: [Int]
    private let outputOrder: [Int]

    init(path: String, threads: Int, inputs: [Port], outputs: [Port]) throws {
        var error = [CChar](repeating: 0, count: 1024)
        guard let handle = copenvino_model_load(path, Int32(threads), &error, error.count) else {
            throw ModelError(.inference, "\(path): \(Self.text(error))")
        }
        do {
            let found = Self.ports(
                count: copenvino_model_input_count(handle), name: { copenvino_model_input_name(handle, $0) },
                shape: { copenvino_model_input_shape(handle, $0, $1) })
            inputOrder = try Self.match(found, inputs, "inputs", path)
            let answers = Self.ports(
                count: copenvino_model_output_count(handle), name: { copenvino_model_output_name(handle, $0) },
                shape: { copenvino_model_output_shape(handle, $0, $1) })
            outputOrder = try Self.match(answers, outputs, "outputs", path)
        } catch {
            copenvino_model_free(handle)
            throw error
        }
        self.handle = handle
    }

    deinit { copenvino_model_free(handle) }

    /// - Parameters:
    ///   - inputs: values and shape for each port, in the order given to the initialiser.
    ///   - room: exact number of elements expected of each output, in the order given to the initialiser.
    func run(_ inputs: [(values: [Float], shape: [Int64])], room: [Int]) throws -> [[Float]] {
        let values = inputs.map { input in
            let copy = UnsafeMutableBufferPointer<Float>.allocate(capacity: input.values.count)
            _ = copy.initialize(from: input.values)
            return copy
        }
        let answers = room.map { UnsafeMutableBufferPointer<Float>.allocate(capacity: $0) }
        for answer in answers { answer.initialize(repeating: .nan) }
        defer { for buffer in values + answers { buffer.deallocate() } }
        var inputTensors = [copenvino_tensor](repeating: .init(), count: inputs.count)
        var outputTensors = [copenvino_tensor](repeating: .init(), count: room.count)
        for (port, place) in inputOrder.enumerated() {
            inputTensors[place] = Self.tensor(values[port], shape: inputs[port].shape)
        }
        for (port, place) in outputOrder.enumerated() { outputTensors[place] = Self.tensor(answers[port], shape: []) }
        var error = [CChar](repeating: 0, count: 1024)
        let result = copenvino_model_run(
            handle, inputTensors, inputTensors.count, &outputTensors, outputTensors.count, &error, error.count)
        guard result == 0 else { throw ModelError(.inference, Self.text(error)) }
        for (port, place) in outputOrder.enumerated() where outputTensors[place].elements != room[port] {
            throw ModelError(
                .inference, "the model answered \(outputTensors[place].elements) values, not \(room[port])")
        }
        return answers.map(Array.init)
    }

    private static func tensor(_ values: UnsafeMutableBufferPointer<Float>, shape: [Int64]) -> copenvino_tensor {
        var tensor = copenvino_tensor()
        tensor.values = values.baseAddress
        tensor.elements = values.count
        tensor.rank = shape.count
        withUnsafeMutableBytes(of: &tensor.dimensions) { bytes in
            let dimensions = bytes.bindMemory(to: Int64.self)
            for (axis, length) in shape.enumerated() { dimensions[axis] = length }
        }
        return tensor
    }

    private static func ports(
        count: Int, name: (Int) -> UnsafePointer<CChar>?, shape: (Int, UnsafeMutablePointer<Int64>) -> Int32
    ) -> [Port] {
        (0..<count).map { index in
            var lengths = [Int64](repeating: 0, count: COPENVINO_MOST_DIMENSIONS)
            let rank = max(0, Int(shape(index, &lengths)))
            return Port(name(index).map { String(cString: $0) } ?? "", Array(lengths.prefix(rank)))
        }
    }

    /// Where in the model each wanted port is.
    private static func match(_ found: [Port], _ wanted: [Port], _ what: String, _ path: String) throws -> [Int] {
        guard found.count == wanted.count else {
            throw ModelError(
                .package, "\(path) has \(found.count) \(what), not \(wanted.count): install another package")
        }
        var faults: [String] = []
        let places = wanted.map { port in
            guard let place = found.firstIndex(where: { $0.name == port.name }) else {
                faults.append("has no \(port.name) among its \(what)")
                return 0
            }
            let shape = found[place].shape
            let fits =
                shape.count == port.shape.count
                && zip(shape, port.shape).allSatisfy { $0 == -1 || $1 == -1 || $0 == $1 }
            if !fits { faults.append("\(port.name) is \(shape), model.json says \(port.shape)") }
            return place
        }
        guard faults.isEmpty else {
            throw ModelError(.package, "\(path): \(faults.joined(separator: ", ")): install another package")
        }
        return places
    }

    private static func text(_ error: [CChar]) -> String {
        String(decoding: error.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
