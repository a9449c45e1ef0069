import Foundation
import Glibc
import Synchronization

/// sd_notify(3): one datagram to the socket that systemd names.
enum SystemdNotifier {
    /// sd_watchdog_enabled(3): the longest that systemd waits for `WATCHDOG=1`; nil where it does not, or waits for
    /// another process.
    static let watchdogInterval = watchdogInterval(
        ProcessInfo.processInfo.environment, processID: ProcessInfo.processInfo.processIdentifier)

    static func watchdogInterval(_ environment: [String: String], processID: Int32) -> Duration? {
        guard let text = environment["WATCHDOG_USEC"], let microseconds = Int64(text), microseconds > 0 else {
            return nil
        }
        if let other = environment["WATCHDOG_PID"], Int32(other) != processID { return nil }
        return .microseconds(microseconds)
    }

    static func feedWatchdog() {
        if watchdogInterval != nil { send("WATCHDOG=1") }
    }

    /// A start that goes on is not taken for one that hangs, however much there is to do.
    static func startProgress() -> @Sendable (String) -> Void {
        let told = Told()
        return { text in
            guard told.isDue else { return }
            send("EXTEND_TIMEOUT_USEC=600000000\nSTATUS=Starting: \(text)")
        }
    }

    /// Once in ten seconds.
    private final class Told: Sendable {
        private let last = Mutex<ContinuousClock.Instant?>(nil)

        var isDue: Bool {
            last.withLock { last in
                let now = ContinuousClock.now
                guard last.map({ $0.duration(to: now) >= .seconds(10) }) ?? true else { return false }
                last = now
                return true
            }
        }
    }

    static func send(_ state: String) {
        guard let path = ProcessInfo.processInfo.environment["NOTIFY_SOCKET"], !path.isEmpty else { return }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { close(descriptor) }
        // A leading @ stands for the NUL of the abstract name space.
        let name = path.hasPrefix("@") ? "\0" + path.dropFirst() : path
        let bytes = Array(state.utf8)
        _ = UnixAddress.with(name) { address, _ in
            let length = socklen_t(MemoryLayout<sa_family_t>.size + name.utf8.count)
            return sendto(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL), address, length)
        }
    }
}
