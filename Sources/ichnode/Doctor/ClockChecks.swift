import AlertDispatcher
import Foundation
import Ledger

/// Whether the clock can be believed: ages of studies, certificates and signatures go by it.
struct ClockChecks {
    /// Of file systems, and of what is written meanwhile.
    private static let toleratedSeconds = 60.0
    private static let warnedSeconds = 30.0
    /// Signatures of events hold for as long.
    private static let refusedSeconds = 300.0

    let configuration: NodeConfiguration

    func examine() -> [SetupFinding] { [synchronised, order()] }

    private var synchronised: SetupFinding {
        switch NodePortrait.isClockSynchronised {
        case true?: .good(.clockSynchronised, "clock", "the clock is synchronised")
        case false?:
            .warning(
                .clockSynchronised, "clock", "the clock is not synchronised: times in reports may be off",
                "timedatectl set-ntp true, or mend chrony")
        case nil:
            .warning(
                .clockSynchronised, "clock", "whether the clock is synchronised cannot be seen from here",
                "compare it with another, or look at timedatectl")
        }
    }

    /// Nothing was written in the future.
    private func order() -> SetupFinding {
        let folders = NodeFolders(of: configuration)
        let audit = folders.audit.appendingPathComponent("audit.log").path
        let written = ["", "-wal"].map { (name: "the ledger was written", path: folders.ledger.path + $0) }
        let others = [("the audit trail was written", audit), ("this program was installed", "/proc/self/exe")]
        let now = WallClock.system.now()
        let latest = (written + others).compactMap { each in Owner(of: each.path).map { (each.name, $0.modified) } }
            .max { $0.1 < $1.1 }
        guard let latest, latest.1.timeIntervalSince(now) > Self.toleratedSeconds else {
            return .good(.clockOrder, "clock", "the clock is after all that was written")
        }
        let text = "the clock says \(Self.text(now)), which is before \(latest.0), at \(Self.text(latest.1))"
        return .bad(.clockOrder, "clock", text, "set the clock before the node starts, and have it synchronised")
    }

    /// - Parameter receivers: by name, how their clock differs from ours, seconds; nil where they do not tell.
    static func compare(_ receiver: String, _ difference: TimeInterval?) -> [SetupFinding] {
        guard let difference else { return [] }
        let seconds = abs(difference)
        guard seconds > warnedSeconds else {
            return [.good(.clockReceiver, receiver, "the clock agrees with that of webhook \(receiver)")]
        }
        let side = difference > 0 ? "behind" : "ahead of"
        let text = "the clock is \(Int(seconds)) s \(side) that of webhook \(receiver)"
        let advice = "set the clock of this machine, or of the receiver, which refuses events that seem old"
        let level = seconds > refusedSeconds ? SetupFinding.Level.bad : .warning
        return [SetupFinding(check: .clockReceiver, subject: receiver, level: level, text: text, advice: advice)]
    }

    private static func text(_ moment: Date) -> String { ISO8601DateFormatter().string(from: moment) }
}
