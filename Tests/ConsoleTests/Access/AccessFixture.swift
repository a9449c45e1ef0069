import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Logging
import Synchronization

@testable import Console
@testable import Ledger

/// A clock that a test sets.
final class SetClock: Sendable {
    private let time = Mutex(Date(timeIntervalSince1970: 1_800_000_000))

    func advance(_ seconds: TimeInterval) { time.withLock { $0 += seconds } }
    var clock: WallClock {
        WallClock(now: { self.time.withLock { $0 } }, sleep: { try await Task.sleep(for: $0) })
    }
}

/// Settings that a test changes.
final class MutexBox<Value: Sendable>: Sendable {
    private let held: Mutex<Value>

    init(_ value: Value) { held = Mutex(value) }

    var value: Value { held.withLock { $0 } }
    func change(_ body: (inout Value) -> Void) {
        var changed = value
        body(&changed)
        held.withLock { [changed] in $0 = changed }
    }
}

/// What the audit trail was told.
final class RecordedEvents: Sendable {
    private let events = Mutex<[AccessEvent]>([])

    func add(_ event: AccessEvent) { events.withLock { $0.append(event) } }
    var all: [AccessEvent] { events.withLock { $0 } }
}

/// A console with users, and a route for each kind of access.
struct AccessFixture {
    static let password = "correct horse"
    /// Of that password, as cheap as they may be.
    static let hash = "$scrypt$ln=14,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$JbN2hANm9NOw4h5BRHZnbjzQ6Jr0QwNWojTOC2WgIbU"
    static let page: HTTPFields = [.accept: "text/html,*/*;q=0.8"]

    let time = SetClock()
    let events = RecordedEvents()
    let audit: ConsoleAudit
    let settings: MutexBox<ConsoleSettings>
    /// What requests to /overview were given to ask whether they are still admitted.
    let admissions: MutexBox<[@Sendable () -> Bool]>
    private let router: Router<ConsoleContext>

    init(_ change: (inout ConsoleSettings) -> Void = { _ in }) throws {
        var settings = ConsoleSettings()
        guard let hash = PasswordHash(Self.hash) else { preconditionFailure("a constant") }
        settings.users = [
            .init(name: "vera", role: .viewer, password: hash), .init(name: "otto", role: .operator, password: hash),
        ]
        change(&settings)
        let held = MutexBox(settings)
        self.settings = held
        audit = ConsoleAudit(clock: time.clock) { [events] in events.add($0) }
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("console-\(UUID()).sqlite")
        let server = ConsoleServer(
            held.value,
            parts: .init(
                ledger: try SQLiteLedger(path: file.path), actions: RecordedActions(), registry: MetricsRegistry(),
                clock: time.clock, peers: FixedPeers(), audit: audit, notReady: { nil }),
            logger: Logger(label: "console")
        ) { _ in }
        let admissions = MutexBox<[@Sendable () -> Bool]>([])
        self.admissions = admissions
        let watched = ConsoleRoute.get("/overview", .overview) { _, context in
            admissions.change { $0.append(context.isStillAdmitted) }
            return Self.answer(context)
        }
        router = server.router(server.routes + [watched] + Self.routes)
    }

    private static let routes: [ConsoleRoute] = [
        .get("/patients", .patients) { _, context in answer(context) },
        .get("/api/v1/patients", .patients) { _, context in answer(context) },
        .post("/act", .acting) { _, context in answer(context) },
        .get("/busy", .open) { _, _ in throw LedgerBusy() },
        .get("/broken", .open) { _, _ in throw CocoaError(.fileNoSuchFile) },
        .get("/kept", .open) { _, _ in Response(status: .ok, headers: [.cacheControl: "max-age=60"]) },
    ]

    private static func answer(_ context: ConsoleContext) -> Response {
        let text = "\(context.visitor.user ?? "nobody") \(context.visitor.csrfToken)"
        return Response(status: .ok, body: .init(byteBuffer: ByteBuffer(string: text)))
    }

    func send(
        _ method: HTTPRequest.Method, _ path: String, _ headers: HTTPFields = page, form: [String: String]? = nil
    ) async throws -> TestResponse {
        var headers = headers
        var body: ByteBuffer?
        if let form {
            headers[.contentType] = "application/x-www-form-urlencoded"
            body = ByteBuffer(
                string: form.map { key, value in
                    "\(key)=\(value.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")"
                }.joined(separator: "&"))
        }
        return try await Application(router: router).test(.router) { [headers, body] client in
            try await client.executeRequest(uri: path, method: method, headers: headers, body: body)
        }
    }

    /// A browser's: cookies are kept, forms are sent with the token of the page.
    func signIn(
        _ user: String, _ password: String = password, next: String = "/", headers: HTTPFields = page
    ) async throws -> TestResponse {
        let page = try await send(.get, "/sign-in")
        return try await send(
            .post, "/sign-in", headers + [.cookie: Self.cookie(page)],
            form: ["csrf": Self.token(page), "user": user, "password": password, "next": next])
    }

    /// Headers of a browser in which the user has signed in.
    func session(_ user: String) async throws -> HTTPFields {
        Self.page + [.cookie: Self.cookie(try await signIn(user))]
    }

    /// Those that are set, not those that are taken away.
    static func cookie(_ response: TestResponse) -> String {
        response.headers[values: .setCookie].filter { !$0.contains("Max-Age=0") }
            .map { String($0.prefix { $0 != ";" }) }.joined(separator: "; ")
    }

    static func token(_ response: TestResponse) -> String {
        let body = response.text
        guard let start = body.firstRange(of: "name=\"csrf\" value=\"") else { return "" }
        return String(body[start.upperBound...].prefix { $0 != "\"" })
    }
}

func + (one: HTTPFields, other: HTTPFields) -> HTTPFields {
    var all = one
    for field in other { all.append(field) }
    return all
}

extension TestResponse {
    var text: String { String(buffer: body) }
}
