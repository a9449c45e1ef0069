internal import Foundation

/// A receiver of signed events over HTTPS: findings, corrections, operators' alerts.
public struct Webhook: Sendable, Equatable {
    public var name: String
    public var url: String
    /// Read at every attempt, so that another secret needs no restart.
    public var secretFile: String
    /// PEM of the issuers that its certificate may be of; nil: the system's.
    public var authorities: String?
    public var includesPatient: Bool
    /// For connection, request and answer together.
    public var timeout: Duration

    public init(
        name: String, url: String, secretFile: String, authorities: String? = nil, includesPatient: Bool = false,
        timeout: Duration = .seconds(10)
    ) {
        self.name = name
        self.url = url
        self.secretFile = secretFile
        self.authorities = authorities
        self.includesPatient = includesPatient
        self.timeout = timeout
    }

    /// - Returns: what is wrong with a URL; nil where it will do. Without TLS only this machine is reached.
    public static func problem(withURL text: String) -> String? {
        guard let url = URLComponents(string: text), let scheme = url.scheme, let host = url.host, !host.isEmpty,
            url.user == nil, url.password == nil, url.fragment == nil
        else { return "has to be a URL such as https://host/path, without user, password and fragment" }
        switch scheme {
        case "https": return nil
        case "http" where ["localhost", "127.0.0.1", "::1", "[::1]"].contains(host): return nil
        case "http": return "has to begin with https: only to this machine may events go without TLS"
        default: return "has to begin with https"
        }
    }
}
