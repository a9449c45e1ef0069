internal import Foundation

/// An invariant does not hold for the input at hand.
public struct Violation: Error, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

public func require(_ condition: Bool, _ text: @autoclosure () -> String) throws {
    if !condition { throw Violation(text()) }
}

/// What libFuzzer's entry points do: a violation ends the process, so that libFuzzer keeps the input.
public func run(_ start: UnsafePointer<UInt8>?, _ count: Int, _ check: ([UInt8]) throws -> Void) -> CInt {
    do { try check(Array(UnsafeBufferPointer(start: start, count: count))) } catch {
        FileHandle.standardError.write(Data("does not hold: \(error)\n".utf8))
        abort()
    }
    return 0
}
