import Foundation
import Glibc

/// sd_notify(3): one datagram to the socket that systemd names.
enum SystemdNotifier {
    static func send(_ state: String) {
        guard let path = ProcessInfo.processInfo.environment["NOTIFY_SOCKET"], !path.isEmpty else { return }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
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
