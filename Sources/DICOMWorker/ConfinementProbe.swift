internal import CLinux
internal import Foundation
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// Tries, in a confined worker, what it must not be able to do, and says what came of it. For tests and `doctor`.
enum ConfinementProbe {
    struct Request: Codable {
        /// A file that exists and that no worker may read.
        var forbiddenFile: String
        /// A folder that exists and in which no worker may make a file.
        var forbiddenFolder: String
        /// A TCP port on the loopback address at which someone listens.
        var port: UInt16
        /// A Unix socket at which someone listens.
        var localSocket: String
    }

    struct Outcome: Codable {
        var couldRead: Bool
        var couldCreate: Bool
        var couldConnect: Bool
        var couldListen: Bool
        var couldExecute: Bool
        var couldConnectLocally: Bool
        var couldSignalParent: Bool
        var couldLimitParent: Bool
        /// What abort(3) needs.
        var couldSignalItself: Bool
        /// What connecting by name needs, under `send` and `echo`.
        var couldResolve: Bool
    }

    static func answer(_ channel: Channel) throws {
        guard let (request, _) = try channel.receive(Request.self) else { return }
        try channel.send(
            Outcome(
                couldRead: canRead(request.forbiddenFile),
                couldCreate: canCreate(in: request.forbiddenFolder),
                couldConnect: canUse(port: request.port, connect),
                couldListen: canUse(port: 0, bind),
                couldExecute: canExecute(),
                couldConnectLocally: canConnect(to: request.localSocket),
                couldSignalParent: canSignalParent(),
                couldLimitParent: clinux_probe_limits(getppid()) == 0,
                couldSignalItself: raise(0) == 0,
                couldResolve: canResolve("localhost")))
    }

    private static func canRead(_ path: String) -> Bool {
        let descriptor = clinux_open_read(path)
        if descriptor >= 0 { close(descriptor) }
        return descriptor >= 0
    }

    private static func canCreate(in folder: String) -> Bool {
        let path = "\(folder)/confinement-probe-\(getpid())"
        let descriptor = clinux_create(path)
        guard descriptor >= 0 else { return false }
        close(descriptor)
        unlink(path)
        return true
    }

    private static func canUse(
        port: UInt16, _ call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Bool {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { return false }
        defer { close(socket) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                call(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }

    private static func canConnect(to path: String) -> Bool {
        let socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { return false }
        defer { close(socket) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            for (index, byte) in path.utf8.prefix(bytes.count - 1).enumerated() { bytes[index] = byte }
        }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
    }

    /// By any of the calls; signal 0 does no harm where it is let through.
    private static func canSignalParent() -> Bool {
        let parent = getppid()
        return kill(parent, 0) == 0 || clinux_probe_signal(parent) == 0
    }

    private static func canResolve(_ host: String) -> Bool {
        var hints = addrinfo()
        hints.ai_flags = AI_ADDRCONFIG
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        defer { if let found { freeaddrinfo(found) } }
        return getaddrinfo(host, "104", &hints, &found) == 0
    }

    /// Would replace this process where it could.
    private static func canExecute() -> Bool {
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
        defer { for argument in arguments { free(argument) } }
        errno = 0
        execv("/bin/true", &arguments)
        return false
    }
}
