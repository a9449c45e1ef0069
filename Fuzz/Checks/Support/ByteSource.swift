/// Takes decisions and values from an input's bytes, from the front. When they are used up, everything is zero.
public struct ByteSource {
    private var rest: ArraySlice<UInt8>

    public init(_ bytes: some Collection<UInt8>) { rest = Array(bytes)[...] }

    public var isEmpty: Bool { rest.isEmpty }
    public mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }
    public mutating func bool() -> Bool { byte() & 1 == 1 }
    /// From 0 to `bound` - 1.
    public mutating func below(_ bound: Int) -> Int { Int(byte()) % bound }

    public mutating func bytes(_ count: Int) -> [UInt8] {
        let taken = Array(rest.prefix(count))
        rest = rest.dropFirst(count)
        return taken
    }

    public mutating func integer() -> Int {
        let width = [1, 2, 4, 8][below(4)]
        return Int(truncatingIfNeeded: (0..<width).reduce(UInt64(0)) { value, _ in value << 8 | UInt64(byte()) })
    }

    /// Never infinite and no NaN.
    public mutating func double() -> Double {
        let value = Double(bitPattern: UInt64(bitPattern: Int64(integer())))
        return value.isFinite ? value : 0
    }

    public mutating func float() -> Float {
        let value = Float(bitPattern: UInt32(truncatingIfNeeded: integer()))
        return value.isFinite ? value : 0
    }

    /// Any text, most often short.
    public mutating func text() -> String { String(decoding: bytes(Int(byte()) % 48), as: UTF8.self) }

    public mutating func array<Value>(_ most: Int, _ value: (inout ByteSource) -> Value) -> [Value] {
        (0..<below(most + 1)).map { _ in value(&self) }
    }

    public mutating func optional<Value>(_ value: (inout ByteSource) -> Value) -> Value? {
        bool() ? value(&self) : nil
    }

    public mutating func remainder() -> [UInt8] {
        defer { rest = [] }
        return Array(rest)
    }
}
