internal import Foundation
internal import Hummingbird
internal import Ledger
internal import WorkerProtocol

/// One study: what was found, what happened and why, what was sent, and what an operator can do about it.
struct StudyRoutes {
    let parts: ConsoleServer.Parts
    let outcomes: ActionOutcomes

    var routes: [ConsoleRoute] {
        [
            .get("/studies/{uid}", .overview) { request, context in
                guard let uid = context.parameters.get("uid").flatMap({ UID($0) }),
                    let study = try await ShownStudy(uid, parts, context.visitor)
                else { return Self.unknown(context) }
                parts.audit.viewed(study: uid, by: context.visitor)
                let notice = await outcomes.notice(request)
                let revision = request.uri.queryParameters.get("revision").flatMap { Int($0) }
                let report = await StudyReportView.read(study, revision: revision, parts)
                let viewer = try await images(study)
                return StudyPage(
                    study: study, report: report, viewer: viewer, notice: notice, now: parts.clock.now()
                ).page.response()
            },
            // What changes while one looks at it.
            .get("/studies/{uid}/live/{part}", .overview) { _, context in
                guard let uid = context.parameters.get("uid").flatMap({ UID($0) }),
                    let study = try await ShownStudy(uid, parts, context.visitor)
                else { throw HTTPError(.notFound, message: "no such study is known") }
                parts.audit.viewed(study: uid, by: context.visitor)
                let page = StudyPage(study: study, report: nil, viewer: nil, notice: nil, now: parts.clock.now())
                guard let part = page.part(named: context.parameters.get("part") ?? "") else {
                    throw HTTPError(.notFound, message: "the page has no such part")
                }
                return part.response()
            },
            .get("/studies/{uid}/objects/{object}", .patients) { _, context in
                guard let uid = context.parameters.get("uid").flatMap({ UID($0) }),
                    let object = context.parameters.get("object").flatMap({ UID($0) })
                else { throw HTTPError(.notFound, message: "no such object is known") }
                let response = try await ResultDownload(parts: parts).response(object, ofStudy: uid, context)
                parts.audit.viewed(study: uid, by: context.visitor)
                return response
            },
            .post("/studies/{uid}/{action}", .acting) { _, context in
                guard let uid = context.parameters.get("uid").flatMap({ UID($0) }),
                    let action = context.parameters.get("action").flatMap(StudyAction.init)
                else { throw HTTPError(.notFound, message: "there is no such thing to do") }
                return await perform(action.nodeAction(uid), on: uid, context)
            },
            .post("/studies/{uid}/deliveries/{delivery}/{action}", .acting) { _, context in
                guard let uid = context.parameters.get("uid").flatMap({ UID($0) }),
                    let id = context.parameters.get("delivery").flatMap({ Int64($0) }),
                    let action = context.parameters.get("action").flatMap(DeliveryAction.init),
                    try await parts.ledger.deliveries(ofStudy: uid).contains(where: { $0.id == id })
                else { throw HTTPError(.notFound, message: "no such delivery of this study is known") }
                return await perform(action.nodeAction(id), on: uid, context)
            },
        ]
    }

    /// nil where there are none, or the visitor may not see them.
    private func images(_ study: ShownStudy) async throws -> HTML? {
        guard study.visitor.maySeePatients, study.latest != nil else { return nil }
        return try await StudyViewer(parts: parts).section(of: study.detail)
    }

    private func perform(_ action: NodeAction, on uid: UID, _ context: ConsoleContext) async -> Response {
        let told: String
        do {
            let done = try await parts.actions.perform(action, by: context.visitor.user ?? "")
            told = await outcomes.keep("Done: \(done)", isDone: true)
        } catch { told = await outcomes.keep(error.reason, isDone: false) }
        return .seeOther("/studies/\(uid)?told=\(told)")
    }

    private static func unknown(_ context: ConsoleContext) -> Response {
        Page(
            title: "Unknown study", area: .worklist, visitor: context.visitor,
            content: """
                <h1>Unknown study</h1>
                <section class="card"><p>The node knows no study of this Study Instance UID. It has never received an \
                image of it: look at the routing rules of the PACS or the scanner.</p>
                <p><a href="/">To the worklist</a></p></section>
                """
        ).response(.notFound)
    }
}

/// What can be done about a study; the last part of where its form is sent.
enum StudyAction: String, CaseIterable {
    case complete, reprocess, release, resend, ignore

    func nodeAction(_ uid: UID) -> NodeAction {
        switch self {
        case .complete: .complete(uid)
        case .reprocess: .reprocess(uid)
        case .release: .release(uid)
        case .resend: .resend(uid)
        case .ignore: .ignore(uid)
        }
    }
}

/// What can be done about a delivery that is open.
enum DeliveryAction: String, CaseIterable {
    case retry, discard

    func nodeAction(_ id: Int64) -> NodeAction { self == .retry ? .retry(id) : .discard(id) }
}
