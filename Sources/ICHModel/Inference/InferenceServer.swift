internal import Foundation
public import WorkerProtocol

/// What `ichnode infer` does: holds the model of one package and answers `InferRequest`s on its channel.
public enum InferenceServer {
    public static let verb = "infer"

    /// Arguments of the executable that start this server: `infer --model DIR --threads N`.
    public static func arguments(modelDirectory: String, threads: Int) -> [String] {
        [verb, "--model", modelDirectory, "--threads", String(threads)]
    }

    /// Confines this process, then serves until the daemon's end of the channel closes. To be called before other
    /// threads exist.
    ///
    /// OpenVINO loads its plug-ins and compiles the model after the confinement holds: all that it needs are the
    /// folders below, and memory that is writable, then executable, which no part of the confinement forbids.
    /// Ends the process with exit code 70 where the daemon breaks the protocol.
    /// - Throws: `WorkerError` where the confinement fails.
    public static func run(modelDirectory: String, threads: Int) throws {
        let folder = URL(fileURLWithPath: modelDirectory).standardizedFileURL.path
        let channel = try WorkerSide.begin(verb: verb, confinement: confinement(modelDirectory: folder))
        // The process ends with its channel, so that what went wrong has to be said before that is gone.
        withExtendedLifetime(channel) {
            do { try serve(channel, folder) } catch { WorkerSide.fail(verb, error) }
        }
    }

    private static func serve(_ channel: Channel, _ folder: String) throws {
        var engine: OpenVINOEngine?
        while let (request, _) = try channel.receive(InferRequest.self) {
            switch request {
            case .load(let directory, let threads):
                try answer(on: channel) { try load(directory, threads: threads, allowed: folder, into: &engine) }
            case .encode(let count, let size):
                let planes = try channel.receiveBulk()
                try answer(on: channel) { try encode(planes, count: count, size: size, with: engine) }
            case .score(let count):
                let (embeddings, logits) = (try channel.receiveBulk(), try channel.receiveBulk())
                try answer(on: channel) { try score(embeddings, logits, count: count, with: engine) }
            }
        }
    }

    /// Threads of one inference where nobody says otherwise. Receiving and decoding go before: the process is nice.
    public static let defaultThreads = 2

    // MARK: Answers

    private typealias Answer = (event: InferEvent, bulk: Data?)

    private static func load(
        _ directory: String, threads: Int, allowed folder: String, into engine: inout OpenVINOEngine?
    ) throws -> Answer {
        guard URL(fileURLWithPath: directory).standardizedFileURL.path == folder else {
            throw ModelError(.package, "this process may read no other model package than its own")
        }
        let package = try ModelPackage(directory: folder)
        engine = nil
        engine = try OpenVINOEngine(package: package, threads: threads)
        let event = InferEvent.loaded(
            embeddingSize: package.embeddingSize, classCount: package.classes.count, mapSize: package.mapSize,
            modelDigest: package.modelDigest)
        return (event, nil)
    }

    private static func encode(_ planes: Data, count: Int, size: Int, with engine: OpenVINOEngine?) throws -> Answer {
        let engine = try ready(engine)
        guard size == engine.sizes.input else {
            throw ModelError(.inference, "planes of \(size)×\(size) where the model takes \(engine.sizes.input)")
        }
        let values = try engine.encodeNow(try Floats.values(planes), count: count)
        return (.encoded(count: count), Floats.bytes(values))
    }

    private static func score(
        _ embeddings: Data, _ logits: Data, count: Int, with engine: OpenVINOEngine?
    ) throws -> Answer {
        let scores = try ready(engine).scoreNow(
            embeddings: try Floats.values(embeddings), logits: try Floats.values(logits), count: count)
        return (.scored(scores), nil)
    }

    private static func ready(_ engine: OpenVINOEngine?) throws -> OpenVINOEngine {
        guard let engine else { throw ModelError(.inference, "no model is loaded") }
        return engine
    }

    /// A request that cannot be answered is the daemon's to hear about, and no reason to end.
    private static func answer(on channel: Channel, _ body: () throws -> Answer) throws {
        let answer: Answer
        do { answer = try body() } catch let error as ModelError {
            return try channel.send(InferEvent.failed(reason: error.reason))
        }
        try channel.send(answer.event)
        if let bulk = answer.bulk { try channel.send(.bulk(bulk)) }
    }

    /// What it may read beside the model.
    public static var libraries: [String] {
        ["/usr", "/lib", "/lib64", "/etc/ld.so.cache"] + OpenVINOEngine.libraryFolders()
    }
    /// OpenVINO and its thread pool read the processor's topology.
    public static let machine = [
        "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system", "/sys/fs/cgroup", "/dev/urandom",
    ]

    public static func confinement(modelDirectory: String) -> Confinement {
        Confinement(
            addressSpaceBytes: 16 << 30, fileSizeBytes: 1 << 20, cpuSeconds: 0, descriptors: 256,
            paths: ([modelDirectory] + libraries + machine).map { .init($0, .read) } + [.init("/dev/null", .write)],
            allowsNetwork: false, niceness: 10)
    }
}

/// float32 in the byte order of this machine, which both ends of the channel share.
enum Floats {
    static func bytes(_ values: [Float]) -> Data { values.withUnsafeBufferPointer { Data(buffer: $0) } }

    static func values(_ bytes: Data) throws -> [Float] {
        let stride = MemoryLayout<Float>.stride
        guard bytes.count % stride == 0 else {
            throw ModelError(.inference, "\(bytes.count) bytes are no float32 values")
        }
        return [Float](unsafeUninitializedCapacity: bytes.count / stride) { buffer, count in
            count = bytes.copyBytes(to: buffer) / stride
        }
    }
}
