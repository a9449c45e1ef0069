internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// What the verbs of this program have in common.
struct WorkerOptions: ParsableArguments {
    @Flag(help: .hidden)
    var probeConfinement = false
    @Flag(help: .hidden)
    var template = false
}

enum Worker {
    /// Confines the process, opens the channel, runs the verb on it, and ends the process with an error's reason.
    static func run(
        _ verb: String, _ options: WorkerOptions, confinement: Confinement, prepare: () throws -> Void,
        onDaemonGone: @escaping @Sendable () -> Void = {}, serve: (Channel) throws -> Void
    ) {
        do {
            try prepare()
            if options.template { try WorkerSide.becomeTemplate(verb: verb) }
            let channel = try WorkerSide.begin(verb: verb, confinement: confinement, onDaemonGone: onDaemonGone)
            // A file that grows beyond its limit is an error of write(2), not the end of the process.
            signal(SIGXFSZ, SIG_IGN)
            guard !options.probeConfinement else { return try ConfinementProbe.answer(channel) }
            try serve(channel)
            // What would be tidied up at exit(3) is shared with the template until it is touched.
            if options.template { _exit(0) }
        } catch {
            WorkerSide.fail(verb, error)
        }
    }
}
