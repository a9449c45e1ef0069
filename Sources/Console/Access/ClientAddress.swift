internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

#if canImport(Glibc)
internal import Glibc
#endif

/// Where a request comes from.
enum ClientAddress {
    static let unknown = "unknown"

    /// - Parameter isBehindProxy: what the proxy appended to X-Forwarded-For counts; what is before came from outside.
    static func of(_ request: Request, peer: SocketAddress?, isBehindProxy: Bool) -> String {
        if isBehindProxy, let forwarded = request.headers[values: .xForwardedFor].last?.split(separator: ",").last {
            let text = forwarded.trimmingCharacters(in: .whitespaces)
            // IPv6 in brackets, and either with a port, is how some write it.
            let bare = text.hasPrefix("[") ? String(text.dropFirst().prefix { $0 != "]" }) : text
            for each in [bare, String(bare.prefix { $0 != ":" })] {
                if let address = try? SocketAddress(ipAddress: each, port: 0) { return address.ipAddress ?? each }
            }
        }
        return peer?.ipAddress ?? unknown
    }

    /// What counts as one visitor: an IPv6 host has a /64 to itself.
    static func network(of address: String) -> String {
        var bytes = [UInt8](repeating: 0, count: 16)
        guard inet_pton(AF_INET6, address, &bytes) == 1 else { return address }
        // ::1, and an IPv4 address in IPv6's clothes, are one host.
        if bytes[..<8].allSatisfy({ $0 == 0 }) { return address }
        return bytes[..<8].map { String($0, radix: 16) }.joined(separator: ":") + "::/64"
    }
}
