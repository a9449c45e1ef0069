internal import Foundation
internal import Ledger
internal import WorkerProtocol

/// What the API says, apart from what the ledger keeps: docs/openapi.yaml promises these names. What is not known is
/// left out. Messages to other systems are never part of it.
enum API {
    struct StudyList: Encodable {
        var studies: [Study]
        var total: Int
        var limit: Int
        var offset: Int
    }

    struct Study: Encodable {
        var studyInstanceUID: String
        var state: String
        var outcome: String?
        var reason: String?
        var studyProbability: Double?
        var decision: String?
        var patientName: String?
        var patientID: String?
        var birthDate: String?
        var sex: String?
        var accessionNumber: String?
        var description: String?
        var studyDate: String?
        var studyTime: String?
        var callingAETitle: String?
        var calledAETitle: String?
        var instanceCount: Int
        var purgedCount: Int
        var pendingDeliveries: Int
        var firstReceivedAt: Date
        var lastReceivedAt: Date
        var concludedAt: Date?
        var flaggedAt: Date?
    }

    struct StudyDetail: Encodable {
        var study: Study
        var series: [Series]
        var analyses: [Analysis]
        var deliveries: [Delivery]
        var events: [Event]

        /// Of each list, the latest.
        static let most = 500
    }

    struct Series: Encodable {
        var seriesInstanceUID: String
        var number: Int?
        var description: String?
        var instanceCount: Int
        var verdict: String
        var reason: String
    }

    struct Explanation: Encodable {
        var studyInstanceUID: String
        var standing: String
        var series: [Series]
    }

    struct Analysis: Encodable {
        var outcome: String
        var reason: String
        var completion: String
        var startedAt: Date
        var completedAt: Date
        var studyProbability: Double?
        var threshold: Double?
        var flaggedSlices: Int
        var route: String
        var seriesInstanceUID: String?
        var reportSOPInstanceUID: String?
        var revisionDigest: String
        var modelDigest: String
        var configurationDigest: String
    }

    struct Event: Encodable {
        var at: Date
        var kind: String
        var text: String
    }

    struct DeliveryList: Encodable {
        var deliveries: [Delivery]
        var total: Int
        var limit: Int
        var offset: Int
    }

    struct Delivery: Encodable {
        var id: Int64
        var studyInstanceUID: String?
        var destination: String
        var state: String
        var kind: String
        var attempts: Int
        var createdAt: Date
        var nextAttemptAt: Date?
        var deliveredAt: Date?
        var lastError: String?
        var takenBy: String?
        var messageID: String?
        var objects: [DeliveryObject]
    }

    struct DeliveryObject: Encodable {
        var sopClassUID: String
        var sopInstanceUID: String
        var state: String
        var status: Int?
        var reason: String?
    }

    struct AlertList: Encodable {
        var alerts: [Alert]
        var total: Int
        var limit: Int
        var offset: Int
    }

    struct Alert: Encodable {
        var id: Int64
        var kind: String
        var subject: String
        var text: String
        var occurrence: Int
        var raisedAt: Date
        var clearedAt: Date?
    }

    struct Health: Encodable {
        var ready: Bool
        var missing: String?
    }

    struct Done: Encodable {
        var done: String
    }

    static let outcomes: [(String, Outcome)] = [
        ("positive", .positive), ("negative", .negative), ("undetermined", .undetermined), ("notHeadCT", .notHeadCT),
    ]
    static let states = StudyState.allCases.map { ($0.rawValue, $0) }
    static let deliveryStates = DeliveryState.allCases.map { ($0.rawValue, $0) }
    static let orders = StudyQuery.Order.allCases.map { ($0.rawValue, $0) }

    static func word(_ outcome: Outcome) -> String { outcome == .notHeadCT ? "notHeadCT" : outcome.rawValue }
}

extension API.Study {
    init(_ entry: StudyEntry) {
        self.init(
            studyInstanceUID: entry.studyInstanceUID.string, state: entry.state.rawValue,
            outcome: entry.outcome.map(API.word), reason: entry.reason, studyProbability: entry.shownProbability,
            decision: entry.decision?.rawValue, patientName: entry.patientName, patientID: entry.patientID,
            birthDate: entry.birthDate, sex: entry.sex, accessionNumber: entry.accessionNumber,
            description: entry.description, studyDate: entry.studyDate, studyTime: entry.studyTime,
            callingAETitle: entry.callingAETitle, calledAETitle: entry.calledAETitle,
            instanceCount: entry.instanceCount, purgedCount: entry.purgedCount,
            pendingDeliveries: entry.pendingDeliveries, firstReceivedAt: entry.firstReceivedAt,
            lastReceivedAt: entry.lastReceivedAt, concludedAt: entry.concludedAt, flaggedAt: entry.flaggedAt)
    }
}

extension API.StudyDetail {
    init(_ detail: StudyDetail) {
        self.init(
            study: .init(detail.study), series: detail.series.prefix(Self.most).map(API.Series.init),
            analyses: detail.analyses.suffix(Self.most).map(API.Analysis.init),
            deliveries: detail.deliveries.suffix(Self.most).map(API.Delivery.init),
            events: detail.events.suffix(Self.most).map { .init(at: $0.at, kind: $0.kind, text: $0.text) })
    }
}

extension API.Series {
    init(_ entry: SeriesVerdictEntry) {
        self.init(
            seriesInstanceUID: entry.seriesInstanceUID.string, number: entry.number, description: entry.description,
            instanceCount: entry.instanceCount, verdict: entry.verdict, reason: entry.reason)
    }
}

extension API.Explanation {
    init(_ explanation: StudyExplanation) {
        self.init(
            studyInstanceUID: explanation.studyInstanceUID.string, standing: explanation.standing,
            series: explanation.series.prefix(API.StudyDetail.most).map(API.Series.init))
    }
}

extension API.Analysis {
    init(_ entry: AnalysisEntry) {
        self.init(
            outcome: API.word(entry.outcome), reason: entry.reason, completion: entry.completion,
            startedAt: entry.startedAt, completedAt: entry.completedAt, studyProbability: entry.shownProbability,
            threshold: entry.threshold, flaggedSlices: entry.flaggedSlices, route: entry.route,
            seriesInstanceUID: entry.seriesInstanceUID?.string,
            reportSOPInstanceUID: entry.report?.sopInstanceUID.string, revisionDigest: entry.revisionDigest,
            modelDigest: entry.modelDigest, configurationDigest: entry.configurationDigest)
    }
}

extension API.Delivery {
    init(_ entry: DeliveryEntry) {
        self.init(
            id: entry.id, studyInstanceUID: entry.studyInstanceUID?.string, destination: entry.destination,
            state: entry.state.rawValue, kind: entry.message == nil ? "objects" : "message", attempts: entry.attempts,
            createdAt: entry.createdAt, nextAttemptAt: entry.state == .pending ? entry.nextAttemptAt : nil,
            deliveredAt: entry.deliveredAt, lastError: entry.lastError, takenBy: entry.takenBy,
            messageID: entry.message?.id,
            objects: entry.objects.map {
                .init(
                    sopClassUID: $0.object.sopClassUID.string, sopInstanceUID: $0.object.sopInstanceUID.string,
                    state: $0.state.rawValue, status: $0.status.map(Int.init), reason: $0.reason)
            })
    }
}

extension API.Alert {
    init(_ entry: OperatorAlertEntry) {
        self.init(
            id: entry.id, kind: entry.kind.rawValue, subject: entry.subject, text: entry.text,
            occurrence: entry.occurrence, raisedAt: entry.raisedAt, clearedAt: entry.clearedAt)
    }
}
