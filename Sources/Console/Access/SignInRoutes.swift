internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import Metrics
internal import WorkerProtocol

/// Signing in and out.
struct SignInRoutes {
    private static let suffix = "-sign-in"
    /// No user has a longer name: neither the audit trail nor the limiter has to hold one.
    static let mostNameBytes = 256

    let gate: AccessGate

    var routes: [ConsoleRoute] {
        [
            .get("/sign-in", .open) { request, context in
                let next = request.uri.queryParameters["next"].map(String.init)
                if context.visitor.isSignedIn { return .redirect(to: RequestChecks.localPath(next), type: .normal) }
                return page(request, next: next)
            },
            .post("/sign-in", .open) { request, context in await signIn(request, context) },
            .post("/sign-out", .overview) { request, context in signOut(request, context) },
        ]
    }

    // MARK: In

    private enum Verdict {
        case accepted(ConsoleSettings.User)
        case refused
        case paused(Double)
        case busy
        case broken
    }

    private func signIn(_ request: Request, _ context: ConsoleContext) async -> Response {
        let form = context.form
        guard let cookie = gate.cookie(request, Self.suffix),
            Secrets.areEqual(form["csrf"] ?? "", csrfToken(cookie))
        else {
            return page(request, next: form["next"], .forbidden, "This page was out of date: please try again.")
        }
        let (user, address) = (form["user"] ?? "", context.visitor.address)
        guard user.utf8.count <= Self.mostNameBytes else {
            count("refused")
            return wrong(request, next: form["next"])
        }
        switch await verdict(user, form["password"] ?? "", address) {
        case .accepted(let user): return accept(user, request, context, next: form["next"])
        case .refused:
            count("refused")
            refused(user, address, "wrong user name or password")
            return wrong(request, next: form["next"])
        case .paused(let seconds):
            count("paused")
            refused(user, address, "too many tries")
            let span = Words.span(seconds.rounded(.up))
            return page(
                request, next: form["next"], .tooManyRequests,
                "Too many tries. Signing in from here is locked for another \(span); nothing was compared.",
                retryAfter: seconds)
        case .busy:
            count("busy")
            return page(
                request, next: form["next"], .serviceUnavailable,
                "Too many are signing in at once: please try again in a few seconds.", retryAfter: 5)
        case .broken:
            count("broken")
            context.logger.error("passwords cannot be compared: scrypt was refused, for want of memory or by policy")
            return page(
                request, next: form["next"], .serviceUnavailable,
                "No password can be compared now; nothing was. The node's log says more.", retryAfter: 5)
        }
    }

    /// As slow for a user that does not exist as for a wrong password.
    private func verdict(_ name: String, _ password: String, _ address: String) async -> Verdict {
        if let seconds = gate.limiter.begin(name, address) { return .paused(seconds) }
        let user = gate.settings.users.first { $0.name == name }
        switch await gate.desk.compare(password, user?.password ?? gate.nobody) {
        case .busy:
            gate.limiter.withdraw(name, address)
            return .busy
        case .compared(nil):
            gate.limiter.withdraw(name, address)
            return .broken
        case .compared(let isRight?):
            guard let user, isRight else { return .refused }
            gate.limiter.succeeded(name, address)
            return .accepted(user)
        }
    }

    private func accept(
        _ user: ConsoleSettings.User, _ request: Request, _ context: ConsoleContext, next: String?
    ) -> Response {
        count("accepted")
        gate.audit.tell(.signedIn(user: user.name, address: context.visitor.address))
        // Never one that was there before somebody signed in.
        if let old = gate.cookie(request) { gate.sessions.end(old) }
        var response = Response.redirect(to: RequestChecks.localPath(next), type: .normal)
        for cookie in [gate.setCookie(gate.sessions.begin(user)), gate.setCookie(nil, Self.suffix)] {
            response.headers.append(HTTPField(name: .setCookie, value: cookie))
        }
        return response
    }

    private func refused(_ user: String, _ address: String, _ reason: String) {
        gate.audit.tell(.signInRefused(user: user, address: address, reason: reason))
    }

    private func wrong(_ request: Request, next: String?) -> Response {
        page(request, next: next, .forbidden, "Wrong user name or password.")
    }

    private func count(_ outcome: String) {
        Counter(label: "ichnode_console_sign_ins_total", dimensions: [("outcome", outcome)]).increment()
    }

    // MARK: Out

    private func signOut(_ request: Request, _ context: ConsoleContext) -> Response {
        if let value = gate.cookie(request), let user = context.visitor.user {
            gate.sessions.end(value)
            gate.audit.tell(.signedOut(user: user, address: context.visitor.address))
        }
        return Response(status: .seeOther, headers: [.location: "/sign-in", .setCookie: gate.setCookie(nil)])
    }

    // MARK: The page

    /// Who has not the cookie cannot have the token.
    private func csrfToken(_ cookie: String) -> String { SHA256Digest.hex(of: [gate.secret, cookie]) }

    private func page(
        _ request: Request, next: String?, _ status: HTTPResponse.Status = .ok, _ problem: String? = nil,
        retryAfter: Double? = nil
    ) -> Response {
        let held = gate.cookie(request, Self.suffix).flatMap { $0.utf8.count == 43 ? $0 : nil }
        let cookie = held ?? Secrets.random()
        let visitor = Visitor(csrfToken: csrfToken(cookie))
        let content = gate.settings.users.isEmpty ? Self.nobodyYet : form(visitor, next, problem)
        var response = Page(title: "Sign in", area: nil, visitor: visitor, styles: ["sign-in.css"], content: content)
            .response(status)
        response.headers[.setCookie] = gate.setCookie(cookie, Self.suffix)
        if let retryAfter { response.headers[.retryAfter] = "\(Int(retryAfter.rounded(.up)))" }
        return response
    }

    private func form(_ visitor: Visitor, _ next: String?, _ problem: String?) -> HTML {
        let notice: HTML? = problem.map { "<p class=\"notice error\" role=\"alert\">\($0)</p>" }
        return """
            <section class="card sign-in"><h1>Sign in</h1>
            \(notice)
            <form method="post" action="/sign-in">\(visitor.csrfField)
            <input type="hidden" name="next" value="\(RequestChecks.localPath(next))">
            <label>User name
            <input name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus>
            </label>
            <label>Password
            <input name="password" type="password" autocomplete="current-password" required></label>
            <button class="primary">Sign in</button>
            </form></section>
            """
    }

    private static let nobodyYet: HTML = """
        <section class="card sign-in"><h1>Nobody can sign in yet</h1>
        <p>Studies and their patients are shown to users alone, and none is configured. Whoever looks after this node
        adds one:</p>
        <ol>
        <li>On the node, <code>ichnode console hash-password</code> asks for a password and prints its hash.</li>
        <li>The hash goes into the configuration:
        <pre>console:
          users:
            - name: alice
              role: operator
              password_hash: "$scrypt$…"</pre></li>
        <li><code>systemctl reload ichnode</code></li>
        </ol>
        <p><a href="/">To the overview, without patients</a></p></section>
        """
}
