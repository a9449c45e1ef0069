import Foundation
import StoreSCP
import WorkerProtocol

/// Command lines of the workers.
struct WorkerPrograms {
    let receive: WorkerProgram
    let decode: WorkerProgram
    let compose: WorkerProgram
    let send: WorkerProgram
    let echo: WorkerProgram

    /// - Parameters:
    ///   - spool: folder that `decode` and `compose` may read.
    ///   - lock: the spool's lock, kept by receive workers; nil where nothing is received.
    init(spool: URL, results: URL, lock: Int32? = nil) {
        let path = WorkerProgram.beside("ichnode-dicom")
        let layout = Spool(root: spool)
        receive = WorkerProgram(
            path: path, arguments: ["receive", "--incoming", layout.incoming.path, "--studies", layout.studies.path],
            heldDescriptors: lock.map { [$0] } ?? [])
        decode = WorkerProgram(path: path, arguments: ["decode", "--spool", spool.path])
        compose = WorkerProgram(path: path, arguments: ["compose", "--spool", spool.path, "--output", results.path])
        send = WorkerProgram(path: path, arguments: ["send", "--results", results.path])
        echo = WorkerProgram(path: path, arguments: ["echo"])
    }
}
