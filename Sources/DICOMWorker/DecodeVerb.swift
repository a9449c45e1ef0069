internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

/// `ichnode-dicom decode`: headers and Hounsfield units of stored files, until the daemon closes the channel.
struct Decode: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "decode", abstract: "Read headers and pixels of stored objects.")

    @Option(help: "The folder of stored objects; read only.")
    var spool: String

    @OptionGroup var options: WorkerOptions

    func run() throws {
        let confinement = Confinement(
            addressSpaceBytes: 8 << 30, fileSizeBytes: 1 << 20, cpuSeconds: 0,
            paths: [.init(spool, .read), .init("/dev/null", .write)], niceness: 5)
        Worker.run(
            "decode", options, confinement: confinement,
            prepare: { try Library.prepare(needsDictionary: true, decodesPixels: true) },
            serve: { channel in
                while let (request, _) = try channel.receive(DecodeRequest.self) {
                    try DecodeAnswer(channel: channel, spool: spool).serve(request)
                }
            })
    }
}

/// Answers one request.
struct DecodeAnswer {
    let channel: Channel
    let spool: String

    func serve(_ request: DecodeRequest) throws {
        switch request {
        case .describe(let paths):
            for path in paths {
                try answer(path) {
                    let record = try StoredFile(path: path, below: spool).record()
                    try channel.send(DecodeEvent.described(path: path, record))
                }
            }
        case .decode(let paths):
            guard paths.count <= DecodeRequest.mostPaths else {
                throw WorkerError(.protocolViolation, "more than \(DecodeRequest.mostPaths) paths")
            }
            for path in paths { try answer(path) { try decode(path) } }
        }
        try channel.send(DecodeEvent.done)
    }

    /// What fails on account of the file is said; what fails on account of the channel ends the worker.
    private func answer(_ path: String, _ body: () throws -> Void) throws {
        do { try body() } catch let error as WorkerError where error.code == .failed {
            try channel.send(DecodeEvent.failed(path: path, reason: error.reason))
        }
    }

    private func decode(_ path: String) throws {
        let digest = try StoredFile(path: path, below: spool).checkBeforeDecoding()
        let image = try ImageDecoder(path: path)
        var planes = Data(count: image.rows * image.columns * MemoryLayout<Int16>.size)
        // A frame is decoded before it is announced; where a later one fails, `failed` follows the planes before it.
        for frame in 0..<image.frames {
            try planes.withUnsafeMutableBytes { bytes in
                try image.decode(frame: frame, into: bytes.bindMemory(to: Int16.self))
            }
            try channel.send(
                DecodeEvent.plane(
                    DecodedPlane(
                        path: path, frame: frame, frameCount: image.frames, rows: image.rows, columns: image.columns,
                        dataSetDigest: digest)))
            try channel.send(.bulk(planes))
        }
    }
}
