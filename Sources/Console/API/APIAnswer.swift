internal import Foundation
internal import HTTPTypes
internal import Hummingbird

/// How the API writes.
enum APIAnswer {
    static func json(_ value: some Encodable, _ status: HTTPResponse.Status = .ok) throws -> Response {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.dateEncodingStrategy = .custom { date, encoder in
            var container = encoder.singleValueContainer()
            try container.encode(date.formatted(moment))
        }
        return Response(
            status: status, headers: [.contentType: "application/json", .cacheControl: "no-store"],
            body: .init(byteBuffer: ByteBuffer(bytes: try encoder.encode(value))))
    }

    /// RFC 3339, UTC.
    private static let moment = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
}

/// Says which methods a path of the API answers to (RFC 9110 §15.5.6), and that there is no such path.
struct APIMethods: RouterMiddleware {
    typealias Context = ConsoleContext

    let routes: [ConsoleRoute]

    func handle(
        _ request: Request, context: ConsoleContext, next: (Request, ConsoleContext) async throws -> Response
    ) async throws -> Response {
        do { return try await next(request, context) } catch let error as HTTPError
            where error.status == .notFound && error.body == nil && request.uri.path.hasPrefix("/api/")
        {
            let methods = Self.methods(of: routes, at: request.uri.path)
            guard !methods.isEmpty else { throw HTTPError(.notFound, message: "the API has no such path") }
            let allowed = methods.joined(separator: ", ")
            throw HTTPError(.methodNotAllowed, headers: [.allow: allowed], message: "this path answers \(allowed) only")
        }
    }

    private static func methods(of routes: [ConsoleRoute], at path: String) -> [String] {
        let parts = path.split(separator: "/")
        return routes.filter { route in
            let pattern = route.path.split(separator: "/")
            return pattern.count == parts.count && zip(pattern, parts).allSatisfy { $0 == $1 || $0.hasPrefix("{") }
        }.map(\.method.rawValue).sorted()
    }
}
