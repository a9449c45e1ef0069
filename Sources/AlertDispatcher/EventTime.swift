internal import Foundation

/// Moments in events and texts: local time with its offset (RFC 3339).
enum EventTime {
    static func text(_ moment: Date, timeZone: TimeZone = .current) -> String {
        moment.formatted(
            Date.ISO8601FormatStyle(timeZone: timeZone).year().month().day().dateSeparator(.dash)
                .time(includingFractionalSeconds: false).timeZone(separator: .colon))
    }
}
