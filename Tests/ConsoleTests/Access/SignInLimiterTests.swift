import Foundation
import Testing

@testable import Console

@Suite struct SignInLimiterTests {
    private let time = SetClock()
    private let limiter: SignInLimiter

    init() { limiter = SignInLimiter(ConsoleSettings.LockOut(), clock: time.clock) }

    private func fail(_ times: Int, _ user: String = "otto", _ address: String = "10.0.0.1") {
        for _ in 0..<times { _ = limiter.begin(user, address) }
    }

    @Test func pausesGrow() {
        fail(5)
        var pauses: [Double] = []
        for _ in 0..<7 {
            let pause = limiter.begin("otto", "10.0.0.1") ?? 0
            pauses.append(pause)
            time.advance(pause)
            #expect(limiter.begin("otto", "10.0.0.1") == nil, "then one more is looked at")
        }
        #expect(pauses == [30, 60, 120, 240, 480, 900, 900])
    }

    @Test func theTryBeforeTheLastIsFree() {
        fail(4)
        #expect(limiter.begin("otto", "10.0.0.1") == nil)
        #expect(limiter.begin("otto", "10.0.0.1") == 30)
    }

    @Test func elsewhereNobodyIsLockedOut() {
        fail(30)
        #expect(limiter.begin("otto", "10.0.0.2") == nil)
        #expect(limiter.begin("vera", "10.0.0.1") == nil)
    }

    @Test func anAddressThatTriesManyNamesIsPaused() {
        for number in 0..<SignInLimiter.mostOfAddress { #expect(limiter.begin("user \(number)", "10.0.0.1") == nil) }
        #expect(limiter.begin("one more", "10.0.0.1") == 30)
        #expect(limiter.begin("one more", "10.0.0.2") == nil)
    }

    /// Whoever has signed in from an address gets in there again, whatever others try.
    @Test func aKnownAddressIsPausedForTheUserAlone() {
        #expect(limiter.begin("otto", "10.0.0.1") == nil)
        limiter.succeeded("otto", "10.0.0.1")
        for number in 0..<200 { fail(1, "user \(number)", "10.0.0.1") }
        for number in 0..<200 { fail(1, "otto", "10.0.1.\(number)") }
        #expect(limiter.begin("vera", "10.0.0.3") != nil, "the rate of all is used up")
        #expect(limiter.begin("otto", "10.0.0.1") == nil)
        fail(4)
        #expect(limiter.begin("otto", "10.0.0.1") == 30)
    }

    @Test func allTogetherHaveARate() {
        for number in 0..<SignInLimiter.mostInMinute { #expect(limiter.begin("otto", "10.0.0.\(number)") == nil) }
        let pause = limiter.begin("otto", "10.0.1.1")
        #expect(pause != nil && (pause ?? 0) <= 60)
        time.advance(pause ?? 0)
        #expect(limiter.begin("otto", "10.0.1.1") == nil)
    }

    /// A user who signs in again and again where they are known gives nobody further tries.
    @Test func whatTheRateDidNotCountIsNotTakenBack() {
        #expect(limiter.begin("otto", "10.0.0.1") == nil)
        limiter.succeeded("otto", "10.0.0.1")
        for number in 0..<SignInLimiter.mostInMinute { #expect(limiter.begin("vera", "10.0.1.\(number)") == nil) }
        for _ in 0..<10 {
            #expect(limiter.begin("otto", "10.0.0.1") == nil)
            limiter.succeeded("otto", "10.0.0.1")
            #expect(limiter.begin("otto", "10.0.0.1") == nil)
            limiter.withdraw("otto", "10.0.0.1")
        }
        #expect(limiter.begin("vera", "10.0.2.1") != nil)
    }

    /// One Character may be a name and any number of marks.
    @Test func marksMakeNoLongNames() {
        let marks = String(repeating: "\u{301}", count: 20_000)
        for number in 0..<4 { #expect(limiter.begin("e" + marks + "\(number)", "10.0.0.1") == nil) }
        #expect(limiter.begin("e" + marks, "10.0.0.1") == nil, "they are cut to one name")
        #expect(limiter.begin("e" + marks + "x", "10.0.0.1") == 30)
    }

    @Test func whatSucceedsIsForgiven() {
        for _ in 0..<10 {
            fail(4)
            #expect(limiter.begin("otto", "10.0.0.1") == nil)
            limiter.succeeded("otto", "10.0.0.1")
            time.advance(60)
        }
    }

    /// Own success must not give an address new tries with the names of others.
    @Test func successEndsNoPauseOfTheAddress() {
        #expect(limiter.begin("mallory", "10.0.0.1") == nil)
        limiter.succeeded("mallory", "10.0.0.1")
        for number in 0..<SignInLimiter.mostOfAddress { fail(1, "user \(number)") }
        #expect(limiter.begin("mallory", "10.0.0.1") == nil)
        limiter.succeeded("mallory", "10.0.0.1")
        #expect(limiter.begin("otto", "10.0.0.1") != nil)
    }

    @Test func whatWasNotComparedDoesNotCount() {
        for _ in 0..<50 {
            #expect(limiter.begin("otto", "10.0.0.1") == nil)
            limiter.withdraw("otto", "10.0.0.1")
        }
        #expect(limiter.remembered == 0)
    }

    @Test func anHourLaterCountingBeginsAnew() {
        fail(4)
        time.advance(3601)
        fail(4)
        #expect(limiter.begin("otto", "10.0.0.1") == nil)
    }

    @Test func aHostOfIPv6IsOneAddress() {
        for number in 1...20 { fail(1, "user \(number)", "2001:db8:1:2::\(number)") }
        #expect(limiter.begin("otto", "2001:db8:1:2:ffff::1") != nil)
        #expect(limiter.begin("otto", "2001:db8:1:3::1") == nil)
    }

    @Test func remembersOnlySoMany() {
        for number in 0..<SignInLimiter.mostRemembered + 100 {
            if number % 50 == 0 { time.advance(61) }
            fail(1, String(repeating: "x", count: 10_000) + "\(number)", "10.\(number >> 8).\(number & 255).1")
            if number % 50 == 0 { #expect(limiter.remembered <= SignInLimiter.mostRemembered) }
        }
        #expect(limiter.remembered <= SignInLimiter.mostRemembered && limiter.remembered > 0)
    }
}
