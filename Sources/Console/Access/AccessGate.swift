internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import Metrics
internal import Ledger
internal import WorkerProtocol

/// Knows visitors by the cookie of their session or by their token, and lets them where their role may go.
struct AccessGate: Gate {
    private let current: @Sendable () -> ConsoleSettings
    /// As of now: users, tokens and times may change.
    var settings: ConsoleSettings { current() }
    let sessions: SessionTable
    let limiter: SignInLimiter
    let audit: ConsoleAudit
    let desk = PasswordDesk()
    /// For tokens of the sign-in page, in this life of the node.
    let secret = Secrets.random()
    /// Compared with for users that do not exist.
    var nobody: PasswordHash { PasswordHash(ofNobodyLike: settings.users.map(\.password)) }

    /// - Parameter sessions: nil: a table of its own.
    init(
        _ settings: @escaping @Sendable () -> ConsoleSettings, audit: ConsoleAudit, sessions: SessionTable? = nil,
        clock: WallClock
    ) {
        current = settings
        self.audit = audit
        self.sessions = sessions ?? SessionTable(settings(), clock: clock)
        limiter = SignInLimiter(settings().lockOut, clock: clock)
    }

    var routes: [ConsoleRoute] { SignInRoutes(gate: self).routes }

    func admit(_ request: Request, to route: ConsoleRoute, _ context: inout ConsoleContext) async throws -> Response? {
        let isToken = request.headers[.authorization] != nil && route.access != .open
        let address = ClientAddress.of(request, peer: context.peer, isBehindProxy: settings.isBehindProxy)
        context.visitor = isToken ? try bearer(request, address) : visitor(of: request)
        context.visitor.address = address
        context.isStillAdmitted = stillAdmitted(context.visitor, request, isToken: isToken)
        try checkOrigin(request, route, context, isToken: isToken)
        return try refusal(request, route.access, context.visitor)
    }

    /// For what stays open: the session or token, or for want of users nobody's leave, has to be there still.
    private func stillAdmitted(_ visitor: Visitor, _ request: Request, isToken: Bool) -> @Sendable () -> Bool {
        if isToken {
            let token = token(of: request)
            return { [current] in token.map(current().tokens.contains) ?? false }
        }
        guard visitor.isSignedIn, let value = cookie(request) else {
            let wasOpen = settings.users.isEmpty
            return { [current] in current().users.isEmpty == wasOpen }
        }
        return { [sessions] in sessions.session(value, isUse: false) != nil }
    }

    // MARK: Who

    func visitor(of request: Request) -> Visitor {
        guard let value = cookie(request), let session = sessions.session(value, isUse: Self.isUse(request)) else {
            return Visitor()
        }
        return Visitor(user: session.user, role: session.role, csrfToken: session.csrfToken)
    }

    private static func isUse(_ request: Request) -> Bool {
        request.headers[.background] == nil && request.headers[.accept] != "text/event-stream"
    }

    private func bearer(_ request: Request, _ address: String) throws -> Visitor {
        if let token = token(of: request) { return Visitor(user: token.name, role: token.role) }
        audit.tell(.signInRefused(user: "bearer token", address: address, reason: "the token is not known"))
        throw Self.unauthorized("the token is not known", error: "invalid_token")
    }

    private func token(of request: Request) -> ConsoleSettings.Token? {
        let parts = request.headers[.authorization]?.split(separator: " ") ?? []
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        let digest = APIToken.digest(of: String(parts[1]))
        return settings.tokens.first { $0.sha256 == digest }
    }

    /// RFC 6750 §3.
    private static func unauthorized(_ reason: String, error: String? = nil) -> HTTPError {
        let challenge = "Bearer realm=\"ichnode\"" + (error.map { ", error=\"\($0)\"" } ?? "")
        return HTTPError(.unauthorized, headers: [.wwwAuthenticate: challenge], message: reason)
    }

    // MARK: Whether it was meant

    /// Browsers send cookies along with whatever another site makes them send.
    private func checkOrigin(
        _ request: Request, _ route: ConsoleRoute, _ context: ConsoleContext, isToken: Bool
    ) throws {
        guard request.method != .get, request.method != .head, !isToken else { return }
        if RequestChecks.isFromElsewhere(request) {
            throw HTTPError(.forbidden, message: "this form was sent by another site")
        }
        // Signing in has a token of its own.
        guard context.visitor.isSignedIn, route.access != .open else { return }
        let given = context.form["csrf"] ?? request.headers[.csrfToken] ?? ""
        guard Secrets.areEqual(given, context.visitor.csrfToken) else {
            throw HTTPError(.forbidden, message: "this form is out of date: go back, load the page again and repeat it")
        }
    }

    // MARK: Whether it is allowed

    private func refusal(_ request: Request, _ access: Access, _ visitor: Visitor) throws -> Response? {
        switch access {
        case .open: return nil
        case .overview: if visitor.isSignedIn || settings.users.isEmpty { return nil }
        case .patients: if visitor.maySeePatients { return nil }
        case .acting:
            if visitor.mayAct { return nil }
            if visitor.isSignedIn {
                throw HTTPError(.forbidden, message: "for operators: \(visitor.user ?? "") has the role viewer")
            }
        }
        guard request.wantsPage else { throw Self.unauthorized("sign in, or send a token") }
        let next = request.method == .get ? RequestChecks.localPath(request.uri.string) : "/"
        return .redirect(to: "/sign-in" + (next == "/" ? "" : "?next=\(Self.encoded(next))"), type: .normal)
    }

    private static func encoded(_ path: String) -> String {
        path.utf8.map { byte in
            let character = Character(UnicodeScalar(byte))
            return character.isLetter || character.isNumber || "/-._~".contains(character)
                ? String(character) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }.joined()
    }

    // MARK: Cookies

    /// With HTTPS, __Host- keeps other hosts of the domain from setting it (RFC 6265bis §4.1.3).
    private var cookieName: String { settings.isSecure ? "__Host-ichnode" : "ichnode" }

    func cookie(_ request: Request, _ suffix: String = "") -> String? { request.cookies[cookieName + suffix]?.value }

    /// - Parameter value: nil takes it away.
    func setCookie(_ value: String?, _ suffix: String = "") -> String {
        "\(cookieName)\(suffix)=\(value ?? ""); Path=/; HttpOnly; SameSite=Strict"
            + (settings.isSecure ? "; Secure" : "") + (value == nil ? "; Max-Age=0" : "")
    }
}
