internal import CLinux
internal import Foundation

#if canImport(Glibc)
internal import Glibc
#endif

/// What every child does first.
public enum WorkerSide {
    /// Confines the process, says hello on the channel at descriptor 3, and ends the process when the daemon's end
    /// closes.
    ///
    /// - Parameter onDaemonGone: called on another thread right before the process ends, to remove what is
    ///   half-written.
    public static func begin(
        verb: String, confinement: Confinement, limits: Frame.Limits = .init(),
        onDaemonGone: @escaping @Sendable () -> Void = {}
    ) throws -> Channel {
        let report = try confinement.apply()
        let channel = Channel(takingOwnershipOf: Channel.childDescriptor, limits: limits)
        try channel.send(Hello(verb: verb, confinement: report))
        let watcher = Thread {
            clinux_wait_for_hangup(Channel.childDescriptor)
            onDaemonGone()
            _exit(0)
        }
        watcher.stackSize = 256 << 10
        watcher.start()
        return channel
    }

    /// Makes the process a template: for each request of the daemon it becomes one worker more by fork(2). The program
    /// is loaded, linked and prepared once, not for each worker. Copies are the daemon's children, as the template is.
    ///
    /// Returns in the copies, which find their channel at descriptor 3; the template itself ends when the daemon closes
    /// its channel. To be called before other threads exist, and before any confinement: each copy confines itself.
    public static func becomeTemplate(verb: String) throws {
        clinux_reset_signals()
        clinux_set_process_name(WorkerTemplate.processName)
        let channel = Channel(takingOwnershipOf: Channel.childDescriptor, limits: .messagesOnly)
        try channel.send(Hello(verb: verb, confinement: .init()))
        while let (request, socket) = try channel.receive(TemplateRequest.self) {
            guard case .fork = request, let socket else {
                throw WorkerError(.protocolViolation, "a request to a template without a channel for the worker")
            }
            let pid = clinux_fork_sibling()
            let failure = Errno.text
            if pid == 0 {
                clinux_set_process_name("ichnode-dicom")
                channel.abandon()
                dup2(socket, Channel.childDescriptor)
                close(socket)
                return
            }
            close(socket)
            try channel.send(pid > 0 ? TemplateReply.forked(processID: pid) : .failed(reason: failure))
        }
        _exit(0)
    }

    /// Says on standard error why a worker cannot go on; the daemon sees the exit code.
    public static func fail(_ verb: String, _ error: any Error) -> Never {
        FileHandle.standardError.write(Data("ichnode-dicom \(verb): \(error)\n".utf8))
        exit(70)
    }
}
