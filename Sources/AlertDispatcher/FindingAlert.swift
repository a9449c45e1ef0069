public import Foundation
public import Ledger
public import WorkerProtocol

/// What an alert says of one study, for whatever channel.
public struct FindingAlert: Sendable {
    public enum Kind: String, Codable, Sendable {
        /// A positive study of which nobody was told.
        case finding
        /// A study of which the receiver was told something else.
        case correction
    }

    public var kind: Kind
    public var studyInstanceUID: UID
    /// As the report has it.
    public var identity: CarriedIdentity
    public var presence: Presence
    /// One sentence: why, where the presence alone does not say it.
    public var reason: String
    /// nil where the study is undetermined.
    public var probability: Double?
    public var threshold: Double
    /// Of a positive study.
    public var urgency: Urgency
    /// SOP Instance UIDs of stored objects, feet → head, each once.
    public var flagged: [UID]
    public var model: ReportComposer.Algorithm
    /// The Structured Report that says the same.
    public var report: UID
    /// 1 for the first report on the study.
    public var revision: Int
    public var deviceUID: UID
    public var firstReceivedAt: Date
    public var lastReceivedAt: Date
    public var analysedAt: Date
    public var concludedAt: Date
    /// nil where the study's date is not known.
    public var studyMoment: StudyMoment?
}

/// Puts alerts into the words of one receiver; the destination of the same name delivers them.
public protocol AlertChannel: Sendable {
    var name: String { get }
    /// - Parameter told: what the receiver was sent about the study last, or is owed; nil: nothing.
    func message(of alert: FindingAlert, after told: OutboundMessage?) throws -> OutboundMessage
    /// Of one of its messages what makes another about the study worth sending: finding and patient.
    func said(by message: OutboundMessage) -> [String?]
}

/// Puts operators' alerts, raised or cleared, into the words of one receiver; the destination of the same name delivers
/// them.
public protocol OperatorAlertChannel: Sendable {
    var name: String { get }
    func messages(of changes: [OperatorAlertEntry], at moment: Date) throws -> [OutboundMessage]
}

/// Decides who is told what of a study.
public struct AlertDesk: Sendable {
    private let channels: [any AlertChannel]
    private let mostStudyAge: Duration
    private let timeZone: TimeZone

    /// - Parameters:
    ///   - mostStudyAge: of studies that were older when their first image came nobody is told: old ones are moved
    ///     between archives by the thousand.
    ///   - timeZone: of studies that do not say theirs.
    public init(_ channels: [any AlertChannel], mostStudyAge: Duration, timeZone: TimeZone = .current) {
        self.channels = channels
        self.mostStudyAge = mostStudyAge
        self.timeZone = timeZone
    }

    /// - Parameters:
    ///   - received: when the first and the last image came.
    ///   - route: of the study.
    ///   - earlier: deliveries of the study.
    /// - Returns: what is owed, and the receivers that would be told of a younger study.
    public func deliveries(
        of report: StudyReport, as composed: ComposedResult, received: ClosedRange<Date>, concludedAt: Date,
        by route: Route, priority: Int, after earlier: [DeliveryEntry]
    ) throws -> (owed: [NewDelivery], leftOut: [String]) {
        let alert = FindingAlert(
            kind: .finding, studyInstanceUID: report.studyInstanceUID, identity: composed.identity,
            presence: report.presence, reason: report.reason, probability: report.studyProbability,
            threshold: report.threshold, urgency: route.urgency,
            flagged: report.flagged.map(\.instance.record.storedSOPInstanceUID)
                .reduce(into: []) { if !$0.contains($1) { $0.append($1) } },
            model: composed.algorithm, report: composed.report.sopInstanceUID, revision: report.revision,
            deviceUID: composed.deviceUID,
            firstReceivedAt: received.lowerBound, lastReceivedAt: received.upperBound, analysedAt: report.startedAt,
            concludedAt: concludedAt, studyMoment: StudyMoment(composed.identity.study, timeZone: timeZone))
        var (owed, leftOut): ([NewDelivery], [String]) = ([], [])
        for channel in channels {
            // What was withdrawn before its receiver can have got it has told nobody anything.
            let told = earlier.last {
                $0.destination == channel.name && $0.message != nil && !($0.state == .discarded && $0.isUnheard)
            }?.message
            guard told != nil || route.alerts.contains(channel.name) else { continue }
            if let message = try message(of: alert, by: channel, after: told) {
                owed.append(NewDelivery(destination: channel.name, priority: priority, message: message))
            } else if told == nil, alert.presence == .present {
                leftOut.append(channel.name)
            }
        }
        return (owed, leftOut)
    }

    /// For the study's history; nil where nobody is left out.
    public func leavingOut(_ names: [String]) -> String? {
        guard !names.isEmpty else { return nil }
        let hours = String(format: "%g", mostStudyAge.inSeconds / 3600)
        return "\(names.joined(separator: ", ")) not told: the study was older than \(hours) hours when its first "
            + "image came (alerts.most_study_age_hours)"
    }

    /// Positives are told. Who was told is told what becomes of it, also where another route takes the study by then.
    func message(
        of alert: FindingAlert, by channel: any AlertChannel, after told: OutboundMessage?
    ) throws -> OutboundMessage? {
        guard let told else { return isDue(alert) ? try channel.message(of: alert, after: nil) : nil }
        var alert = alert
        alert.kind = .correction
        let message = try channel.message(of: alert, after: told)
        return channel.said(by: message) == channel.said(by: told) ? nil : message
    }

    /// A study of unknown age may be new. Nor does it grow old because the node was down, or held it.
    private func isDue(_ alert: FindingAlert) -> Bool {
        guard alert.presence == .present else { return false }
        guard let began = alert.studyMoment?.latest else { return true }
        return min(alert.firstReceivedAt, alert.concludedAt).timeIntervalSince(began) <= mostStudyAge.inSeconds
    }
}
