internal import Foundation
internal import Synchronization
public import Ledger
internal import WorkerProtocol

/// Who is signed in, by the random value in their cookie. In memory: a restart ends all sessions.
public final class SessionTable: Sendable {
    struct Session: Sendable {
        fileprivate var account: ConsoleSettings.User
        var user: String { account.name }
        var role: Role { account.role }
        var csrfToken: String
        fileprivate var began: Date
        fileprivate var used: Date
    }

    static let most = 1000
    static let mostOfUser = 20

    private let settings: @Sendable () -> ConsoleSettings
    private let clock: WallClock
    /// By digest of the value: how long a look-up takes tells nothing of it.
    private let sessions = Mutex<[String: Session]>([:])

    /// - Parameter settings: asked for each time. A session ends where its user is not among the users any more, with
    ///   the same password and role.
    public init(_ settings: @escaping @autoclosure @Sendable () -> ConsoleSettings, clock: WallClock) {
        self.settings = settings
        self.clock = clock
    }

    /// - Parameter account: as its password was compared.
    /// - Returns: the value for the cookie. Where there are too many, the one unused for longest ends.
    func begin(_ account: ConsoleSettings.User) -> String {
        let value = Secrets.random()
        let (now, terms) = (clock.now(), Terms(settings()))
        sessions.withLock { sessions in
            sessions = sessions.filter { terms.hold($0.value, at: now) }
            if sessions.values.count(where: { $0.user == account.name }) >= Self.mostOfUser {
                Self.removeOldest(&sessions) { $0.user == account.name }
            }
            if sessions.count >= Self.most { Self.removeOldest(&sessions) { _ in true } }
            sessions[APIToken.digest(of: value)] = Session(
                account: account, csrfToken: Secrets.random(), began: now, used: now)
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
        let (now, terms) = (clock.now(), Terms(settings()))
        return sessions.withLock { sessions in
            guard var session = sessions[key] else { return nil }
            guard terms.hold(session, at: now) else {
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

    /// The settings have changed: what does not hold by them ends, even where the next ones have its user again.
    public func sweep() {
        let (now, terms) = (clock.now(), Terms(settings()))
        sessions.withLock { sessions in sessions = sessions.filter { terms.hold($0.value, at: now) } }
    }

    var count: Int { sessions.withLock { $0.count } }

    /// What keeps a session alive.
    private struct Terms {
        let idle: TimeInterval
        let longest: TimeInterval
        let users: [String: ConsoleSettings.User]

        init(_ settings: ConsoleSettings) {
            idle = settings.sessionMinutes * 60
            longest = settings.mostSessionMinutes * 60
            users = Dictionary(settings.users.map { ($0.name, $0) }) { first, _ in first }
        }

        func hold(_ session: Session, at now: Date) -> Bool {
            now.timeIntervalSince(session.used) < idle && now.timeIntervalSince(session.began) < longest
                && users[session.account.name] == session.account
        }
    }
}
