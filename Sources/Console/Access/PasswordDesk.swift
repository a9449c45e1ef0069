internal import Dispatch
internal import Synchronization

/// Compares passwords one after the other, on a thread of its own: a flood of sign-ins takes one core at most, and none
/// of the cooperative pool.
final class PasswordDesk: Sendable {
    private static let mostWaiting = 8

    private let line = DispatchQueue(label: "console.passwords", qos: .utility)
    private let waiting = Mutex(0)

    enum Answer: Equatable {
        /// Too many wait.
        case busy
        /// As `PasswordHash.matches` has it.
        case compared(Bool?)
    }

    func compare(_ password: String, _ hash: PasswordHash) async -> Answer {
        let isAdmitted = waiting.withLock { waiting in
            guard waiting < Self.mostWaiting else { return false }
            waiting += 1
            return true
        }
        guard isAdmitted else { return .busy }
        defer { waiting.withLock { $0 -= 1 } }
        return await withCheckedContinuation { continuation in
            line.async { continuation.resume(returning: .compared(hash.matches(password))) }
        }
    }
}
