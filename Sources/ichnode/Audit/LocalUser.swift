import Glibc

/// Names as audit messages have them (PS3.15 §A.5.2.1).
enum LocalUser {
    static let hostName: String = {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return text(name)
    }()

    /// login@host; the number where nobody has that login.
    static func name(_ uid: uid_t) -> String {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var storage = [CChar](repeating: 0, count: 16_384)
        let login =
            getpwuid_r(uid, &entry, &storage, storage.count, &found) == 0 && found != nil
            ? String(cString: entry.pw_name) : "\(uid)"
        return "\(login)@\(hostName)"
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
