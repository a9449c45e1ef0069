internal import Hummingbird
internal import NIOCore

/// What is known of a request while it is answered.
struct ConsoleContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    var visitor = Visitor()
    /// Of a form that was posted.
    var form: [String: String] = [:]
    /// Of the connection: a proxy's, where there is one.
    let peer: SocketAddress?
    /// Whether the session that the request came with goes on: what is sent for longer asks now and then.
    var isStillAdmitted: @Sendable () -> Bool = { true }

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        peer = source.channel.remoteAddress
    }
}

/// One thing that can be asked of the console.
struct ConsoleRoute: Sendable {
    typealias Handler = @Sendable (Request, ConsoleContext) async throws -> Response

    var method: HTTPRequest.Method
    /// As Hummingbird's router takes it: `/studies/{uid}`.
    var path: String
    var access: Access
    var handler: Handler

    static func get(_ path: String, _ access: Access, _ handler: @escaping Handler) -> ConsoleRoute {
        ConsoleRoute(method: .get, path: path, access: access, handler: handler)
    }

    static func post(_ path: String, _ access: Access, _ handler: @escaping Handler) -> ConsoleRoute {
        ConsoleRoute(method: .post, path: path, access: access, handler: handler)
    }
}
