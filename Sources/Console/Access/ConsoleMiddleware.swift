internal import HTTPTypes
internal import Hummingbird
internal import Logging

/// Around every request: whether it is for us, what is said of errors, and what browsers have to know of any answer.
struct ConsoleMiddleware: RouterMiddleware {
    typealias Context = ConsoleContext

    let settings: ConsoleSettings

    func handle(
        _ request: Request, context: ConsoleContext, next: (Request, ConsoleContext) async throws -> Response
    ) async throws -> Response {
        var response = await answer(request, context, next)
        SecurityHeaders.add(to: &response.headers, isSecure: settings.isSecure)
        return response
    }

    private func answer(
        _ request: Request, _ context: ConsoleContext, _ next: (Request, ConsoleContext) async throws -> Response
    ) async -> Response {
        guard RequestChecks.isForUs(request, settings) else {
            return Self.refusal(
                request, .misdirectedRequest, "the console does not go by this name: see console.host_names")
        }
        do { return try await next(request, context) } catch let error as HTTPError {
            return Self.refusal(request, error.status, error.body, error.headers)
        } catch let error as any HTTPResponseError {
            return Self.refusal(request, error.status, nil)
        } catch {
            context.logger.error(
                "the console could not answer", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
            return Self.refusal(request, .internalServerError, "the node's log says more")
        }
    }

    /// A page for whoever looks at one, else a problem for programs.
    static func refusal(
        _ request: Request, _ status: HTTPResponse.Status, _ detail: String?, _ headers: HTTPFields = [:]
    ) -> Response {
        guard request.wantsPage else { return Problem.response(status, detail, headers) }
        let explanation: HTML? = detail.map { "<p>\($0)</p>" }
        let title = titles[status.code] ?? status.reasonPhrase
        var response = Page(
            title: title, area: nil, visitor: Visitor(),
            content: """
                <section class="card"><h1>\(title)</h1>\(explanation)\
                <p><a href="/">To the worklist</a></p></section>
                """
        ).response(status)
        for field in headers { response.headers.append(field) }
        return response
    }

    private static let titles = [
        400: "This request cannot be read", 403: "Not allowed", 404: "Not found", 413: "Too large",
        421: "Not the name of this console", 500: "Something went wrong",
    ]
}
