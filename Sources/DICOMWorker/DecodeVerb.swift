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

    @Option(help: "How far it steps back behind others (setpriority(2)).")
    var niceness = Self.defaultNiceness

    @OptionGroup var options: WorkerOptions

    static let defaultNiceness = 5

    static func confinement(spool: String, niceness: Int) -> Confinement {
        Confinement(
            addressSpaceBytes: 8 << 30, fileSizeBytes: 1 << 20, cpuSeconds: 0,
            paths: [.init(spool, .read), .init("/dev/null", .write)], niceness: Int32(niceness))
    }

    func run() throws {
        Worker.run(
            "decode", options, confinement: Self.confinement(spool: spool, niceness: niceness),
            prepare: { try Library.prepare(needsDictionary: true, decodesPixels: true) },
            serve: { channel in
                let answer = DecodeAnswer(channel: channel, spool: spool)
                while let (request, _) = try channel.receive(DecodeRequest.self) { try answer.serve(request) }
            })
    }
}

/// Answers requests, one after the other.
final class DecodeAnswer {
    private let channel: Channel
    private let spool: String
    /// The file that was decoded last, where it has several frames: the next ones will be asked of it.
    private var open: (path: String, stamp: StoredFile.Stamp, digest: String, image: ImageDecoder)?

    init(channel: Channel, spool: String) {
        self.channel = channel
        self.spool = spool
    }

    func serve(_ request: DecodeRequest) throws {
        switch request {
        case .describe(let paths):
            for path in paths {
                try answer(FrameLocation(path: path)) {
                    let record = try StoredFile(path: path, below: spool).record()
                    try channel.send(DecodeEvent.described(path: path, record))
                }
            }
        case .decode(let frames):
            guard frames.count <= DecodeRequest.mostFrames else {
                throw WorkerError(.protocolViolation, "more than \(DecodeRequest.mostFrames) frames")
            }
            for frame in frames { try answer(frame) { try decode(frame) } }
        }
        try channel.send(DecodeEvent.done)
    }

    /// What fails on account of the file is said; what fails on account of the channel ends the worker.
    private func answer(_ asked: FrameLocation, _ body: () throws -> Void) throws {
        do { try body() } catch let error as WorkerError where error.code == .failed {
            try channel.send(DecodeEvent.failed(path: asked.path, frame: asked.number, reason: error.reason))
        }
    }

    private func decode(_ asked: FrameLocation) throws {
        let (image, digest) = try image(asked.path)
        var frames = 0..<image.frames
        if let number = asked.number {
            guard number >= 1, number <= image.frames else { throw WorkerError(.failed, "no such frame") }
            frames = number - 1..<number
        }
        var planes = Data(count: image.rows * image.columns * MemoryLayout<Int16>.size)
        // A frame is decoded before it is announced; where a later one fails, `failed` follows the planes before it.
        for frame in frames {
            try planes.withUnsafeMutableBytes { bytes in
                try image.decode(frame: frame, into: bytes.bindMemory(to: Int16.self))
            }
            try channel.send(
                DecodeEvent.plane(
                    DecodedPlane(
                        path: asked.path, frame: frame, frameCount: image.frames, rows: image.rows,
                        columns: image.columns,
                        dataSetDigest: digest)))
            try channel.send(.bulk(planes))
        }
    }

    /// Checked, hashed and opened once for the frames that are asked for one after the other.
    private func image(_ path: String) throws -> (ImageDecoder, digest: String) {
        let file = try StoredFile(path: path, below: spool)
        if let open, open.path == path, open.stamp == file.stamp { return (open.image, open.digest) }
        open = nil
        let digest = try file.checkBeforeDecoding()
        let image = try ImageDecoder(path: path)
        if image.frames > 1 { open = (path, file.stamp, digest, image) }
        return (image, digest)
    }
}
