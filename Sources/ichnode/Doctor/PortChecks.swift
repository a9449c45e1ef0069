import Console
import Foundation
import Glibc
import WorkerProtocol

/// Whether the node can listen where it is to. Bound for a moment, never listened on.
struct PortChecks {
    let configuration: NodeConfiguration
    /// By the node that runs; nil where that cannot be known.
    let held: [Int]?

    func examine() -> [SetupFinding] {
        let dicom = configuration.dicom
        let console = configuration.console
        return (dicom.port.map { port(.portDICOM, "dicom", dicom.bind, $0) } ?? [])
            + (configuration.tls.map { port(.portTLS, "tls", dicom.bind, $0.port) } ?? [])
            + port(.portConsole, "console", [console.host], console.port)
    }

    private func port(_ check: Check, _ section: String, _ addresses: [String], _ port: Int) -> [SetupFinding] {
        let troubles = addresses.compactMap { address -> SetupFinding? in
            let error = Self.bindError(address, port)
            return error == 0 ? nil : trouble(check, section, address, port, error)
        }
        if !troubles.isEmpty { return troubles }
        // None is asked of the kernel.
        let number = port == 0 ? "any port" : "port \(port)"
        return [.good(check, "\(port)", "\(number) is free [\(section).port]")]
    }

    private func trouble(
        _ check: Check, _ section: String, _ address: String, _ port: Int, _ error: Int32
    ) -> SetupFinding {
        let place = "port \(port) of \(address)"
        let reason = String(cString: strerror(error))
        switch error {
        case EADDRINUSE where held == nil:
            return .warning(check, "\(port)", "\(place) is taken, by the node or by another program")
        case EADDRINUSE where held?.contains(port) == true:
            return .good(check, "\(port)", "\(place) is held by the running node")
        case EADDRINUSE:
            return .bad(
                check, "\(port)", "\(place) is taken by another program",
                "end it (`ss -ltnp 'sport = :\(port)'` names it), or change \(section).port")
        case EACCES:
            return .warning(
                check, "\(port)", "\(place) needs a privilege that \(NodeUser.name(geteuid())) has not",
                "CAP_NET_BIND_SERVICE in AmbientCapabilities= and CapabilityBoundingSet= of the unit with "
                    + "PrivateUsers=no, or a port from 1024 on")
        case EADDRNOTAVAIL:
            return .bad(
                check, "\(port)", "\(address) is no address of this machine",
                "change \(section == "console" ? "console.host" : "dicom.bind")")
        case EAFNOSUPPORT:
            return .bad(
                check, "\(port)", "this machine has no IPv6, and nothing can listen on \(address)",
                "take it out of \(section == "console" ? "console.host" : "dicom.bind")")
        default:
            return .bad(check, "\(port)", "nothing can listen on \(place) (\(reason))", "change \(section).port")
        }
    }

    /// As the listeners do it. 0 where it can be had.
    private static func bindError(_ address: String, _ port: Int) -> Int32 {
        var hints = addrinfo()
        hints.ai_flags = AI_PASSIVE
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(address, String(port), &hints, &found) == 0, let info = found else { return EADDRNOTAVAIL }
        defer { freeaddrinfo(found) }
        let descriptor = socket(info.pointee.ai_family, info.pointee.ai_socktype, 0)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        var on: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, size)
        if info.pointee.ai_family == AF_INET6 { setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &on, size) }
        return bind(descriptor, info.pointee.ai_addr, info.pointee.ai_addrlen) == 0 ? 0 : errno
    }
}
