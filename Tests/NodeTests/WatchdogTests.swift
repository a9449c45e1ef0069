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

    /// Feeds well before systemd's time is over.
    @Test func aPartMayStandForThreeIntervals() {
        let rhythm = WatchdogRhythm(interval: .seconds(180))
        #expect(rhythm.look == .seconds(30))
        #expect(rhythm.look * WatchdogRhythm.slowLooks == .seconds(180))
        #expect(rhythm.look * WatchdogRhythm.mostLooks == .seconds(540))
    }
}
