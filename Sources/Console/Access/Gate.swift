internal import Hummingbird

/// Decides who a visitor is, and whether a route answers to them.
protocol Gate: Sendable {
    /// Sets `context.visitor`. `context.form` is read by then.
    /// - Returns: what is answered in the route's place; nil: the route answers.
    func admit(_ request: Request, to route: ConsoleRoute, _ context: inout ConsoleContext) async throws -> Response?
}

/// Where nobody can sign in: what is without patients.
struct ClosedGate: Gate {
    func admit(_ request: Request, to route: ConsoleRoute, _ context: inout ConsoleContext) async throws -> Response? {
        switch route.access {
        case .open, .overview: return nil
        case .patients, .acting: throw HTTPError(.forbidden, message: "for users that sign in: none are configured")
        }
    }
}
