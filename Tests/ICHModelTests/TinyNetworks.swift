import Foundation
import WorkerProtocol

@testable import ICHModel

/// Networks of one layer, written as ONNX by hand, so that faults can be put into them.
struct TinyNetworks {
    var side = FakePackage.inputSize
    var map = FakePackage.mapSize
    var embedding = 3
    var classes = 2
    /// Stored in half precision and cast in the graph, as small packages do.
    var halfPrecision = false
    /// Of every weight of the encoder's logits.
    var logitWeight: Float = 1e-4
    /// The head answers two logits for each slice.
    var doublesSliceLogits = false

    /// A package with these networks.
    func write(to folder: TemporaryFolder, change: (inout [String: Any]) -> Void = { _ in }) throws {
        let files = [("encoder", encoder), ("head", head)]
        for (name, bytes) in files { try bytes.write(to: URL(fileURLWithPath: "\(folder.path)/\(name).bin")) }
        try FakePackage.write(to: folder) { manifest in
            manifest["embedding_size"] = embedding
            for (name, bytes) in files {
                manifest[name] = ["file": "\(name).bin", "sha256": SHA256Digest.hex(of: bytes)]
            }
            change(&manifest)
        }
    }

    func package(change: (inout [String: Any]) -> Void = { _ in }) throws -> (TemporaryFolder, ModelPackage) {
        let folder = try TemporaryFolder()
        try write(to: folder, change: change)
        return (folder, try ModelPackage(directory: folder.path))
    }

    // MARK: Graphs

    private var encoder: Data {
        let pixels = side * side
        var graph = Graph()
        graph.node("Flatten", ["hounsfield"], "flat", [("axis", .int(1))])
        for (name, width, weight) in [("embedding", embedding, 1e-5), ("logits", classes, logitWeight)] {
            graph.weights("w_\(name)", pixels, width, weight, halfPrecision)
            graph.node("MatMul", ["flat", "w_\(name)"], name)
        }
        graph.weights("w_map", pixels, map * map, 1e-4, halfPrecision)
        graph.node("MatMul", ["flat", "w_map"], "map")
        graph.integers("map_shape", [-1, Int64(map), Int64(map)])
        graph.node("Reshape", ["map", "map_shape"], "lesion_map")
        return graph.model(
            inputs: [("hounsfield", [nil, 1, side, side])],
            outputs: [("embedding", [nil, embedding]), ("logits", [nil, classes]), ("lesion_map", [nil, map, map])])
    }

    private var head: Data {
        var graph = Graph()
        graph.integer("first", 0)
        graph.node("Gather", ["logits", "first"], "any", [("axis", .int(2))])
        graph.node("ReduceMean", ["embedding"], "mean", [("axes", .ints([2])), ("keepdims", .int(0))])
        let sum = doublesSliceLogits ? "single" : "slice_logits"
        graph.node("Add", ["any", "mean"], sum)
        graph.node("Softmax", [sum], "attention", [("axis", .int(1))])
        graph.node("ReduceMean", ["logits"], "study_logits", [("axes", .ints([1])), ("keepdims", .int(0))])
        if doublesSliceLogits { graph.node("Concat", [sum, sum], "slice_logits", [("axis", .int(1))]) }
        return graph.model(
            inputs: [("embedding", [1, nil, embedding]), ("logits", [1, nil, classes])],
            outputs: [("study_logits", [1, classes]), ("attention", [1, nil]), ("slice_logits", [1, nil])])
    }
}

/// An ONNX graph as protocol buffers (onnx.proto, opset 13).
private struct Graph {
    enum Attribute { case int(Int64), ints([Int64]) }

    private var nodes = Data()
    private var initializers = Data()

    mutating func node(_ type: String, _ inputs: [String], _ output: String, _ attributes: [(String, Attribute)] = []) {
        var node = Data()
        for input in inputs { node.field(1, Data(input.utf8)) }
        node.field(2, Data(output.utf8))
        node.field(4, Data(type.utf8))
        for (name, value) in attributes {
            var attribute = Data()
            attribute.field(1, Data(name.utf8))
            switch value {
            case .int(let int):
                attribute.field(3, int)
                attribute.field(20, 2)
            case .ints(let ints):
                for int in ints { attribute.field(8, int) }
                attribute.field(20, 7)
            }
            node.field(5, attribute)
        }
        nodes.field(1, node)
    }

    /// A matrix whose columns differ.
    mutating func weights(_ name: String, _ rows: Int, _ columns: Int, _ scale: Float, _ isHalf: Bool) {
        let values = (0..<(rows * columns)).map { scale * Float($0 % columns % 5 + 1) }
        guard isHalf else { return tensor(name, 1, [rows, columns], values.withUnsafeBytes { Data($0) }) }
        tensor(name + "_half", 10, [rows, columns], values.map { Float16($0).bitPattern }.withUnsafeBytes { Data($0) })
        node("Cast", [name + "_half"], name, [("to", .int(1))])
    }

    mutating func integers(_ name: String, _ values: [Int64]) {
        tensor(name, 7, [values.count], values.withUnsafeBytes { Data($0) })
    }

    mutating func integer(_ name: String, _ value: Int64) {
        tensor(name, 7, [], withUnsafeBytes(of: value) { Data($0) })
    }

    private mutating func tensor(_ name: String, _ type: Int64, _ lengths: [Int], _ bytes: Data) {
        var tensor = Data()
        for length in lengths { tensor.field(1, Int64(length)) }
        tensor.field(2, type)
        tensor.field(8, Data(name.utf8))
        tensor.field(9, bytes)
        initializers.field(5, tensor)
    }

    func model(inputs: [(String, [Int?])], outputs: [(String, [Int?])]) -> Data {
        var graph = nodes
        graph.field(2, Data("tiny".utf8))
        graph += initializers
        for port in inputs { graph.field(11, Self.port(port)) }
        for port in outputs { graph.field(12, Self.port(port)) }
        var version = Data()
        version.field(1, Data())
        version.field(2, 13)
        var model = Data()
        model.field(1, 8)
        model.field(7, graph)
        model.field(8, version)
        return model
    }

    private static func port(_ port: (name: String, lengths: [Int?])) -> Data {
        var shape = Data()
        for (axis, length) in port.lengths.enumerated() {
            var dimension = Data()
            if let length { dimension.field(1, Int64(length)) } else { dimension.field(2, Data("n\(axis)".utf8)) }
            shape.field(1, dimension)
        }
        var tensor = Data()
        tensor.field(1, 1)
        tensor.field(2, shape)
        var (type, info) = (Data(), Data())
        type.field(1, tensor)
        info.field(1, Data(port.name.utf8))
        info.field(2, type)
        return info
    }
}

extension Data {
    /// A length-delimited field.
    fileprivate mutating func field(_ number: UInt64, _ bytes: Data) {
        varint(number << 3 | 2)
        varint(UInt64(bytes.count))
        append(bytes)
    }

    /// An integer field.
    fileprivate mutating func field(_ number: UInt64, _ value: Int64) {
        varint(number << 3)
        varint(UInt64(bitPattern: value))
    }

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest > 0x7F {
            append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        append(UInt8(rest))
    }
}
