internal import HTTPTypes
internal import Hummingbird
internal import Ledger
internal import Logging

/// Around every request: whether it is for us, what is said of errors, and what browsers have to know of any answer.
struct ConsoleMiddleware: RouterMiddleware {
    typealias Context = ConsoleContext

    let settings: @Sendable () -> ConsoleSettings
    let gate: any Gate

    func handle(
        _ request: Request, context: ConsoleContext, next: (Request, ConsoleContext) async throws -> Response
    ) async throws -> Response {
        var response = await answer(request, context, next)
        SecurityHeaders.add(to: &response.headers, isSecure: settings().isSecure)
        return response
    }

    private func answer(
        _ request: Request, _ context: ConsoleContext, _ next: (Request, ConsoleContext) async throws -> Response
    ) async -> Response {
        guard RequestChecks.isForUs(request, settings()) else {
            let error = HTTPError(
                .misdirectedRequest, message: "the console does not go by this name: see console.host_names")
            return Self.response(to: error, request, context)
        }
        do { return try await next(request, context) } catch {
            var context = context
            context.visitor = gate.visitor(of: request)
            return Self.response(to: error, request, context)
        }
    }

    /// Without anything of the node's inside.
    static func response(to error: any Error, _ request: Request, _ context: ConsoleContext) -> Response {
        switch error {
        case let error as HTTPError: return refusal(error.status, error.body, error.headers, request, context)
        case let error as LedgerBusy:
            return refusal(.serviceUnavailable, "\(error)", [.retryAfter: "2"], request, context)
        case let error as any HTTPResponseError: return refusal(error.status, nil, [:], request, context)
        default:
            context.logger.error(
                "the console could not answer", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
            return refusal(.internalServerError, "the node's log says more", [:], request, context)
        }
    }

    /// A page for whoever looks at one, else a problem for programs.
    private static func refusal(
        _ status: HTTPResponse.Status, _ detail: String?, _ headers: HTTPFields, _ request: Request,
        _ context: ConsoleContext
    ) -> Response {
        guard request.wantsPage else { return Problem.response(status, detail, headers) }
        let explanation: HTML? = detail.map { "<p>\($0)</p>\n" }
        let title = titles[status.code] ?? status.reasonPhrase
        var response = Page(
            title: title, area: nil, visitor: context.visitor,
            content: """
                <section class="card"><h1>\(title)</h1>
                \(explanation)<p><a href="/">To the worklist</a></p></section>
                """
        ).response(status)
        for field in headers { response.headers.append(field) }
        return response
    }

    private static let titles = [
        400: "This request cannot be read", 403: "Not allowed", 404: "Not found", 413: "Too large",
        421: "Not the name of this console", 500: "Something went wrong", 503: "Busy",
    ]
}
