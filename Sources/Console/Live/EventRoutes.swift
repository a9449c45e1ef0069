internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// `/events?topics=studies,alerts`: server-sent events that say that something changed, and that the line is alive.
/// What changed a page asks for itself: `live.js`.
struct EventRoutes {
    let hub: LiveHub

    var routes: [ConsoleRoute] {
        [
            .get("/events", .overview) { [hub] request, context in
                guard let topics = Self.topics(request, most: hub.limits.topics) else {
                    throw HTTPError(.badRequest, message: "topics: studies, study:UID, deliveries, alerts")
                }
                guard hub.hasRoom else {
                    throw HTTPError(.serviceUnavailable, message: "too many pages are live")
                }
                return Response(
                    status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-store"],
                    body: ResponseBody { writer in
                        // Only now: a body that nobody asks for opens nothing.
                        guard let stream = hub.open(topics) else { return try await writer.finish(nil) }
                        defer { hub.close(stream) }
                        try await Self.write(stream, of: hub, to: writer, request, while: context.isStillAdmitted)
                    })
            }
        ]
    }

    private static func topics(_ request: Request, most: Int) -> Set<LiveTopic>? {
        guard let names = request.uri.queryParameters.get("topics")?.split(separator: ",") else { return nil }
        let topics = names.compactMap { LiveTopic(String($0)) }
        guard !topics.isEmpty, topics.count == names.count, topics.count <= most else { return nil }
        return Set(topics)
    }

    /// Until the reader goes or is too slow, their session ends, or the node stops.
    private static func write(
        _ stream: LiveHub.Stream, of hub: LiveHub, to writer: any ResponseBodyWriter, _ request: Request,
        while isStillAdmitted: @escaping @Sendable () -> Bool
    ) async throws {
        // Safe because one task uses it at a time.
        nonisolated(unsafe) var writer = writer
        try await request.body.consumeWithCancellationOnInboundClose { _ in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await writer.write(ByteBuffer(string: "event: open\ndata:\n\n"))
                    for await _ in stream.signals {
                        guard isStillAdmitted() else { return }
                        let news = hub.news(for: stream).map(\.text).joined(separator: " ")
                        let event = news.isEmpty ? "event: alive\ndata:\n\n" : "event: changed\ndata: \(news)\n\n"
                        try await writer.write(ByteBuffer(string: event))
                        hub.wasTaken(by: stream)
                    }
                }
                group.addTask {
                    for await _ in stream.isKept {}
                    throw CancellationError()
                }
                try await group.next()
                group.cancelAll()
            }
        }
        try await writer.finish(nil)
    }
}
