internal import Hummingbird
internal import Ledger
internal import WorkerProtocol

/// The JSON API, as docs/openapi.yaml describes it.
struct APIRoutes {
    private static let base = "/api/v1"
    private static let mostListed = 500
    /// Farther in, a list is read from its other end, or searched.
    private static let mostOffset = 1_000_000

    let parts: ConsoleServer.Parts

    var routes: [ConsoleRoute] { looking + studyActions + deliveryActions }

    private var looking: [ConsoleRoute] {
        [
            get("/openapi", .open, openAPI), get("/health", .open, health),
            get("/studies", .patients, studies), get("/studies/{uid}", .patients, study),
            get("/studies/{uid}/explanation", .patients, explanation),
            get("/deliveries", .patients, deliveries), get("/deliveries/{id}", .patients, delivery),
            get("/alerts", .patients, alerts),
        ]
    }

    private var studyActions: [ConsoleRoute] {
        let actions: [(String, @Sendable (UID) -> NodeAction)] = [
            ("complete", NodeAction.complete), ("reprocess", NodeAction.reprocess), ("ignore", NodeAction.ignore),
            ("release", NodeAction.release), ("resend", NodeAction.resend),
        ]
        return actions.map { name, action in
            .post("\(Self.base)/studies/{uid}/\(name)", .acting) { request, context in
                let uid = try await knownStudy(context)
                return try await perform(action(uid), request, context)
            }
        }
    }

    private var deliveryActions: [ConsoleRoute] {
        let actions: [(String, @Sendable (Int64) -> NodeAction)] = [
            ("retry", NodeAction.retry), ("discard", NodeAction.discard),
        ]
        return actions.map { name, action in
            .post("\(Self.base)/deliveries/{id}/\(name)", .acting) { request, context in
                let id = try await knownDelivery(context).id
                return try await perform(action(id), request, context)
            }
        }
    }

    private func get(
        _ path: String, _ access: Access, _ answer: @escaping ConsoleRoute.Handler
    ) -> ConsoleRoute { .get(Self.base + path, access, answer) }

    // MARK: Looking

    @Sendable private func openAPI(_ request: Request, _ context: ConsoleContext) throws -> Response {
        _ = try APIQuery(request, allowed: [])
        return Response(
            status: .ok, headers: [.contentType: "application/yaml", .cacheControl: "no-cache"],
            body: .init(byteBuffer: ByteBuffer(bytes: PackageResources.openapi_yaml)))
    }

    @Sendable private func health(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        _ = try APIQuery(request, allowed: [])
        let missing = await parts.notReady()
        return try APIAnswer.json(
            API.Health(ready: missing == nil, missing: missing), missing == nil ? .ok : .serviceUnavailable)
    }

    @Sendable private func studies(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        let query = try APIQuery(
            request, allowed: ["search", "state", "outcome", "since", "until", "order", "limit", "offset"])
        let (limit, offset) = try page(query)
        let wanted = StudyQuery(
            text: try query.text("search", most: 200) ?? "", outcomes: try query.words("outcome", of: API.outcomes),
            states: try query.words("state", of: API.states), since: try query.moment("since"),
            until: try query.moment("until"),
            order: try query.word("order", of: API.orders, default: .newest), limit: limit, offset: offset)
        let found = try await parts.ledger.studies(matching: wanted)
        return try APIAnswer.json(
            API.StudyList(
                studies: found.rows.map(API.Study.init), total: found.total, limit: limit, offset: offset))
    }

    @Sendable private func study(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        _ = try APIQuery(request, allowed: [])
        guard let detail = try await parts.ledger.study(try uid(context)) else { throw Self.unknownStudy }
        parts.audit.viewed(study: detail.study.studyInstanceUID, by: context.visitor)
        return try APIAnswer.json(API.StudyDetail(detail))
    }

    @Sendable private func explanation(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        _ = try APIQuery(request, allowed: [])
        let uid = try await knownStudy(context)
        let explanation: StudyExplanation
        do { explanation = try await parts.actions.explanation(ofStudy: uid) } catch {
            throw HTTPError(.internalServerError, message: error.reason)
        }
        parts.audit.viewed(study: uid, by: context.visitor)
        return try APIAnswer.json(API.Explanation(explanation))
    }

    @Sendable private func deliveries(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        let query = try APIQuery(request, allowed: ["state", "destination", "limit", "offset"])
        let (limit, offset) = try page(query)
        let found = try await parts.ledger.deliveries(
            DeliveryQuery(
                destination: try query.text("destination", most: 200),
                states: try query.words("state", of: API.deliveryStates), limit: limit, offset: offset))
        return try APIAnswer.json(
            API.DeliveryList(
                deliveries: found.entries.map(API.Delivery.init), total: found.total, limit: limit, offset: offset))
    }

    @Sendable private func delivery(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        _ = try APIQuery(request, allowed: [])
        return try APIAnswer.json(API.Delivery(try await knownDelivery(context)))
    }

    @Sendable private func alerts(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        let query = try APIQuery(request, allowed: ["standing", "limit", "offset"])
        let (limit, offset) = try page(query)
        let standings: [(String, OperatorAlertStanding)] = [("active", .active), ("over", .over), ("all", .all)]
        let standing = try query.word("standing", of: standings, default: .active)
        let found = try await parts.ledger.operatorAlerts(standing, limit: limit, offset: offset)
        return try APIAnswer.json(
            API.AlertList(
                alerts: found.entries.map(API.Alert.init), total: found.total, limit: limit, offset: offset))
    }

    private func page(_ query: APIQuery) throws -> (limit: Int, offset: Int) {
        (
            try query.integer("limit", in: 1...Self.mostListed, default: 50),
            try query.integer("offset", in: 0...Self.mostOffset, default: 0)
        )
    }

    // MARK: Acting

    private func perform(_ action: NodeAction, _ request: Request, _ context: ConsoleContext) async throws -> Response {
        _ = try APIQuery(request, allowed: [])
        try await refuseBody(request, context)
        let done: String
        do { done = try await parts.actions.perform(action, by: context.visitor.user ?? "") } catch {
            throw HTTPError(.conflict, message: error.reason)
        }
        return try APIAnswer.json(API.Done(done: done))
    }

    /// What was asked for is all in the path: somebody who sends more expects something else.
    private func refuseBody(_ request: Request, _ context: ConsoleContext) async throws {
        guard context.form.isEmpty else { throw Self.noForms }
        for try await chunk in request.body where chunk.readableBytes > 0 {
            guard request.headers[.contentType]?.hasPrefix("application/json") == true else { throw Self.noForms }
            throw HTTPError(.badRequest, message: "an action takes no body")
        }
    }

    private static let noForms = HTTPError(.unsupportedMediaType, message: "an action takes no body")

    // MARK: What a path names

    private func uid(_ context: ConsoleContext) throws -> UID {
        guard let uid = context.parameters.get("uid").flatMap({ UID($0) }) else { throw Self.unknownStudy }
        return uid
    }

    private func knownStudy(_ context: ConsoleContext) async throws -> UID {
        let uid = try uid(context)
        guard try await parts.ledger.study(uid) != nil else { throw Self.unknownStudy }
        return uid
    }

    private func knownDelivery(_ context: ConsoleContext) async throws -> DeliveryEntry {
        guard let id = context.parameters.get("id").flatMap({ Int64($0) }),
            let delivery = try await parts.ledger.delivery(id)
        else { throw HTTPError(.notFound, message: "no such delivery is known") }
        return delivery
    }

    private static let unknownStudy = HTTPError(.notFound, message: "no such study is known")
}
