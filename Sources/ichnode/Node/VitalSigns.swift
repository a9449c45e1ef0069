import Foundation
import Glibc
import Ledger
import Logging
import Metrics
import ServiceLifecycle
import Synchronization
import WorkerProtocol

/// Looks whether those parts still turn whose standstill would be silence, and feeds the watchdog of systemd while all
/// do. What stands still is logged by name before.
///
/// On a thread of its own, since the pool that all tasks share is one of the parts. It counts its own looks, not time:
/// a machine that was suspended, or too busy to let the thread run, makes no part late.
final class VitalSigns: Service {
    struct Part: Sendable {
        var name: String
        var pulse: Pulse
        /// Has the part beat, where it does not by itself.
        var nudge: (@Sendable () async -> Void)?

        /// A part that has to answer.
        static func answering(_ name: String, _ ask: @escaping @Sendable () async -> Void) -> Part {
            let pulse = Pulse()
            return Part(name: name, pulse: pulse) {
                await ask()
                pulse.beat()
            }
        }
    }

    private let parts: [Part]
    private let status: @Sendable () async -> String
    private let rhythm: WatchdogRhythm
    private let logger: Logger
    private let shown = Mutex("")
    private let still = Mutex<[String]>([])

    init(_ parts: VitalParts, rhythm: WatchdogRhythm = .ofThisProcess, logger: Logger) {
        self.parts = parts.all
        status = parts.status
        self.rhythm = rhythm
        self.logger = logger
    }

    /// Names of the parts that stand still, as of the last look; nil: none.
    var standstill: String? { still.withLock { $0.isEmpty ? nil : $0.joined(separator: ", ") } }

    func run() async throws {
        let thread = Thread { [self] in watch() }
        thread.name = "watchdog"
        thread.start()
        await cancelWhenGracefulShutdown { [self] in
            await withDiscardingTaskGroup { group in
                for part in parts {
                    guard let nudge = part.nudge else { continue }
                    group.addTask { await self.repeatedly(nudge) }
                }
                group.addTask {
                    await self.repeatedly {
                        let text = await self.status()
                        self.shown.withLock { $0 = text }
                    }
                }
            }
        }
        SystemdNotifier.send("STOPPING=1\nSTATUS=Stopping")
    }

    private func repeatedly(_ body: @Sendable () async -> Void) async {
        while !Task.isCancelled {
            await body()
            do { try await Task.sleep(for: rhythm.look) } catch { return }
        }
    }

    // MARK: The thread

    /// To the end of the process.
    private func watch() {
        var looks = parts.map { (count: $0.pulse.count, unchanged: 0) }
        let seconds = parts.map { Gauge(label: "ichnode_part_still_seconds", dimensions: [("part", $0.name)]) }
        for gauge in seconds { gauge.record(0) }
        var told = ""
        while true {
            Thread.sleep(forTimeInterval: rhythm.look.inSeconds)
            var names: [String] = []
            for index in parts.indices {
                let count = parts[index].pulse.count
                let before = looks[index].unchanged
                looks[index] = (count, count == looks[index].count ? before + 1 : 0)
                let now = looks[index].unchanged
                seconds[index].record(rhythm.look.inSeconds * Double(now))
                tell(parts[index], before: before, now: now)
                if now >= WatchdogRhythm.mostLooks { names.append(parts[index].name) }
            }
            still.withLock { $0 = names }
            if names.isEmpty { SystemdNotifier.feedWatchdog() }
            let text = names.isEmpty ? shown.withLock { $0 } : "Standing still: \(names.joined(separator: ", "))"
            if text != told { SystemdNotifier.send("STATUS=\(text)") }
            told = text
        }
    }

    private func tell(_ part: Part, before: Int, now: Int) {
        let (slow, most) = (WatchdogRhythm.slowLooks, WatchdogRhythm.mostLooks)
        let metadata: Logger.Metadata = [
            "part": "\(part.name)", "seconds": "\(Int(rhythm.look.inSeconds * Double(max(before, now))))",
        ]
        if now == most {
            logger.error("part of the node stands still; the watchdog is not fed", metadata: metadata)
        } else if now == slow {
            logger.warning("part of the node is slow to turn", metadata: metadata)
        } else if now == 0 && before >= slow {
            logger.notice("part of the node turns again", metadata: metadata)
        }
    }
}

/// How often is looked, and for how long a part may stand.
struct WatchdogRhythm: Sendable, Equatable {
    /// What systemd waits for between two signs of life, `WatchdogSec=`.
    var interval: Duration

    /// In an interval. After so many without a beat in between a part is slow.
    static let slowLooks = 6
    /// After which it stands still. A disk that stalls, or a machine that is too busy, costs minutes now and then, and
    /// is not mended by a restart.
    static let mostLooks = 3 * slowLooks

    /// Without a watchdog the same is looked at, and said in the log and by `/health/live`.
    static let standard = WatchdogRhythm(interval: .seconds(180))
    static let ofThisProcess = SystemdNotifier.watchdogInterval.map { WatchdogRhythm(interval: $0) } ?? standard

    var look: Duration { interval / Self.slowLooks }
}
