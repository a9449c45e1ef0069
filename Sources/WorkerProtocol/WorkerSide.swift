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

    /// Says on standard error why a worker cannot go on; the daemon sees the exit code.
    public static func fail(_ verb: String, _ error: any Error) -> Never {
        FileHandle.standardError.write(Data("ichnode-dicom \(verb): \(error)\n".utf8))
        exit(70)
    }
}
