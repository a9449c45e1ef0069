internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import Ledger
internal import NIOCore
internal import Synchronization
internal import WorkerProtocol

/// Parts of pages that are asked for again at news: each is made once for all who look at the same, and sent only to
/// who has another.
final class LiveFragments: Sendable {
    /// What makes two fragments the same.
    struct Key: Hashable, Sendable {
        /// Path and query, as far as it is understood.
        var content: String
        var showsPatients: Bool
    }

    private struct Made: Sendable {
        var version: Int
        var at: Date
        var task: Task<Fragment, any Error>
        /// Of the last who asked.
        var use: Int
    }

    private struct Fragment: Sendable {
        var bytes: ByteBuffer
        var tag: String
    }

    private static let mostKept = 64
    /// Some of what is shown changes with the time alone.
    private static let mostAge: TimeInterval = 30

    private let hub: LiveHub
    private let clock: WallClock
    private let made = Mutex<(uses: Int, fragments: [Key: Made])>((0, [:]))

    init(hub: LiveHub, clock: WallClock) {
        self.hub = hub
        self.clock = clock
    }

    func response(_ key: Key, to request: Request, _ make: @escaping @Sendable () async throws -> HTML) async throws
        -> Response
    {
        let fragment = try await fragment(key, make)
        let headers: HTTPFields = [.eTag: fragment.tag, .cacheControl: "no-cache, private"]
        if request.headers[.ifNoneMatch] == fragment.tag { return Response(status: .notModified, headers: headers) }
        var response = Response(status: .ok, headers: headers, body: .init(byteBuffer: fragment.bytes))
        response.headers[.contentType] = "text/html; charset=utf-8"
        return response
    }

    private func fragment(_ key: Key, _ make: @escaping @Sendable () async throws -> HTML) async throws -> Fragment {
        guard let version = hub.version else { return Self.fragment(try await make()) }
        let now = clock.now()
        let task = made.withLock { made in
            made.uses += 1
            if let known = made.fragments[key], known.version == version,
                (0..<Self.mostAge).contains(now.timeIntervalSince(known.at))
            {
                made.fragments[key]?.use = made.uses
                return known.task
            }
            // It is everybody's: nobody's leaving ends it. It reads the ledger once and is bounded by that.
            let task = Task(priority: .utility) { Self.fragment(try await make()) }
            made.fragments[key] = Made(version: version, at: now, task: task, use: made.uses)
            if made.fragments.count > Self.mostKept,
                let oldest = made.fragments.min(by: { $0.value.use < $1.value.use })
            {
                made.fragments[oldest.key] = nil
            }
            return task
        }
        do { return try await task.value } catch {
            made.withLock { made in if made.fragments[key]?.task == task { made.fragments[key] = nil } }
            throw error
        }
    }

    private static func fragment(_ html: HTML) -> Fragment {
        let tag = "\"\(SHA256Digest.hex(of: [html.text]).prefix(24))\""
        return Fragment(bytes: ByteBuffer(string: html.text), tag: tag)
    }
}
