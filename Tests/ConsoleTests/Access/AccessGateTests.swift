import Foundation
import HTTPTypes
import HummingbirdTesting
import Testing
import WorkerProtocol

@testable import Console

@Suite struct AccessGateTests {
    private func location(_ response: TestResponse) -> String? { response.headers[.location] }

    // MARK: Who gets where

    @Test func whoIsNotSignedInIsSentToTheSignInPage() async throws {
        let console = try AccessFixture()
        for path in ["/overview", "/patients"] {
            let response = try await console.send(.get, path)
            #expect(response.status == .seeOther)
            #expect(location(response) == "/sign-in?next=\(path)")
        }
        let query = try await console.send(.get, "/patients?state=a&b=%26")
        #expect(location(query) == "/sign-in?next=/patients%3Fstate%3Da%26b%3D%2526")
        #expect(location(try await console.send(.post, "/act", form: [:])) == "/sign-in")
    }

    @Test func programsAreToldInAProblem() async throws {
        let console = try AccessFixture()
        for (path, headers) in [
            ("/patients", [.accept: "application/json"] as HTTPFields), ("/api/v1/patients", AccessFixture.page),
            ("/patients", [:]),
        ] {
            let response = try await console.send(.get, path, headers)
            #expect(response.status == .unauthorized)
            #expect(response.headers[.wwwAuthenticate] == "Bearer realm=\"ichnode\"")
            #expect(response.headers[.contentType] == "application/problem+json")
            #expect(response.text.contains("\"status\":401"))
        }
    }

    @Test func rolesHold() async throws {
        let console = try AccessFixture()
        let (viewer, chief) = (try await console.session("vera"), try await console.session("otto"))
        for headers in [viewer, chief] {
            #expect(try await console.send(.get, "/overview", headers).status == .ok)
            #expect(try await console.send(.get, "/patients", headers).status == .ok)
        }
        for (headers, status) in [(viewer, HTTPResponse.Status.forbidden), (chief, .ok)] {
            let page = try await console.send(.get, "/patients", headers).text
            let token = String(page.split(separator: " ")[1])
            #expect(try await console.send(.post, "/act", headers, form: ["csrf": token]).status == status)
        }
    }

    @Test func usersMayComeChangeAndGo() async throws {
        let console = try AccessFixture { $0.users.removeLast() }
        let headers = try await console.session("vera")
        #expect(try await console.send(.get, "/patients", headers).status == .ok)
        let hash = try #require(PasswordHash(AccessFixture.hash))
        console.settings.change {
            $0.users = [.init(name: "otto", role: .operator, password: hash)]
            $0.hostNames = ["console.example"]
        }
        #expect(location(try await console.send(.get, "/patients", headers)) == "/sign-in?next=/patients")
        #expect(try await console.signIn("vera").status == .forbidden)
        let otto = try await console.session("otto")
        #expect(try await console.send(.get, "/patients", otto).status == .ok)
    }

    @Test func tokensMayComeChangeAndGo() async throws {
        let console = try AccessFixture()
        let headers: HTTPFields = [.authorization: "Bearer secret"]
        #expect(try await console.send(.get, "/api/v1/patients", headers).status == .unauthorized)
        console.settings.change {
            $0.tokens = [.init(name: "m", role: .viewer, sha256: APIToken.digest(of: "secret"))]
        }
        #expect(try await console.send(.get, "/api/v1/patients", headers).status == .ok)
        console.settings.change { $0.tokens[0].sha256 = APIToken.digest(of: "another") }
        #expect(try await console.send(.get, "/api/v1/patients", headers).status == .unauthorized)
    }

    /// What stays open asks again before it says anything.
    @Test func streamsEndWithWhatLetThemIn() async throws {
        let console = try AccessFixture {
            $0.tokens = [.init(name: "m", role: .viewer, sha256: APIToken.digest(of: "secret"))]
        }
        let seen = console.admissions
        _ = try await console.send(.get, "/overview", try await console.session("vera"))
        _ = try await console.send(.get, "/overview", [.authorization: "Bearer secret"])
        #expect(seen.value.map { $0() } == [true, true])
        console.settings.change { $0.users.removeFirst() }
        #expect(seen.value.map { $0() } == [false, true])
        console.settings.change { $0.tokens = [] }
        #expect(seen.value.map { $0() } == [false, false])
        console.settings.change { $0.users = [] }
        _ = try await console.send(.get, "/overview")
        #expect(seen.value.last?() == true, "nobody's leave")
        let hash = try #require(PasswordHash(AccessFixture.hash))
        console.settings.change { $0.users = [.init(name: "otto", role: .operator, password: hash)] }
        #expect(seen.value.last?() == false)
    }

    @Test func withoutUsersThereIsAnOverviewAndAWayOn() async throws {
        let console = try AccessFixture { $0.users = [] }
        #expect(try await console.send(.get, "/overview").status == .ok)
        #expect(location(try await console.send(.get, "/patients")) == "/sign-in?next=/patients")
        let page = try await console.send(.get, "/sign-in").text
        #expect(page.contains("hash-password") && !page.contains("type=\"password\""))
        #expect(try await console.signIn("otto").status == .forbidden)
    }

    // MARK: Signing in and out

    @Test func signsInAndGoesOn() async throws {
        let console = try AccessFixture()
        let response = try await console.signIn("vera", next: "/patients?x=1")
        #expect(response.status == .seeOther && location(response) == "/patients?x=1")
        let cookies = response.headers[values: .setCookie]
        #expect(cookies[0].hasPrefix("ichnode="))
        #expect(cookies[0].hasSuffix("; Path=/; HttpOnly; SameSite=Strict"))
        #expect(location(try await console.signIn("vera", next: "//evil.example")) == "/")
        #expect(console.events.all.first == .signedIn(user: "vera", address: ClientAddress.unknown))
        let headers = AccessFixture.page + [.cookie: AccessFixture.cookie(response)]
        #expect(location(try await console.send(.get, "/sign-in?next=%2Fpatients", headers)) == "/patients")
    }

    @Test func aSecureSessionIsBoundToTheHost() async throws {
        let console = try AccessFixture { $0.isBehindProxy = true }
        let response = try await console.signIn("vera")
        let cookies = response.headers[values: .setCookie]
        #expect(cookies.allSatisfy { $0.hasPrefix("__Host-ichnode") && $0.contains("; Secure") })
        #expect(response.headers[.strictTransportSecurity] != nil)
    }

    @Test func anUnknownUserIsAWrongPassword() async throws {
        let console = try AccessFixture()
        var bodies: [String] = []
        for user in ["vera", "nobody", "", "' OR 1=1 --", "VERA"] {
            let response = try await console.signIn(user, "wrong")
            #expect(response.status == .forbidden)
            let cookie = try #require(response.headers[.setCookie])
            #expect(cookie.hasPrefix("ichnode-sign-in="), "no session")
            let body = response.text
            bodies.append(body.replacing(AccessFixture.token(response), with: ""))
        }
        #expect(Set(bodies).count == 1)
        #expect(bodies[0].contains("Wrong user name or password."))
        #expect(!bodies[0].contains("wrong\""))
    }

    @Test func theSignInFormHasATokenOfItsOwn() async throws {
        let console = try AccessFixture()
        let page = try await console.send(.get, "/sign-in")
        let form = ["user": "vera", "password": AccessFixture.password]
        let (cookie, token) = (AccessFixture.cookie(page), AccessFixture.token(page))
        let other = AccessFixture.token(try await console.send(.get, "/sign-in"))
        for (cookie, token) in [("", token), (cookie, ""), (cookie, other), ("ichnode-sign-in=x", token)] {
            let response = try await console.send(
                .post, "/sign-in", AccessFixture.page + [.cookie: cookie], form: form + ["csrf": token])
            #expect(response.status == .forbidden && !AccessFixture.cookie(response).hasPrefix("ichnode="))
        }
        let right = try await console.send(
            .post, "/sign-in", AccessFixture.page + [.cookie: cookie], form: form + ["csrf": token])
        #expect(right.status == .seeOther)
    }

    @Test func anotherSiteCannotSignAnybodyIn() async throws {
        let console = try AccessFixture()
        let response = try await console.signIn("vera", headers: AccessFixture.page + [.secFetchSite: "cross-site"])
        #expect(response.status == .forbidden)
        #expect(console.events.all.isEmpty)
    }

    @Test func eachSignInIsANewSession() async throws {
        let console = try AccessFixture()
        let first = try await console.session("vera")
        let page = try await console.send(.get, "/sign-in")
        let response = try await console.send(
            .post, "/sign-in", first + [.cookie: AccessFixture.cookie(page)],
            form: ["csrf": AccessFixture.token(page), "user": "otto", "password": AccessFixture.password])
        #expect(response.status == .seeOther)
        #expect(try await console.send(.get, "/patients", first).status == .seeOther, "the old one is over")
        let planted = try await console.send(.get, "/patients", AccessFixture.page + [.cookie: "ichnode=planted"])
        #expect(planted.status == .seeOther)
    }

    @Test func signsOut() async throws {
        let console = try AccessFixture()
        let headers = try await console.session("vera")
        let page = try await console.send(.get, "/patients", headers).text
        let token = String(page.split(separator: " ")[1])
        #expect(try await console.send(.post, "/sign-out", headers, form: [:]).status == .forbidden)
        let response = try await console.send(.post, "/sign-out", headers, form: ["csrf": token])
        #expect(response.status == .seeOther && location(response) == "/sign-in")
        #expect(response.headers[.setCookie]?.contains("Max-Age=0") == true)
        #expect(try await console.send(.get, "/patients", headers).status == .seeOther)
        #expect(console.events.all.last == .signedOut(user: "vera", address: ClientAddress.unknown))
    }

    @Test func sessionsEnd() async throws {
        let console = try AccessFixture()
        let headers = try await console.session("vera")
        console.time.advance(29 * 60)
        #expect(try await console.send(.get, "/patients", headers + [.background: "1"]).status == .ok)
        console.time.advance(60)
        #expect(try await console.send(.get, "/patients", headers).status == .seeOther)
    }

    @Test func manyTriesAreAnsweredWithoutLooking() async throws {
        let console = try AccessFixture()
        for _ in 0..<5 { #expect(try await console.signIn("vera", "wrong").status == .forbidden) }
        let paused = try await console.signIn("vera")
        #expect(paused.status == .tooManyRequests)
        #expect(paused.headers[.retryAfter] == "30")
        #expect(paused.text.contains("locked for another 30 s"))
        console.time.advance(30)
        #expect(try await console.signIn("vera").status == .seeOther)
        let refused = AccessEvent.signInRefused(
            user: "vera", address: ClientAddress.unknown, reason: "wrong user name or password")
        #expect(console.events.all.count { $0 == refused } == 5)
    }

    /// 256 bytes are a name; more is refused as a wrong one is, and remembered nowhere.
    @Test func anOverlongNameIsRefusedUnseen() async throws {
        let console = try AccessFixture()
        let longest = String(repeating: "é", count: 128)
        let marks = "e" + String(repeating: "\u{301}", count: 5000)
        let wrong = try await console.signIn(longest, "wrong")
        #expect(console.events.all.count == 1)
        for name in [longest + "x", marks] {
            for _ in 0..<6 {
                let refused = try await console.signIn(name, "wrong")
                #expect(refused.status == .forbidden && refused.text.contains("Wrong user name or password."))
                #expect(refused.status == wrong.status && refused.text.count == wrong.text.count)
            }
        }
        #expect(console.events.all.count == 1)
    }

    @Test func aPasswordThatCannotBeComparedIsSaidAndNotCounted() async throws {
        let console = try AccessFixture { settings in
            for index in settings.users.indices { settings.users[index].password.logN = 0 }
        }
        for _ in 0..<8 { #expect(try await console.signIn("vera").status == .serviceUnavailable) }
        #expect(console.events.all.isEmpty)
    }

    // MARK: Forms

    @Test func formsNeedTheTokenOfTheirSession() async throws {
        let console = try AccessFixture()
        let (mine, other) = (try await console.session("otto"), try await console.session("otto"))
        func token(_ headers: HTTPFields) async throws -> String {
            let page = try await console.send(.get, "/patients", headers).text
            return String(page.split(separator: " ")[1])
        }
        let right = try await token(mine)
        for wrong in ["", try await token(other), right + "x", "x" + right] {
            let form = ["csrf": wrong]
            #expect(try await console.send(.post, "/act", mine, form: form).status == .forbidden)
        }
        #expect(try await console.send(.post, "/act", mine, form: [:]).status == .forbidden)
        #expect(try await console.send(.post, "/act", mine, form: ["csrf": right]).status == .ok)
        #expect(try await console.send(.post, "/act", mine + [.csrfToken: right]).status == .ok)
        let foreign: HTTPFields = [.origin: "http://evil.example"]
        #expect(try await console.send(.post, "/act", mine + foreign, form: ["csrf": right]).status == .forbidden)
    }

    // MARK: Tokens

    @Test func programsComeWithTokens() async throws {
        let (reading, acting) = (APIToken.draw(), APIToken.draw())
        let console = try AccessFixture {
            $0.tokens = [
                .init(name: "monitoring", role: .viewer, sha256: APIToken.digest(of: reading)),
                .init(name: "robot", role: .operator, sha256: APIToken.digest(of: acting)),
            ]
        }
        func bearer(_ token: String) -> HTTPFields { [.authorization: token] }
        #expect(try await console.send(.get, "/api/v1/patients", bearer("Bearer \(reading)")).status == .ok)
        #expect(try await console.send(.post, "/act", bearer("Bearer \(reading)")).status == .forbidden)
        #expect(try await console.send(.post, "/act", bearer("Bearer \(acting)")).status == .ok)
        for wrong in ["Bearer", "Bearer \(reading)x", "Basic \(reading)", reading, "Bearer \(reading) \(reading)"] {
            let response = try await console.send(.get, "/api/v1/patients", bearer(wrong))
            #expect(response.status == .unauthorized, "\(wrong)")
            #expect(response.headers[.wwwAuthenticate]?.contains("invalid_token") == true)
        }
    }

    // MARK: Every response

    @Test func everyResponseTellsBrowsersWhatToHold() async throws {
        let console = try AccessFixture()
        let viewer = try await console.session("vera")
        let large = ["x": String(repeating: "x", count: 70_000)]
        let responses: [(HTTPResponse.Status, TestResponse)] = [
            (.ok, try await console.send(.get, "/health/live", [:])),
            (.ok, try await console.send(.get, "/sign-in")),
            (.ok, try await console.send(.get, "/patients", viewer)),
            (.ok, try await console.send(.get, ConsoleAssets.path("console.js"))),
            (.seeOther, try await console.send(.get, "/patients")),
            (.unauthorized, try await console.send(.get, "/patients", [:])),
            (.forbidden, try await console.signIn("vera", "wrong")),
            (.forbidden, try await console.send(.post, "/act", viewer, form: [:])),
            (.notFound, try await console.send(.get, "/nothing")),
            (.notFound, try await console.send(.get, "/nothing", [:])),
            (.contentTooLarge, try await console.send(.post, "/act", form: large)),
            (.internalServerError, try await console.send(.get, "/broken")),
        ]
        let names = [
            "Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy",
            "Cross-Origin-Resource-Policy", "Permissions-Policy", "Cache-Control",
        ]
        for (status, response) in responses {
            #expect(response.status == status)
            for name in names {
                let values = response.headers[values: try #require(HTTPField.Name(name))]
                #expect(values.count == 1, "\(status) has \(name): \(values)")
            }
        }
        #expect(responses[2].1.headers[.cacheControl] == "no-store")
        #expect(responses[3].1.headers[.cacheControl]?.contains("immutable") == true)
        #expect(try await console.send(.get, "/kept").headers[.cacheControl] == "max-age=60")
    }

    @Test func whoComesWhileTheLedgerIsBusyIsToldToComeAgain() async throws {
        let console = try AccessFixture()
        for headers in [AccessFixture.page, [:]] {
            let response = try await console.send(.get, "/busy", headers)
            #expect(response.status == .serviceUnavailable && response.headers[.retryAfter] == "2")
            #expect(response.text.contains("too many look at the ledger at once"))
        }
    }

    @Test func errorsHaveAPageWithoutInternals() async throws {
        let console = try AccessFixture()
        let viewer = try await console.session("vera")
        let broken = try await console.send(.get, "/broken", viewer).text
        #expect(broken.contains("Something went wrong") && !broken.contains("Cocoa") && broken.contains("vera"))
        let missing = try await console.send(.get, "/<script>").text
        #expect(missing.contains("Not found") && !missing.contains("<script>"))
        #expect(try await console.send(.get, "/nothing", viewer).text.contains("Sign out"))
    }

    // MARK: Who looked at what

    @Test func lookingAtAStudyIsToldOnceInTenMinutes() throws {
        let console = try AccessFixture()
        let (one, other) = (UID(literal: "1.2.3"), UID(literal: "1.2.4"))
        let visitor = Visitor(user: "vera", role: .viewer, csrfToken: "a", address: "10.0.0.1")
        var later = visitor
        later.csrfToken = "b"
        for study in [one, one, other] { console.audit.viewed(study: study, by: visitor) }
        console.audit.viewed(study: one, by: later)
        console.audit.viewed(study: one, by: Visitor())
        console.time.advance(599)
        console.audit.viewed(study: one, by: visitor)
        #expect(console.events.all.count == 3)
        console.time.advance(1)
        console.audit.viewed(study: one, by: visitor)
        #expect(console.events.all.last == .viewed(study: one, user: "vera", address: "10.0.0.1"))
        #expect(console.events.all.count == 4)
    }
}

private func + (one: [String: String], other: [String: String]) -> [String: String] {
    one.merging(other) { _, new in new }
}
