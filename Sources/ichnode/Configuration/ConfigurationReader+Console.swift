import Console
import WorkerProtocol

/// The console, its users and what protects them.
extension ConfigurationReader {
    static func readConsole(_ section: YAMLSection, keeping running: ConsoleSettings?) -> ConsoleSettings {
        defer { section.finish() }
        var console = ConsoleSettings()
        console.host = section.string("host", default: console.host)
        console.port = section.int("port", default: console.port, 0...65535)
        console.hostNames = section.list("host_names", default: [], "a host name", { $0.isEmpty ? nil : $0 })
        console.isBehindProxy = section.bool("behind_proxy", default: false)
        console.users = readUsers(section)
        console.tokens = readTokens(section)
        console.tls = readTLS(section.optionalSection("tls"))
        console.sessionMinutes = section.number("session_minutes", default: 30, 1...1440, "minutes")
        console.mostSessionMinutes = section.number("most_session_minutes", default: 720, 1...10_080, "minutes")
        console.lockOut = readLockOut(section.section("lock_out"))
        console.mostConnections = section.int("most_connections", default: 256, 8...4096)
        console.mostConnectionsPerAddress = section.int("most_connections_per_address", default: 64, 1...4096)
        console.idleSeconds = section.seconds("idle_seconds", default: 30, 1...600)
        console = console.keeping(running)
        checkExposure(console, section)
        return console
    }

    private static func readUsers(_ section: YAMLSection) -> [ConsoleSettings.User] {
        let users = section.sections("users").compactMap { user -> ConsoleSettings.User? in
            defer { user.finish() }
            let name = user.required("name", "alice")
            let role = user.choice("role", default: Role.viewer)
            let text = user.required("password_hash", "\"$scrypt$…\"")
            guard let password = PasswordHash(text) else {
                if !text.isEmpty {
                    user.problem("password_hash", "is none: `ichnode console hash-password` prints one")
                }
                return nil
            }
            return ConsoleSettings.User(name: name, role: role, password: password)
        }
        checkNames(users.map(\.name), "users", section)
        return users
    }

    private static func readTokens(_ section: YAMLSection) -> [ConsoleSettings.Token] {
        let tokens = section.sections("tokens").map { token in
            defer { token.finish() }
            let sha256 = token.required("sha256", "\"9f86d081…\"").lowercased()
            if !sha256.isEmpty, sha256.utf8.count != 64 || !sha256.allSatisfy(\.isHexDigit) {
                token.problem("sha256", "has to be 64 hexadecimal digits: `ichnode console token` prints them")
            }
            return ConsoleSettings.Token(
                name: token.required("name", "monitoring"), role: token.choice("role", default: Role.viewer),
                sha256: sha256)
        }
        checkNames(tokens.map(\.name), "tokens", section)
        return tokens
    }

    /// The audit trail tells them apart by name.
    private static func checkNames(_ names: [String], _ key: String, _ section: YAMLSection) {
        for name in Set(names) where names.count(where: { $0 == name }) > 1 {
            section.problem(key, "names \"\(name)\" twice: give each its own name")
        }
        for name in names
        where name.unicodeScalars.count > 64 || name.contains(where: { $0.isNewline || $0.isWhitespace }) {
            section.problem(key, "has \"\(name)\": a name has at most 64 characters and no spaces")
        }
    }

    private static func readTLS(_ section: YAMLSection?) -> TLSFiles? {
        guard let section else { return nil }
        defer { section.finish() }
        let files = TLSFiles(
            section: "console.tls",
            certificate: section.file(
                "certificate", section.required("certificate", "/etc/ichnode/tls/console-certificate.pem")),
            key: section.file("key", section.required("key", "/etc/ichnode/tls/console-key.pem")), authorities: nil)
        for (key, path) in [("certificate", files.certificate), ("key", files.key)]
        where !path.isEmpty && !path.hasPrefix("/") {
            section.problem(key, "has to begin with /")
        }
        return files
    }

    private static func readLockOut(_ section: YAMLSection) -> ConsoleSettings.LockOut {
        defer { section.finish() }
        var lockOut = ConsoleSettings.LockOut()
        lockOut.tries = section.int("tries", default: lockOut.tries, 1...100)
        lockOut.firstSeconds = section.seconds("first_seconds", default: lockOut.firstSeconds, 1...3600)
        lockOut.mostSeconds = section.seconds("most_seconds", default: lockOut.mostSeconds, 1...86400)
        if lockOut.firstSeconds > lockOut.mostSeconds {
            section.problem("first_seconds", "has to be at most most_seconds")
        }
        return lockOut
    }

    /// Passwords and patients cross no network in the plain, and nobody sees them who is not known.
    private static func checkExposure(_ console: ConsoleSettings, _ section: YAMLSection) {
        if !console.isLoopback && (console.tls == nil || console.users.isEmpty) {
            section.problem(
                "host", "reaches beyond this machine, which needs tls and users: add both, or use 127.0.0.1 or ::1")
        }
        if console.isBehindProxy && (!console.isLoopback || console.tls != nil) {
            section.problem("behind_proxy", "needs a host of 127.0.0.1 or ::1, and no tls: the proxy does both")
        }
        if console.isBehindProxy && console.users.isEmpty {
            section.problem("behind_proxy", "needs users: a proxy shows the console to others")
        }
        if console.sessionMinutes > console.mostSessionMinutes {
            section.problem("session_minutes", "has to be at most most_session_minutes")
        }
        if console.mostConnectionsPerAddress > console.mostConnections {
            section.problem("most_connections_per_address", "has to be at most most_connections")
        }
    }
}
