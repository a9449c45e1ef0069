import Foundation
import Testing

@testable import Console

@Suite struct SessionTableTests {
    private let time = SetClock()
    private let settings: MutexBox<ConsoleSettings>
    private let sessions: SessionTable

    private static func user(
        _ name: String, _ role: Role = .viewer, password: Character = "A"
    ) -> ConsoleSettings.User {
        let text = String(AccessFixture.hash.dropLast()) + "\(password)"
        guard let hash = PasswordHash(text) else { preconditionFailure("a constant") }
        return .init(name: name, role: role, password: hash)
    }
    private static let vera = user("vera")

    init() {
        var settings = ConsoleSettings()
        (settings.sessionMinutes, settings.mostSessionMinutes) = (30, 100)
        settings.users = [Self.vera] + (0...SessionTable.most).map { Self.user("user \($0)") }
        let held = MutexBox(settings)
        self.settings = held
        sessions = SessionTable(held.value, clock: time.clock)
    }

    /// What the configuration says of its user now.
    @Test(arguments: [user("vera", .operator), user("vera", password: "E"), nil])
    func endsWithItsUser(changed: ConsoleSettings.User?) {
        let value = sessions.begin(Self.vera)
        #expect(sessions.session(value)?.role == .viewer)
        settings.change { $0.users.append(Self.user("another")) }
        #expect(sessions.session(value) != nil, "of other users it knows nothing")
        settings.change { $0.users[0] = changed ?? Self.user("another") }
        #expect(sessions.session(value) == nil)
        settings.change { $0.users[0] = Self.vera }
        #expect(sessions.session(value) == nil, "it does not come back")
    }

    @Test func aUserThatWasGoneBetweenTwoUsesSignsInAgain() {
        let (value, other) = (sessions.begin(Self.vera), sessions.begin(Self.user("user 1")))
        settings.change { $0.users[0] = Self.user("another") }
        sessions.sweep()
        settings.change { $0.users[0] = Self.vera }
        #expect(sessions.session(value) == nil)
        #expect(sessions.session(other) != nil)
    }

    @Test func aUserThatWasChangedMeanwhileGetsNone() {
        settings.change { $0.users[0] = Self.user("vera", password: "E") }
        #expect(sessions.session(sessions.begin(Self.vera)) == nil)
    }

    @Test func timesMayChange() {
        let value = sessions.begin(Self.vera)
        time.advance(600)
        settings.change { $0.sessionMinutes = 5 }
        #expect(sessions.session(value) == nil)
    }

    @Test func valuesAreLongAndDiffer() {
        let values = (0..<100).map { _ in sessions.begin(Self.vera) }
        #expect(Set(values).count == 100)
        #expect(values.allSatisfy { $0.utf8.count == 43 }, "256 bits in base64")
        #expect(sessions.session(values[99])?.csrfToken != sessions.session(values[98])?.csrfToken)
        #expect(sessions.session("") == nil)
        #expect(sessions.session(values[99].lowercased()) == nil)
    }

    @Test func endsForWantOfUse() {
        let value = sessions.begin(Self.vera)
        time.advance(1799)
        #expect(sessions.session(value) != nil)
        time.advance(1799)
        #expect(sessions.session(value, isUse: false) != nil)
        time.advance(1)
        #expect(sessions.session(value) == nil, "what is no use does not keep it")
        #expect(sessions.count == 0)
    }

    @Test func endsHoweverMuchItIsUsed() {
        let value = sessions.begin(Self.vera)
        for _ in 0..<5 {
            time.advance(1199)
            #expect(sessions.session(value) != nil)
        }
        time.advance(5)
        #expect(sessions.session(value) == nil)
    }

    @Test func endsWhenSignedOut() {
        let (one, other) = (sessions.begin(Self.vera), sessions.begin(Self.vera))
        sessions.end(one)
        #expect(sessions.session(one) == nil)
        #expect(sessions.session(other)?.user == "vera")
    }

    @Test func aUserHasOnlySoMany() {
        let first = sessions.begin(Self.vera)
        time.advance(1)
        let others = (1..<SessionTable.mostOfUser).map { _ in sessions.begin(Self.vera) }
        #expect(sessions.session(first) != nil)
        time.advance(1)
        for each in others { _ = sessions.session(each) }
        let last = sessions.begin(Self.vera)
        #expect(sessions.session(first) == nil, "the one unused for longest makes room")
        #expect((others + [last]).allSatisfy { sessions.session($0) != nil })
    }

    @Test func thereAreOnlySoMany() {
        for number in 0..<SessionTable.most + 1 { _ = sessions.begin(Self.user("user \(number)")) }
        #expect(sessions.count == SessionTable.most)
    }
}
