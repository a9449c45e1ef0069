internal import Foundation
internal import Ledger

/// Times, spans and sizes as the pages write them: in the machine's time zone, to the second, sortable by eye.
enum Words {
    static func time(_ date: Date) -> String { date.formatted(moment) }
    static func time(_ date: Date?) -> String { date.map(time) ?? "–" }

    private static let moment = Date.VerbatimFormatStyle(
        format: """
            \(year: .defaultDigits)-\(month: .twoDigits)-\(day: .twoDigits) \
            \(hour: .twoDigits(clock: .twentyFourHour, hourCycle: .zeroBased)):\(minute: .twoDigits):\
            \(second: .twoDigits)
            """, timeZone: .current, calendar: Calendar(identifier: .gregorian))

    /// `<time>`, with the exact moment for whoever asks.
    static func timeElement(_ date: Date) -> HTML {
        "<time datetime=\"\(date.ISO8601Format())\" class=\"nowrap\">\(time(date))</time>"
    }

    /// "0.8 s", "42 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
    static func span(_ seconds: TimeInterval) -> String {
        let whole = Int(max(0, seconds).rounded())
        switch max(0, seconds) {
        case ..<10: return String(format: "%.1f s", max(0, seconds))
        case ..<120: return "\(whole) s"
        case ..<7200: return "\(whole / 60) min \(whole % 60) s"
        case ..<172_800: return "\(whole / 3600) h \(whole % 3600 / 60) min"
        default: return "\(whole / 86400) d \(whole % 86400 / 3600) h"
        }
    }

    /// "3.2 GiB".
    static func bytes(_ count: UInt64) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(count)
        var unit = 0
        while value >= 1024 && unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return unit == 0 ? "\(count) B" : String(format: "%.1f %@", value, units[unit])
    }

    static func probability(_ value: Double) -> String { String(format: "%.3f", value) }
}

extension HTML {
    /// An outcome, or where the study stands, in a word and its colour.
    static func standing(_ state: StudyState, _ outcome: Outcome?) -> HTML {
        guard state == .concluded, let outcome else {
            return "<span class=\"tag busy\">\(state.rawValue)</span>"
        }
        switch outcome {
        case .positive: return "<span class=\"tag positive\">positive</span>"
        case .undetermined: return "<span class=\"tag warning\">undetermined</span>"
        // Not the colour of what is well: it is no proof that nothing bleeds.
        case .negative: return "<span class=\"tag\">negative</span>"
        case .notHeadCT: return "<span class=\"tag\">not a head CT</span>"
        }
    }
}
