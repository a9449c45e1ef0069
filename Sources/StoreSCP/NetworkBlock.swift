#if canImport(Glibc)
internal import Glibc
#endif

/// An IPv4 or IPv6 network in CIDR notation, such as 10.1.0.0/16 or ::1/128.
public struct NetworkBlock: Sendable, Hashable, CustomStringConvertible {
    private let address: [UInt8]
    private let prefixLength: Int

    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = Self.bytes(String(parts[0])) else { return nil }
        let most = address.count * 8
        guard let length = parts.count == 2 ? Int(parts[1]) : most, (0...most).contains(length) else { return nil }
        self.address = address
        prefixLength = length
    }

    public func contains(_ address: String) -> Bool {
        guard let other = Self.bytes(address), other.count == self.address.count else { return false }
        for (index, (mine, theirs)) in zip(self.address, other).enumerated() {
            let bits = min(8, max(0, prefixLength - index * 8))
            let mask = UInt8(truncatingIfNeeded: 0xff00 >> bits)
            guard mine & mask == theirs & mask else { return false }
        }
        return true
    }

    public var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let family = address.count == 4 ? AF_INET : AF_INET6
        guard inet_ntop(family, address, &text, socklen_t(text.count)) != nil else { return "?/\(prefixLength)" }
        let characters = text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
        return "\(String(decoding: characters, as: UTF8.self))/\(prefixLength)"
    }

    /// Network order; an IPv4 address mapped into IPv6 counts as IPv4.
    private static func bytes(_ text: String) -> [UInt8]? {
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 { return withUnsafeBytes(of: four) { Array($0) } }
        var six = in6_addr()
        guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
        let all = withUnsafeBytes(of: six) { Array($0) }
        let mapped = all[0..<10].allSatisfy { $0 == 0 } && all[10] == 0xff && all[11] == 0xff
        return mapped ? Array(all[12...]) : all
    }
}
