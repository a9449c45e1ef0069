internal import Foundation
internal import HTTPTypes
internal import Hummingbird

/// Before anything is answered: is it meant for us, and did a page of ours send it?
enum RequestChecks {
    /// Against DNS rebinding: a page of another site that has its name point to this machine.
    static func isForUs(_ request: Request, _ settings: ConsoleSettings) -> Bool {
        // Browsers always say it.
        guard settings.isLoopback, let authority = request.head.authority, !authority.isEmpty else { return true }
        let name = hostName(of: authority)
        return (ConsoleSettings.loopback + settings.hostNames).contains { $0.lowercased() == name }
    }

    /// Browsers say where a request that changes something comes from.
    static func isFromElsewhere(_ request: Request) -> Bool {
        if let site = request.headers[.secFetchSite] { return site != "same-origin" && site != "none" }
        guard let origin = request.headers[.origin] else { return false }
        guard let separator = origin.range(of: "://") else { return true }
        return hostName(of: String(origin[separator.upperBound...])) != hostName(of: request.head.authority ?? "")
    }

    /// Without the port and brackets.
    private static func hostName(of authority: String) -> String {
        let lower = authority.lowercased()
        if lower.hasPrefix("[") { return String(lower.dropFirst().prefix { $0 != "]" }) }
        return String(lower.prefix { $0 != ":" })
    }

    /// Where to go after signing in: within the console, else to its start.
    static func localPath(_ text: String?) -> String {
        guard let text, text.hasPrefix("/"), !text.hasPrefix("//"), text.utf8.count <= 1024, !text.contains("\\"),
            text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }), !text.hasPrefix("/sign-")
        else { return "/" }
        return text
    }
}
