internal import Foundation

/// What a child said and nobody has taken yet, in order. Ends with the child's channel, throws when the child breaks
/// the protocol. Bounded: the child waits while too much is there. All iterators take from one buffer.
public struct WorkerFrames: AsyncSequence, Sendable {
    public typealias Element = Frame

    let backlog: FrameBacklog
    private let stream: AsyncThrowingStream<Frame, any Error>
    private let continuation: AsyncThrowingStream<Frame, any Error>.Continuation

    init() {
        let backlog = FrameBacklog()
        self.backlog = backlog
        (stream, continuation) = AsyncThrowingStream.makeStream()
        // Who reads no more holds nobody up either.
        continuation.onTermination = { _ in backlog.open() }
    }

    /// Waits until there is room for a frame, whatever its size. On the reader's thread.
    func waitForRoom() { backlog.waitForRoom() }

    func add(_ frame: Frame) {
        backlog.added(frame)
        continuation.yield(frame)
    }

    func finish(throwing error: (any Error)? = nil) { continuation.finish(throwing: error) }

    /// Nobody waits for room any longer: the child ends, or its channel.
    func open() { backlog.open() }

    public func makeAsyncIterator() -> Iterator { Iterator(base: stream.makeAsyncIterator(), backlog: backlog) }

    public struct Iterator: AsyncIteratorProtocol {
        fileprivate var base: AsyncThrowingStream<Frame, any Error>.Iterator
        fileprivate let backlog: FrameBacklog

        public mutating func next() async throws -> Frame? {
            let frame = try await base.next()
            backlog.taken(frame)
            return frame
        }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws -> Frame? {
            let frame = try await base.next(isolation: actor)
            backlog.taken(frame)
            return frame
        }
    }
}

/// Counts the frames that nobody has taken yet.
///
/// `@unchecked Sendable` is safe because all state is guarded by `condition`.
final class FrameBacklog: @unchecked Sendable {
    static let mostFrames = 256
    static let mostBytes = 8 << 20

    private let condition = NSCondition()
    private var count = 0
    private var bytes = 0
    private var isOpen = false

    /// Frames that nobody has taken yet.
    var frames: Int { condition.withLock { count } }

    /// Blocks the calling thread while too much is there, until it is open.
    func waitForRoom() {
        condition.withLock {
            while !isOpen && (count >= Self.mostFrames || bytes >= Self.mostBytes) { condition.wait() }
        }
    }

    func added(_ frame: Frame) {
        condition.withLock {
            count += 1
            bytes += frame.payload.count
        }
    }

    /// - Parameter frame: nil at the end.
    func taken(_ frame: Frame?) {
        guard let frame else { return }
        condition.withLock {
            count -= 1
            bytes -= frame.payload.count
            condition.signal()
        }
    }

    func open() {
        condition.withLock {
            isOpen = true
            condition.broadcast()
        }
    }
}
