import Foundation
import Glibc
import WorkerProtocol

/// The user that the node runs as, whose rights count.
struct NodeUser {
    /// Of the package.
    static let account = "ichnode"

    /// Root sees everything: it becomes the node's user, for good, and then looks. Bad for anybody else, who cannot
    /// judge the node's folders.
    /// - Parameters:
    ///   - owner: of the data directory; nil where it cannot be seen.
    ///   - isInstalled: whether the configuration is that of the package, whose node has an account.
    static func assume(owner: Owner?, of dataDirectory: String, isInstalled: Bool) -> SetupFinding {
        let own = name(geteuid())
        let account = isInstalled ? ids(of: Self.account) : nil
        guard geteuid() == 0 else { return judge(own, owner, account, dataDirectory) }
        if let account { return become(account.user, account.group) }
        if let owner, owner.user != 0 { return become(owner.user, owner.group) }
        guard owner != nil else {
            return .warning(
                .user, own, "looks as root, who may do everything: what the node's user may is not known",
                "make \(dataDirectory) and give it to that user, or `runuser -u USER -- ichnode doctor`")
        }
        return .good(.user, own, "looks as root, to whom \(dataDirectory) belongs")
    }

    private static func judge(
        _ own: String, _ owner: Owner?, _ account: (user: uid_t, group: gid_t)?, _ path: String
    ) -> SetupFinding {
        if let account, account.user != geteuid() {
            let text = "looks as \(own), not as the node's user \(Self.account), whose rights at its folders count"
            return .bad(.user, own, text, "run it as root, or `runuser -u \(Self.account) -- ichnode doctor`")
        }
        if account == nil, let owner, owner.user != geteuid() {
            let other = name(owner.user)
            return .bad(
                .user, own, "looks as \(own), while \(path) belongs to \(other)",
                "run it as root, or as \(other); or `chown -R \(own): \(path)` if \(own) is the node's user")
        }
        return .good(.user, own, "looks as \(own)")
    }

    /// Root in a folder of the node's user would follow whatever links lie there. Where there is no folder yet, its
    /// parent is the administrator's.
    /// - Parameter making: a folder that is made for that user where only itself is missing.
    static func become(ownerOf dataDirectory: String, making folder: String? = nil) throws {
        guard geteuid() == 0, let owner = Owner(of: dataDirectory), owner.user != 0 else { return }
        if let folder, mkdir(folder, 0o700) == 0 { lchown(folder, owner.user, owner.group) }
        guard change(to: owner.user, owner.group) else {
            throw CommandFailure(.failed, "cannot become \(name(owner.user)), the node's user: \(Errno.text)")
        }
    }

    /// All threads change with the one that asks (nptl(7)).
    private static func change(to user: uid_t, _ group: gid_t) -> Bool {
        (initgroups(name(user), group) == 0 || setgroups(0, nil) == 0) && setgid(group) == 0 && setuid(user) == 0
    }

    private static func become(_ user: uid_t, _ group: gid_t) -> SetupFinding {
        let name = name(user)
        guard change(to: user, group) else {
            return .warning(
                .user, name, "cannot look as \(name) (\(String(cString: strerror(errno)))), and looks as root",
                "`runuser -u \(name) -- ichnode doctor`")
        }
        return .good(.user, name, "looks as \(name), the node's user")
    }

    /// The number where nobody has that login.
    static func name(_ user: uid_t) -> String { String(LocalUser.name(user).prefix { $0 != "@" }) }

    private static func ids(of account: String) -> (user: uid_t, group: gid_t)? {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var storage = [CChar](repeating: 0, count: 16_384)
        guard getpwnam_r(account, &entry, &storage, storage.count, &found) == 0, found != nil else { return nil }
        return (entry.pw_uid, entry.pw_gid)
    }
}

/// Whose a file is, and what others may do with it.
struct Owner: Sendable {
    var user: uid_t
    var group: gid_t
    var mode: mode_t
    var modified: Date

    /// nil where it cannot be seen.
    init?(of path: String) {
        let file = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
        guard let found = try? FileManager.default.attributesOfItem(atPath: file),
            let user = found[.ownerAccountID] as? NSNumber, let group = found[.groupOwnerAccountID] as? NSNumber,
            let mode = found[.posixPermissions] as? NSNumber, let modified = found[.modificationDate] as? Date
        else { return nil }
        (self.user, self.group, self.mode) = (user.uint32Value, group.uint32Value, mode.uint32Value)
        self.modified = modified
    }
}
