public import Foundation
public import WorkerProtocol

/// When a study began: Study Date and Time (PS3.3 C.7.2.1), which are local time.
public struct StudyMoment: Sendable, Equatable {
    /// The latest moment that is meant: of what the data set leaves open, and of an hour that clocks show twice.
    public let latest: Date
    /// As HL7 has it (TS, HL7 v2.5.1 §2.A.77), no more precise than it is known.
    public let hl7: String

    /// - Parameter timeZone: holds where the data set has no possible Timezone Offset From UTC (0008,0201).
    /// - Returns: nil without a date that is one.
    public init?(_ study: StudyAttributes, timeZone: TimeZone) {
        guard let date = Self.date(study.date ?? "") else { return nil }
        let time = Self.time(study.time ?? "")
        let known = time.compactMap { $0 }
        // A leap second is the one before it.
        let rest = [min(time[0] ?? 23, 23), min(time[1] ?? 59, 59), min(time[2] ?? 59, 59)]
        let local = date.midnight + Double(rest[0] * 3600 + rest[1] * 60 + rest[2])
        let offset = Self.offset(study.timezoneOffset ?? "") ?? Self.leastOffset(ofLocal: local, timeZone)
        latest = Date(timeIntervalSince1970: local - Double(offset))
        let digits = rest.prefix(known.count).map { Self.twoDigits($0) }.joined()
        hl7 = date.digits + digits + (known.isEmpty ? "" : Self.text(ofOffset: offset))
    }

    // MARK: Parts

    private static let calendar: Calendar = {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = TimeZone(secondsFromGMT: 0) ?? calendar.timeZone
        return calendar
    }()

    /// DA; seconds since 1970 of its midnight, as if it were UTC.
    private static func date(_ text: String) -> (digits: String, midnight: TimeInterval)? {
        // With points before version 3.0 of the standard (PS3.5 §6.2, note to DA).
        guard let match = text.wholeMatch(of: /([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})/), let year = Int(match.1),
            let month = Int(match.3), let day = Int(match.4)
        else { return nil }
        let components = DateComponents(calendar: calendar, year: year, month: month, day: day)
        guard components.isValidDate, let date = components.date else { return nil }
        return ("\(match.1)\(match.3)\(match.4)", date.timeIntervalSince1970)
    }

    /// TM: hours, minutes and seconds; nil from where it ends, or is none.
    private static func time(_ text: String) -> [Int?] {
        guard let match = text.wholeMatch(of: /([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.[0-9]*)?)?)?/),
            let hours = Int(match.1), hours < 24
        else { return [nil, nil, nil] }
        guard let minutes = match.2.flatMap({ Int($0) }), minutes < 60 else { return [hours, nil, nil] }
        guard let seconds = match.3.flatMap({ Int($0) }), seconds <= 60 else { return [hours, minutes, nil] }
        return [hours, minutes, seconds]
    }

    /// (0008,0201): -1200 to +1400 (PS3.3 C.12.1.1.8). Seconds.
    private static func offset(_ text: String) -> Int? {
        guard let match = text.wholeMatch(of: /([+-])([0-9]{2})([0-9]{2})/), let hours = Int(match.2),
            let minutes = Int(match.3), minutes < 60
        else { return nil }
        let seconds = (hours * 3600 + minutes * 60) * (match.1 == "-" ? -1 : 1)
        return (-12 * 3600...14 * 3600).contains(seconds) ? seconds : nil
    }

    /// Of the offsets with which the zone's clocks show a time, the one that makes it latest. Where clocks are put
    /// forward and never show it, the one before that counts on.
    private static func leastOffset(ofLocal local: TimeInterval, _ timeZone: TimeZone) -> Int {
        func offset(at seconds: TimeInterval) -> Int {
            timeZone.secondsFromGMT(for: Date(timeIntervalSince1970: seconds))
        }
        let around = [offset(at: local - 86400), offset(at: local + 86400)]
        let shown = around.filter { offset(at: local - Double($0)) == $0 }
        return (shown.isEmpty ? around : shown).min() ?? 0
    }

    private static func text(ofOffset seconds: Int) -> String {
        let minutes = abs(seconds) / 60
        return (seconds < 0 ? "-" : "+") + twoDigits(minutes / 60) + twoDigits(minutes % 60)
    }

    private static func twoDigits(_ number: Int) -> String { (number < 10 ? "0" : "") + "\(number)" }
}
