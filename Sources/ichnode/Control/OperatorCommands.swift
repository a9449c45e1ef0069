import Foundation
import ICHModel
import Ledger
import StoreSCP
import WorkerProtocol

/// Operators' commands, from the command line and the console.
struct OperatorCommands: Sendable {
    let ledger: any Ledger
    let assembler: StudyAssembler
    /// Of now: they may change.
    let rules: @Sendable () -> SelectionRules
    /// nil where none is kept.
    let audit: AuditTrail?
    let standing: @Sendable () -> NodeStanding
    let reload: @Sendable (_ user: String) async -> ControlResponse

    /// - Parameter user: name of the local user, or of the console's.
    @Sendable func answer(_ request: ControlRequest, by user: String) async -> ControlResponse {
        var subject: UID?
        let response = await answer(request, &subject, user)
        if let audit, let (command, changes) = Self.audited(request), let subject {
            let failure: String? = if case .failed(let reason) = response { reason } else { nil }
            audit.record(
                .command(
                    OperatorAction(
                        command: command, changes: changes, user: user, studyInstanceUID: subject,
                        failure: failure)))
        }
        return response
    }

    /// Commands that do something about a study, and whether they change what the node keeps of it.
    private static func audited(_ request: ControlRequest) -> (command: String, changes: Bool)? {
        switch request {
        case .completeStudy: ("study complete", true)
        case .reprocessStudy: ("study reprocess", false)
        case .ignoreStudy: ("study ignore", true)
        case .releaseStudy: ("study release", true)
        case .resendStudy: ("study resend", false)
        case .retryDelivery(let id): ("outbox retry \(id)", false)
        case .discardDelivery(let id): ("outbox discard \(id)", true)
        case .listStudies, .showStudy, .explainStudy, .listDeliveries, .listOperatorAlerts, .showAudit, .showNode,
            .reloadConfiguration:
            nil
        }
    }

    /// - Parameter subject: the study that the request is about, where one is known.
    private func answer(_ request: ControlRequest, _ subject: inout UID?, _ user: String) async -> ControlResponse {
        do {
            switch request {
            case .completeStudy(let uid), .reprocessStudy(let uid), .ignoreStudy(let uid), .releaseStudy(let uid),
                .resendStudy(let uid):
                subject = uid
            default: break
            }
            switch request {
            case .listStudies(let limit): return .studies(try await ledger.studies(limit: max(1, min(limit, 10_000))))
            case .showStudy(let uid): return .study(try await study(uid))
            case .completeStudy(let uid): return .done(try await complete(uid))
            case .reprocessStudy(let uid): return .done(try await reprocess(uid))
            case .ignoreStudy(let uid): return .done(try await ignore(uid))
            case .releaseStudy(let uid): return .done(try await release(uid))
            case .resendStudy(let uid): return .done(try await resend(uid))
            case .explainStudy(let uid): return .explanation(try await explain(uid))
            case .listDeliveries(let all, let limit):
                return .deliveries(try await ledger.deliveries(all: all, limit: max(1, min(limit, 10_000))))
            case .retryDelivery(let id):
                let delivery = try await retry(id)
                subject = delivery.studyInstanceUID
                return .done("delivery \(id) to \(delivery.destination) is tried again now")
            case .discardDelivery(let id):
                let delivery = try await discard(id)
                subject = delivery.studyInstanceUID
                return .done(
                    "delivery \(id) to \(delivery.destination) is withdrawn: what it has not taken, it does not get")
            case .showNode: return .node(standing())
            case .showAudit(let limit): return .auditMessages(try await latestAudit(limit, user))
            case .listOperatorAlerts(let all, let limit):
                return .operatorAlerts(try await ledger.operatorAlerts(all: all, limit: max(1, min(limit, 10_000))))
            case .reloadConfiguration: return await reload(user)
            }
        } catch let refusal as Refusal { return .failed(refusal.reason) } catch {
            return .failed("the ledger cannot be used: \(error)")
        }
    }

    private struct Refusal: Error { let reason: String }

    private func study(_ uid: UID) async throws -> StudyDetail {
        guard let study = try await ledger.study(uid) else { throw Refusal(reason: "no study \(uid) is known") }
        return study
    }

    private func complete(_ uid: UID) async throws -> String {
        guard await assembler.force(uid) else { throw Refusal(reason: "study \(uid) is not waiting for anything") }
        try await ledger.recordEvent("operator", "completed by hand", ofStudy: uid)
        return "study \(uid) is analysed as it stands"
    }

    private func reprocess(_ uid: UID) async throws -> String {
        let study = try await study(uid).study
        if study.decision == .ignored {
            throw Refusal(reason: "study \(uid) is ignored: `ichnode study release` analyses it")
        }
        return try await startAgain(uid, releasing: false, "analysed again by hand")
    }

    private func ignore(_ uid: UID) async throws -> String {
        _ = try await study(uid)
        _ = try await ledger.record(.ignored, onStudy: uid)
        try await ledger.recordEvent("operator", "ignored", ofStudy: uid)
        _ = await assembler.force(uid)
        return "study \(uid) is neither analysed nor reported; what was reported already stays"
    }

    private func release(_ uid: UID) async throws -> String {
        let study = try await study(uid).study
        guard study.decision == .ignored || study.reason?.hasPrefix(IdentityConflict.reason) == true else {
            throw Refusal(reason: "study \(uid) is neither ignored nor held")
        }
        return try await startAgain(uid, releasing: true, "released")
    }

    private func resend(_ uid: UID) async throws -> String {
        _ = try await study(uid)
        let deliveries = try await ledger.resendDeliveries(ofStudy: uid)
        guard !deliveries.isEmpty else {
            throw Refusal(reason: "study \(uid) has no results that were sent to anybody")
        }
        let names = deliveries.map(\.destination).joined(separator: ", ")
        return "the \(deliveries[0].objects.count) result objects of study \(uid) are sent again to \(names)"
    }

    /// Recorded first: what is only in memory does not survive a restart.
    private func startAgain(_ uid: UID, releasing isReleased: Bool, _ event: String) async throws -> String {
        guard try await ledger.reopen(uid, releasing: isReleased, because: event) else {
            throw Refusal(reason: "retention removed the images of study \(uid): send it again first")
        }
        guard await assembler.reprocess(uid) else { throw Refusal(reason: "the node holds no image of study \(uid)") }
        return "study \(uid) is analysed with the model and configuration of now; see `ichnode study show`"
    }

    private func retry(_ id: Int64) async throws -> DeliveryEntry {
        guard let delivery = try await ledger.retryDelivery(id) else { throw Self.noDelivery(id) }
        return delivery
    }

    private func discard(_ id: Int64) async throws -> DeliveryEntry {
        guard let delivery = try await ledger.discardDelivery(id) else { throw Self.noDelivery(id) }
        return delivery
    }

    /// Reading it is an event of its own.
    private func latestAudit(_ limit: Int, _ user: String) async throws -> [String] {
        guard let audit else { throw Refusal(reason: "no audit trail is kept: audit.enabled is false") }
        do {
            let messages = try await audit.latest(max(1, min(limit, 10_000)))
            audit.record(.auditLogUsed(by: user))
            return messages
        } catch { throw Refusal(reason: "the audit log cannot be read: \(error)") }
    }

    private static func noDelivery(_ id: Int64) -> Refusal {
        Refusal(reason: "no delivery \(id) waits or was given up: see `ichnode outbox list`")
    }

    private func explain(_ uid: UID) async throws -> StudyExplanation {
        let detail = try await study(uid)
        let waiting = await assembler.waiting(uid)
        if let waiting, waiting != StudyAssembler.arriving {
            let known = StudyAnalyzer.newest(try await ledger.instances(ofStudy: uid)).mapValues(\.record)
            let settled = StudyHistory(detail.analyses).settledSeries
            let selection = SeriesSelection(known.values, rules: rules(), settled: settled)
            return StudyExplanation(
                studyInstanceUID: uid, standing: waiting,
                series: SeriesExplanation.verdicts(selection, Array(known.values)))
        }
        let completion = detail.analyses.last.map { ", \($0.completion)" } ?? ""
        let outcome = detail.study.outcome.map { "\($0.rawValue)\(completion)" } ?? detail.study.state.rawValue
        return StudyExplanation(studyInstanceUID: uid, standing: waiting ?? outcome, series: detail.series)
    }
}
