import Foundation
import Glibc
import WorkerProtocol

/// `credential:NAME` in the place of a path: what systemd hands to the unit, see systemd.exec(5), `LoadCredential=`.
enum Credential {
    private static let prefix = "credential:"

    /// Where systemd puts them; outside of the unit, where it puts those of the unit that runs.
    static let folder = folder(ProcessInfo.processInfo.environment)

    static func folder(_ environment: [String: String]) -> String {
        environment["CREDENTIALS_DIRECTORY"] ?? "/run/credentials/ichnode.service"
    }

    /// - Returns: nil where the text names none.
    static func name(in text: String) -> String? {
        text.hasPrefix(prefix) ? String(text.dropFirst(prefix.count)) : nil
    }

    /// As systemd takes names.
    static func isName(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count) && name != "." && name != ".."
            && name.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
    }

    /// What to change where a path is that of a credential which cannot be read; nil for any other path.
    static func problem(_ path: String, in folder: String = Self.folder) -> String? {
        guard path.hasPrefix(folder + "/"), access(path, R_OK) != 0 else { return nil }
        let why = Errno.text
        let name = path.dropFirst(folder.utf8.count + 1)
        return "credential \(name) cannot be read (\(why)): the unit needs LoadCredential=\(name):FILE, and a restart; "
            + "outside of the unit ask as the node's user while it runs, or by systemd-run --pipe --wait "
            + "-p User=ichnode -p LoadCredential=\(name):FILE"
    }
}

extension YAMLSection {
    /// The path that the text of a key means.
    func file(_ key: String, _ text: String) -> String {
        guard let name = Credential.name(in: text) else { return text }
        if !Credential.isName(name) {
            problem(key, "names no credential: write credential:NAME, with the name that LoadCredential= gives it")
        }
        return "\(Credential.folder)/\(name)"
    }
}
