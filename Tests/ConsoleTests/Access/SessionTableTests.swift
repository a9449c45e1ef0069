import Foundation
import Testing

@testable import Console

@Suite struct SessionTableTests {
    private let time = SetClock()
    private let sessions: SessionTable

    init() {
        var settings = ConsoleSettings()
        (settings.sessionMinutes, settings.mostSessionMinutes) = (30, 100)
        sessions = SessionTable(settings, clock: time.clock)
    }

    @Test func valuesAreLongAndDiffer() {
        let values = (0..<100).map { _ in sessions.begin("vera", .viewer) }
        #expect(Set(values).count == 100)
        #expect(values.allSatisfy { $0.utf8.count == 43 }, "256 bits in base64")
        #expect(sessions.session(values[99])?.csrfToken != sessions.session(values[98])?.csrfToken)
        #expect(sessions.session("") == nil)
        #expect(sessions.session(values[99].lowercased()) == nil)
    }

    @Test func endsForWantOfUse() {
        let value = sessions.begin("vera", .viewer)
        time.advance(1799)
        #expect(sessions.session(value) != nil)
        time.advance(1799)
        #expect(sessions.session(value, isUse: false) != nil)
        time.advance(1)
        #expect(sessions.session(value) == nil, "what is no use does not keep it")
        #expect(sessions.count == 0)
    }

    @Test func endsHoweverMuchItIsUsed() {
        let value = sessions.begin("vera", .viewer)
        for _ in 0..<5 {
            time.advance(1199)
            #expect(sessions.session(value) != nil)
        }
        time.advance(5)
        #expect(sessions.session(value) == nil)
    }

    @Test func endsWhenSignedOut() {
        let (one, other) = (sessions.begin("vera", .viewer), sessions.begin("vera", .viewer))
        sessions.end(one)
        #expect(sessions.session(one) == nil)
        #expect(sessions.session(other)?.user == "vera")
    }

    @Test func aUserHasOnlySoMany() {
        let first = sessions.begin("vera", .viewer)
        time.advance(1)
        let others = (1..<SessionTable.mostOfUser).map { _ in sessions.begin("vera", .viewer) }
        #expect(sessions.session(first) != nil)
        time.advance(1)
        for each in others { _ = sessions.session(each) }
        let last = sessions.begin("vera", .viewer)
        #expect(sessions.session(first) == nil, "the one unused for longest makes room")
        #expect((others + [last]).allSatisfy { sessions.session($0) != nil })
    }

    @Test func thereAreOnlySoMany() {
        for number in 0..<SessionTable.most + 1 { _ = sessions.begin("user \(number)", .viewer) }
        #expect(sessions.count == SessionTable.most)
    }
}
