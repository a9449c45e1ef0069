import Foundation
import Synchronization

/// Runs what blocks on a thread of its own, and waits no longer than so many seconds: a file system that has gone away
/// must not take the whole examination with it.
/// - Returns: `otherwise` where it takes longer. The thread is left to itself.
func bounded<R: Sendable>(
    seconds: Double, otherwise: @escaping @autoclosure @Sendable () -> R, _ body: @escaping @Sendable () -> R
) async -> R {
    await withCheckedContinuation { (continuation: CheckedContinuation<R, Never>) in
        let waiting = Waiting(continuation)
        Thread.detachNewThread { waiting.settle(body()) }
        Thread.detachNewThread {
            Thread.sleep(forTimeInterval: seconds)
            waiting.settle(otherwise())
        }
    }
}

/// Whoever settles first counts.
private final class Waiting<R: Sendable>: Sendable {
    private let continuation: Mutex<CheckedContinuation<R, Never>?>

    init(_ continuation: CheckedContinuation<R, Never>) { self.continuation = Mutex(continuation) }

    func settle(_ result: R) {
        let waiting = continuation.withLock { held in
            defer { held = nil }
            return held
        }
        waiting?.resume(returning: result)
    }
}
