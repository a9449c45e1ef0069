internal import Foundation
internal import Synchronization
internal import Ledger
internal import WorkerProtocol

/// Who is signed in, by the random value in their cookie. In memory: a restart ends all sessions.
final class SessionTable: Sendable {
    struct Session: Sendable {
        var user: String
        var role: Role
        var csrfToken: String
        fileprivate var began: Date
        fileprivate var used: Date
    }

    static let most = 1000
    static let mostOfUser = 20

    private let idle: TimeInterval
    private let longest: TimeInterval
    private let clock: WallClock
    /// By digest of the value: how long a look-up takes tells nothing of it.
    private let sessions = Mutex<[String: Session]>([:])

    init(_ settings: ConsoleSettings, clock: WallClock) {
        idle = settings.sessionMinutes * 60
        longest = settings.mostSessionMinutes * 60
        self.clock = clock
    }

    /// - Returns: the value for the cookie. Where there are too many, the one unused for longest ends.
    func begin(_ user: String, _ role: Role) -> String {
        let value = Secrets.random()
        let now = clock.now()
        sessions.withLock { sessions in
            sessions = sessions.filter { isAlive($0.value, now) }
            if sessions.values.count(where: { $0.user == user }) >= Self.mostOfUser {
                Self.removeOldest(&sessions) { $0.user == user }
            }
            if sessions.count >= Self.most { Self.removeOldest(&sessions) { _ in true } }
            sessions[APIToken.digest(of: value)] = Session(
                user: user, role: role, csrfToken: Secrets.random(), began: now, used: now)
        }
        return value
    }

    private static func removeOldest(_ sessions: inout [String: Session], _ isMeant: (Session) -> Bool) {
        let oldest = sessions.filter { isMeant($0.value) }.min { $0.value.used < $1.value.used }
        if let oldest { sessions[oldest.key] = nil }
    }

    /// - Parameter isUse: whether it keeps the session from ending for want of use.
    func session(_ value: String, isUse: Bool = true) -> Session? {
        let key = APIToken.digest(of: value)
        let now = clock.now()
        return sessions.withLock { sessions in
            guard var session = sessions[key] else { return nil }
            guard isAlive(session, now) else {
                sessions[key] = nil
                return nil
            }
            if isUse {
                session.used = now
                sessions[key] = session
            }
            return session
        }
    }

    func end(_ value: String) { sessions.withLock { $0[APIToken.digest(of: value)] = nil } }

    var count: Int { sessions.withLock { $0.count } }

    private func isAlive(_ session: Session, _ now: Date) -> Bool {
        now.timeIntervalSince(session.used) < idle && now.timeIntervalSince(session.began) < longest
    }
}
