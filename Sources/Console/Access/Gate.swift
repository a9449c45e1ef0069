internal import Hummingbird

/// Decides who a visitor is, and whether a route answers to them.
protocol Gate: Sendable {
    /// Of its own: signing in and out.
    var routes: [ConsoleRoute] { get }
    /// Whose browser it is, where no route answers.
    func visitor(of request: Request) -> Visitor
    /// Sets `context.visitor`. `context.form` is read by then.
    /// - Returns: what is answered in the route's place; nil: the route answers.
    func admit(_ request: Request, to route: ConsoleRoute, _ context: inout ConsoleContext) async throws -> Response?
}

extension Gate {
    var routes: [ConsoleRoute] { [] }
    func visitor(of request: Request) -> Visitor { Visitor() }
}
