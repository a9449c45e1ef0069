import Testing

@testable import ichnode

@Suite struct WatchdogTests {
    /// sd_watchdog_enabled(3).
    @Test func feedsOnlyWhatIsMeantForThisProcess() {
        func interval(_ environment: [String: String]) -> Duration? {
            SystemdNotifier.watchdogInterval(environment, processID: 42)
        }
        #expect(interval([:]) == nil)
        #expect(interval(["WATCHDOG_USEC": "180000000"]) == .seconds(180))
        #expect(interval(["WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "42"]) == .seconds(180))
        #expect(interval(["WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "43"]) == nil)
        #expect(interval(["WATCHDOG_USEC": "0"]) == nil)
        #expect(interval(["WATCHDOG_USEC": "soon"]) == nil)
    }

    /// Feeds well before systemd's time is over, and leaves a part its own pause beside the three intervals.
    @Test func aPartMayStandForThreeIntervalsAndItsPause() {
        let rhythm = WatchdogRhythm(interval: .seconds(180))
        #expect(rhythm.look == .seconds(30))
        #expect(rhythm.mostLooks(.zero) == 18)
        #expect(rhythm.mostLooks(.seconds(10)) == 19)
        #expect(rhythm.mostLooks(.seconds(600)) == 38)
        #expect(rhythm.slowLooks(.zero) == 6 && rhythm.slowLooks(.seconds(600)) == 26)
    }
}
