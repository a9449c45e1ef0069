internal import Foundation
internal import HTTPTypes
internal import Hummingbird

/// What went wrong, for programs: application/problem+json (RFC 9457).
struct Problem: Encodable {
    private var type = "about:blank"
    private var title: String
    private var status: Int
    private var detail: String?

    init(_ status: HTTPResponse.Status, _ detail: String?) {
        title = status.reasonPhrase
        self.status = status.code
        self.detail = detail
    }

    static func response(_ status: HTTPResponse.Status, _ detail: String?, _ headers: HTTPFields = [:]) -> Response {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let body = (try? encoder.encode(Problem(status, detail))) ?? Data()
        var headers = headers
        headers[.contentType] = "application/problem+json"
        return Response(status: status, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: body)))
    }
}

extension Request {
    /// A browser that shows a page, not a program.
    var wantsPage: Bool {
        !uri.path.hasPrefix("/api/") && headers[values: .accept].contains { $0.contains("text/html") }
    }
}
