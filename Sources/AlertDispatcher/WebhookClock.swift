internal import AsyncHTTPClient
public import Foundation
internal import NIOCore
internal import NIOHTTP1

extension WebhookDestination {
    private static let timeout: TimeAmount = .seconds(5)

    /// How far the receiver's clock is ahead of this machine's, by the Date of its answer (RFC 9110 §6.6.1) to a HEAD
    /// request without a body for "/", which no receiver takes for an event. Seconds; nil where it does not tell.
    public static func clockDifference(to webhook: Webhook) async -> TimeInterval? {
        guard var url = URLComponents(string: webhook.url) else { return nil }
        (url.path, url.query) = ("/", nil)
        guard let text = url.string else { return nil }
        var request = HTTPClientRequest(url: text)
        request.method = .HEAD
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration(webhook))
        let answer = try? await client.execute(request, timeout: timeout)
        let difference = answer?.headers.first(name: "Date").flatMap(date)?.timeIntervalSinceNow
        try? await client.shutdown()
        return difference
    }

    private static func date(_ text: String) -> Date? {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "GMT")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss zzz"
        return formatter.date(from: text)
    }
}
