import Foundation
import StoreSCP
import WorkerProtocol

/// Command lines of the workers.
struct WorkerPrograms {
    let receive: ReceivePrograms
    let decode: WorkerProgram
    /// For looking at images: behind analyses.
    let view: WorkerProgram
    let compose: WorkerProgram
    let describe: WorkerProgram
    let send: WorkerProgram
    let echo: WorkerProgram
    let reach: WorkerProgram
    let find: WorkerProgram
    let move: WorkerProgram
    let commit: WorkerProgram

    /// - Parameters:
    ///   - spool: folder that `decode` and `compose` may read.
    ///   - tls: key material for the TLS port; nil without one.
    ///   - lock: the spool's lock, kept by receive workers; nil where nothing is received.
    init(spool: URL, results: URL, tls: TLSFiles? = nil, lock: Int32? = nil) {
        let path = WorkerProgram.beside("ichnode-dicom")
        let layout = Spool(root: spool)
        let folders = ["receive", "--incoming", layout.incoming.path, "--studies", layout.studies.path]
        let held = lock.map { [$0] } ?? []
        receive = ReceivePrograms(
            plain: WorkerProgram(path: path, arguments: folders, heldDescriptors: held),
            tls: tls.map { WorkerProgram(path: path, arguments: folders + $0.arguments, heldDescriptors: held) },
            tlsFiles: tls?.paths ?? [])
        decode = WorkerProgram(path: path, arguments: ["decode", "--spool", spool.path])
        view = WorkerProgram(path: path, arguments: ["decode", "--spool", spool.path, "--niceness", "15"])
        compose = WorkerProgram(path: path, arguments: ["compose", "--spool", spool.path, "--output", results.path])
        describe = WorkerProgram(path: path, arguments: ["describe", "--results", results.path])
        send = WorkerProgram(path: path, arguments: ["send", "--results", results.path])
        echo = WorkerProgram(path: path, arguments: ["echo"])
        reach = WorkerProgram(path: path, arguments: ["reach"])
        find = WorkerProgram(path: path, arguments: ["find"])
        move = WorkerProgram(path: path, arguments: ["move"])
        commit = WorkerProgram(path: path, arguments: ["commit"])
    }
}
