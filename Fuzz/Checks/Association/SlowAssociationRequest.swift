/// A whole, well-formed A-ASSOCIATE-RQ (PS3.8 §9.3.2), read item by item.
struct SlowAssociationRequest {
    var protocolVersion = 0
    var calledAETitle = ""
    var callingAETitle = ""
    /// Whether a context is proposed for something else than verification and storage commitment.
    var proposesStorage = false

    private var rest: [UInt8]

    /// - Returns: nil where the bytes are anything else.
    init?(_ bytes: [UInt8]) {
        rest = bytes
        guard take(1) == [1], take(1) != nil, let length = number(4), length == rest.count, bytes.count <= 65_536,
            let version = number(2), take(2) != nil,
            let called = take(16), let calling = take(16), take(32) != nil,
            let calledTitle = Self.title(called), let callingTitle = Self.title(calling)
        else { return nil }
        protocolVersion = version
        calledAETitle = calledTitle
        callingAETitle = callingTitle
        // PS3.8 Table 9-11: one application context, presentation contexts, one user information, in this order.
        var types: [UInt8] = []
        while let type = take(1)?[0] {
            guard take(1) != nil, let length = number(2), let value = take(length) else { return nil }
            if type == 0x20 {
                guard let abstractSyntax = Self.abstractSyntax(value) else { return nil }
                if !["1.2.840.10008.1.1", "1.2.840.10008.1.20.1"].contains(abstractSyntax) { proposesStorage = true }
            }
            types.append(type)
        }
        guard types.count >= 3, types.first == 0x10, types.last == 0x50,
            types.dropFirst().dropLast().allSatisfy({ $0 == 0x20 })
        else { return nil }
    }

    /// PS3.5 §6.2, AE: leading and trailing spaces do not count, nor do trailing NULs, which are seen.
    private static func title(_ bytes: [UInt8]) -> String? {
        var text = ""
        for byte in bytes {
            guard (0x20...0x7E).contains(byte) || byte == 0, byte != 0x5C else { return nil }
            text.unicodeScalars.append(Unicode.Scalar(byte))
        }
        while text.hasSuffix(" ") || text.hasSuffix("\0") { text.removeLast() }
        while text.hasPrefix(" ") { text.removeFirst() }
        return text.isEmpty || text.contains("\0") ? nil : text
    }

    /// PS3.8 Table 9-13: an odd ID, one abstract syntax, at least one transfer syntax.
    private static func abstractSyntax(_ value: [UInt8]) -> String? {
        guard value.count >= 4, value[0] % 2 == 1 else { return nil }
        var at = 4
        var parts: [(type: UInt8, value: [UInt8])] = []
        while at + 4 <= value.count {
            let end = at + 4 + Int(value[at + 2]) * 256 + Int(value[at + 3])
            if end > value.count { return nil }
            parts.append((value[at], Array(value[at + 4..<end])))
            at = end
        }
        guard at == value.count, parts.count >= 2, parts[0].type == 0x30,
            parts.dropFirst().allSatisfy({ $0.type == 0x40 })
        else { return nil }
        // PS3.8 Annex F: a UID as it is, without padding; some pad all the same.
        guard parts[0].value.allSatisfy({ (0x20...0x7E).contains($0) || $0 == 0 }) else { return nil }
        var text = parts[0].value[...]
        while let last = text.last, last == 0 || last == 0x20 { text.removeLast() }
        while let first = text.first, first == 0 || first == 0x20 { text.removeFirst() }
        return String(decoding: text, as: UTF8.self)
    }

    private mutating func take(_ count: Int) -> [UInt8]? {
        guard rest.count >= count else { return nil }
        defer { rest.removeFirst(count) }
        return Array(rest.prefix(count))
    }

    private mutating func number(_ count: Int) -> Int? {
        take(count)?.reduce(0) { $0 * 256 + Int($1) }
    }
}
