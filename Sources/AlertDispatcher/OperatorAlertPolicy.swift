public import Foundation
public import Ledger
internal import WorkerProtocol

/// What the node knows of itself at one moment.
public struct OperatorFacts: Sendable {
    public struct Certificate: Sendable, Equatable {
        /// Path.
        public var file: String
        /// nil where it cannot be used at all.
        public var expires: Date?
        public init(file: String, expires: Date?) {
            self.file = file
            self.expires = expires
        }
    }

    /// Without studies that are no head CT.
    public var work: OpenWork
    /// Destinations that nothing reaches, and since when.
    public var unreachable: [String: Date]
    /// nil where it is not known.
    public var freeBytes: UInt64?
    /// The disk has so little room that associations are rejected.
    public var rejectsForRoom: Bool
    /// Children that died within the policy's window, by verb.
    public var crashes: [String: Int]
    public var certificates: [Certificate]

    public init(
        work: OpenWork = OpenWork(), unreachable: [String: Date] = [:], freeBytes: UInt64? = nil,
        rejectsForRoom: Bool = false, crashes: [String: Int] = [:], certificates: [Certificate] = []
    ) {
        self.work = work
        self.unreachable = unreachable
        self.freeBytes = freeBytes
        self.rejectsForRoom = rejectsForRoom
        self.crashes = crashes
        self.certificates = certificates
    }
}

/// From when on something is an operator's business. Pure: facts in, conditions out.
public struct OperatorAlertPolicy: Sendable, Equatable {
    public var noResult: Duration
    public var destinationFailing: Duration
    /// Free space, bytes.
    public var diskBelow: UInt64
    /// More than so many within the window.
    public var crashes: Int
    public var crashWindow: Duration
    /// Validity that is left.
    public var certificate: Duration

    public init(
        noResult: Duration, destinationFailing: Duration, diskBelow: UInt64, crashes: Int, crashWindow: Duration,
        certificate: Duration
    ) {
        self.noResult = noResult
        self.destinationFailing = destinationFailing
        self.diskBelow = diskBelow
        self.crashes = crashes
        self.crashWindow = crashWindow
        self.certificate = certificate
    }

    /// Room that has to be there beyond `diskBelow` before a short disk is over: one at the brink raises no alert a
    /// minute.
    private static let diskSlack = 1.05

    /// - Parameter active: kinds of which something is active.
    public func conditions(
        _ facts: OperatorFacts, active: Set<OperatorAlertKind>, at now: Date
    ) -> [OperatorCondition] {
        facts.work.studies.filter { isOverdue($0, at: now) }.map(Self.condition)
            + failing(facts, now) + facts.work.lanes.compactMap(Self.givenUp)
            + disk(facts, wasShort: active.contains(.diskShort))
            + crashConditions(facts.crashes)
            + facts.certificates.compactMap { certificate($0, now) }
            + facts.work.held.map {
                OperatorCondition(
                    .identityConflict, $0.string,
                    "study \($0) is held, and nothing of it is sent: two patients under one Study Instance UID, or one "
                        + "image in two series. Mend it at its source, or run `ichnode study release`")
            }
    }

    public func isOverdue(_ study: OpenWork.Study, at now: Date) -> Bool {
        Self.isOver(noResult, since: study.since, at: now)
    }

    /// A moment that lies further ahead, seconds, was taken by a clock that has been set back since: how long ago it
    /// was nobody knows.
    private static let mostAhead = 60.0

    private static func isOver(_ span: Duration, since moment: Date, at now: Date) -> Bool {
        let age = now.timeIntervalSince(moment)
        return age >= span.inSeconds || age < -mostAhead
    }

    private static func condition(_ study: OpenWork.Study) -> OperatorCondition {
        let standing =
            switch study.state {
            case .receiving: "it waits for more images, or for its analysis"
            case .analysing: "its analysis does not end"
            case .concluded where !study.refusedBy.isEmpty:
                "refused for good by \(study.refusedBy.joined(separator: ", "))"
            case .concluded where !study.owedTo.isEmpty: "not taken by \(study.owedTo.joined(separator: ", "))"
            case .concluded: "no route takes it, or none of its images is left"
            }
        return OperatorCondition(
            .noResult, study.studyInstanceUID.string,
            "nobody has a result of study \(study.studyInstanceUID), received from \(EventTime.text(study.since)) on: "
                + "\(standing). See `ichnode study show`")
    }

    /// Owed something for too long, or out of reach for as long while a fallback takes what is owed.
    private func failing(_ facts: OperatorFacts, _ now: Date) -> [OperatorCondition] {
        func isTooLong(_ since: Date?) -> Bool {
            since.map { Self.isOver(destinationFailing, since: $0, at: now) } ?? false
        }
        let owing = facts.work.lanes.filter { isTooLong($0.owedSince) }
        let unreachable = facts.unreachable.filter { name, since in
            isTooLong(since) && !owing.contains { $0.destination == name }
        }
        return owing.map { lane in
            OperatorCondition(
                .destinationFailing, lane.destination,
                "\(lane.destination) has not taken, or not committed, \(lane.owed) of what it is owed, the first "
                    + "since \(lane.owedSince.map { EventTime.text($0) } ?? "-"). `ichnode outbox list` says why")
        }
            + unreachable.sorted { $0.key < $1.key }.map { name, since in
                OperatorCondition(
                    .destinationFailing, name, "\(name) has been out of reach since \(EventTime.text(since))")
            }
    }

    private static func givenUp(_ lane: OpenWork.Lane) -> OperatorCondition? {
        guard lane.givenUp > 0 else { return nil }
        return OperatorCondition(
            .deliveryGivenUp, lane.destination,
            "\(lane.givenUp) deliveries to \(lane.destination) were given up. `ichnode outbox list` says why; "
                + "then `ichnode outbox retry` or `discard`")
    }

    private func disk(_ facts: OperatorFacts, wasShort: Bool) -> [OperatorCondition] {
        let enough = wasShort ? UInt64(Double(diskBelow) * Self.diskSlack) : diskBelow
        guard facts.rejectsForRoom || facts.freeBytes.map({ $0 < enough }) ?? false else { return [] }
        let gibibytes = facts.freeBytes.map { Double($0) / Double(1 << 30) }
        let free = gibibytes.map { String(format: "%.1f GiB are", $0) } ?? "too little is"
        let consequence = facts.rejectsForRoom ? "studies are rejected until there is room" : "make room"
        return [OperatorCondition(.diskShort, "spool", "\(free) free below the data directory: \(consequence)")]
    }

    private func crashConditions(_ crashes: [String: Int]) -> [OperatorCondition] {
        crashes.filter { $0.value > self.crashes }.sorted { $0.key < $1.key }.map { verb, count in
            OperatorCondition(
                .processCrashes, verb,
                "\(count) `\(verb)` processes died within \(Int(crashWindow.inSeconds / 60)) minutes: see the log")
        }
    }

    private func certificate(_ certificate: OperatorFacts.Certificate, _ now: Date) -> OperatorCondition? {
        guard let expires = certificate.expires else {
            return OperatorCondition(
                .certificateExpiring, certificate.file,
                "\(certificate.file) cannot be used: `ichnode config check` says why")
        }
        guard expires.timeIntervalSince(now) < self.certificate.inSeconds else { return nil }
        let verb = expires <= now ? "has expired" : "expires"
        return OperatorCondition(
            .certificateExpiring, certificate.file,
            "\(certificate.file) \(verb), on \(EventTime.text(expires)): renew it")
    }
}
