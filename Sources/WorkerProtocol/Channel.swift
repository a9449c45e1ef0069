public import Foundation
internal import CLinux

#if canImport(Glibc)
internal import Glibc
#endif

/// One end of the socket pair between the daemon and a child, blocking. Owns its descriptor.
///
/// One thread may read while another writes; neither side may be used by two threads at once.
/// `@unchecked Sendable` is safe because the only mutable state, `isOpen`, is guarded by `lock`.
public final class Channel: @unchecked Sendable {
    /// The descriptor on which every child finds its end.
    public static let childDescriptor: Int32 = 3

    private static let mostInOnePiece = 16 << 10

    public let descriptor: Int32
    private let limits: Frame.Limits
    private let lock = NSLock()
    private let encoder = JSONEncoder()
    private var isOpen = true

    public init(takingOwnershipOf descriptor: Int32, limits: Frame.Limits = .init()) {
        self.descriptor = descriptor
        self.limits = limits
    }

    deinit { close() }

    /// Ends both directions: a blocked reader on either side returns.
    public func close() {
        lock.withLock {
            guard isOpen else { return }
            isOpen = false
            shutdown(descriptor, Int32(SHUT_RDWR))
            Glibc.close(descriptor)
        }
    }

    /// Closes this process's copy alone: after fork(2) the other process goes on with its own.
    func abandon() {
        lock.withLock {
            guard isOpen else { return }
            isOpen = false
            Glibc.close(descriptor)
        }
    }

    /// Ends both directions but keeps the descriptor, so that a reader in another thread sees the end safely.
    public func shutDown() {
        lock.withLock { if isOpen { _ = shutdown(descriptor, Int32(SHUT_RDWR)) } }
    }

    /// - Parameter descriptor: sent along (SCM_RIGHTS); the caller still owns its copy.
    public func send(_ frame: Frame, descriptor: Int32? = nil) throws {
        var beginning = frame.header()
        // One piece wakes the other end once.
        let isSmall = frame.payload.count <= Self.mostInOnePiece
        if isSmall { beginning += frame.payload }
        let first = try beginning.withUnsafeBytes { bytes in
            let sent = clinux_send(self.descriptor, bytes.baseAddress, bytes.count, descriptor ?? -1)
            guard sent > 0 else { throw WorkerError(.closed, "send failed: \(Errno.text)") }
            return sent
        }
        try beginning.withUnsafeBytes { try write(UnsafeRawBufferPointer(rebasing: $0[first...])) }
        if !isSmall { try frame.payload.withUnsafeBytes(write) }
    }

    public func send(_ message: some Encodable, descriptor: Int32? = nil) throws {
        try send(.message(try encoder.encode(message)), descriptor: descriptor)
    }

    /// The descriptor is the caller's, to close.
    /// - Returns: nil when the other end closed between two frames.
    public func receive() throws -> (frame: Frame, descriptor: Int32?)? {
        var received: Int32?
        do {
            guard let frame = try readFrame(descriptor: &received) else { return nil }
            return (frame, received)
        } catch {
            if let received { Glibc.close(received) }
            throw error
        }
    }

    private func readFrame(descriptor received: inout Int32?) throws -> Frame? {
        var header = [UInt8](repeating: 0, count: Frame.headerSize)
        let whole = try header.withUnsafeMutableBytes { try read(into: $0, descriptor: &received) }
        guard whole else { return nil }
        let (length, isMessage) = try Frame.parse(header: header, limits: limits)
        var payload = Data(count: length)
        if length > 0 {
            let complete = try payload.withUnsafeMutableBytes { try read(into: $0, descriptor: &received) }
            guard complete else { throw WorkerError(.closed, "the other end closed within a frame") }
        }
        return isMessage ? .message(payload) : .bulk(payload)
    }

    /// The next frame, which has to be a message of the given type; nil at the end of the channel. The descriptor is
    /// the caller's, to close.
    public func receive<Message: Decodable>(_ type: Message.Type) throws -> (message: Message, descriptor: Int32?)? {
        guard let (frame, descriptor) = try receive() else { return nil }
        do { return (try frame.message(type), descriptor) } catch {
            if let descriptor { Glibc.close(descriptor) }
            throw error
        }
    }

    /// The next frame, which has to be bulk bytes.
    public func receiveBulk() throws -> Data {
        guard let (frame, descriptor) = try receive() else { throw WorkerError(.closed, "the other end closed") }
        if let descriptor { Glibc.close(descriptor) }
        guard case .bulk(let payload) = frame else {
            throw WorkerError(.protocolViolation, "a message where bulk bytes were due")
        }
        return payload
    }

    static func decode<Message: Decodable>(_ type: Message.Type, _ payload: Data) throws -> Message {
        do { return try JSONDecoder().decode(type, from: payload) } catch {
            throw WorkerError(.protocolViolation, "a message that is no \(type)")
        }
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes
        while !rest.isEmpty {
            let sent = clinux_send(descriptor, rest.baseAddress, rest.count, -1)
            guard sent > 0 else { throw WorkerError(.closed, "send failed: \(Errno.text)") }
            rest = UnsafeRawBufferPointer(rebasing: rest[sent...])
        }
    }

    /// - Returns: false when the other end closed before the first byte.
    private func read(into buffer: UnsafeMutableRawBufferPointer, descriptor received: inout Int32?) throws -> Bool {
        var filled = 0
        while filled < buffer.count {
            var passed: Int32 = -1
            let count = clinux_receive(
                descriptor, buffer.baseAddress! + filled, buffer.count - filled, &passed)
            if passed >= 0 {
                if let earlier = received { Glibc.close(earlier) }
                received = passed
            }
            guard count >= 0 else { throw WorkerError(.closed, "receive failed: \(Errno.text)") }
            guard count > 0 else {
                if filled == 0 { return false }
                throw WorkerError(.closed, "the other end closed within a frame")
            }
            filled += count
        }
        return true
    }
}

/// The text of the calling thread's `errno`.
public enum Errno {
    public static var text: String { text(of: errno) }
    public static func text(of number: Int32) -> String { String(cString: strerror(number)) }
}
