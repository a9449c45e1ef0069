public import Foundation

/// How long each of several things took.
public struct Spans: Sendable, Equatable {
    /// Ascending, seconds.
    public let seconds: [TimeInterval]

    public init(_ seconds: [TimeInterval] = []) { self.seconds = seconds.sorted() }

    public var count: Int { seconds.count }

    /// Of fewer a percentile says nothing.
    public static let leastCount = 5

    /// The nearest rank: a time that one of them did take.
    /// - Parameter percent: above 0, at most 100.
    /// - Returns: nil where there are too few.
    public func percentile(_ percent: Double) -> TimeInterval? {
        guard count >= Self.leastCount else { return nil }
        return seconds[max(0, Int((percent / 100 * Double(count)).rounded(.up)) - 1)]
    }
}

/// What became of the studies of some days, and how long it took. A study is of the day of its last image.
public struct StudyFigures: Sendable, Equatable {
    public struct Day: Sendable, Equatable {
        public var interval: DateInterval
        public var outcomes: [Outcome: Int] = [:]
        /// Without an outcome so far.
        public var open = 0
        public var toFlag = Spans()

        public var studies: Int { outcomes.values.reduce(open, +) }
        public init(_ interval: DateInterval) { self.interval = interval }
    }

    /// From the last image that the latest analysis saw to the first acceptance of its report.
    public struct Flag: Sendable, Equatable {
        /// Of the study's last image.
        public var at: Date
        public var seconds: TimeInterval
    }

    public struct Sender: Sendable, Equatable {
        /// nil: not known.
        public var callingAETitle: String?
        public var studies = 0
        public var undetermined = 0
        public init(callingAETitle: String?, studies: Int = 0, undetermined: Int = 0) {
            (self.callingAETitle, self.studies, self.undetermined) = (callingAETitle, studies, undetermined)
        }
    }

    public struct Counted: Sendable, Equatable {
        public var text: String
        public var count: Int
        public init(_ text: String, _ count: Int) { (self.text, self.count) = (text, count) }
    }

    public struct Destination: Sendable, Equatable {
        public var name: String
        /// Of what was delivered: from owed to delivered.
        public var delivered = Spans()
        /// Not yet taken.
        public var owed = 0
        public var givenUp = 0
    }

    public var days: [Day]
    public var flags: [Flag] = []
    /// Most studies first.
    public var senders: [Sender] = []
    /// Which rule let studies through, most frequent first; once for each time that one was put together.
    public var completions: [Counted] = []
    /// Why studies are undetermined, most frequent first; numbers in reasons are left out.
    public var undetermined: [Counted] = []
    public var destinations: [Destination] = []

    public init(days: [Day]) { self.days = days }

    public func toFlag(since moment: Date) -> Spans { Spans(flags.filter { $0.at >= moment }.map(\.seconds)) }

    /// The days up to and with that of a moment, each from midnight to midnight: 23 or 25 hours where clocks change.
    public static func days(_ count: Int, until moment: Date, in calendar: Calendar) -> [DateInterval] {
        (0..<count).reversed().compactMap { back in
            calendar.date(byAdding: .day, value: -back, to: moment).flatMap { calendar.dateInterval(of: .day, for: $0) }
        }
    }
}

/// What waits and what is held, at a glance.
public struct LedgerStanding: Sendable, Equatable {
    public struct Queue: Sendable, Equatable {
        public var count = 0
        /// nil where there is none.
        public var oldest: Date?
        public init(count: Int = 0, oldest: Date? = nil) { (self.count, self.oldest) = (count, oldest) }
    }

    public var receiving = Queue()
    public var analysing = Queue()
    public var pending = Queue()
    /// Accepted, not yet committed.
    public var uncommitted = Queue()
    public var givenUp = Queue()
    /// Start and end of the latest analysis.
    public var latestAnalysis: DateInterval?
    public init() {}
}

/// Images that the spool has, and those that came lately.
public struct SpoolStanding: Sendable, Equatable {
    public struct Amount: Sendable, Equatable {
        public var studies = 0
        public var images = 0
        public var bytes: UInt64 = 0
        public init(studies: Int = 0, images: Int = 0, bytes: UInt64 = 0) {
            (self.studies, self.images, self.bytes) = (studies, images, bytes)
        }
    }

    /// Of studies that have files.
    public var held = Amount()
    public var oldest: Date?
    /// Since the moment that was asked for.
    public var received = Amount()
    public init() {}
}
