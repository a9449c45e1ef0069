import AlertDispatcher
import Foundation
import Glibc
import StoreSCP
import WorkerProtocol

/// Room for what comes.
struct DiskChecks {
    private static let imageBytes = 512.0 * 1024
    private static let leastDays = 3.0
    /// Over which the rate of arrival is taken.
    private static let weekSeconds = 7 * 86400.0
    private static let mostSeconds = 3.0

    private let configuration: NodeConfiguration

    init(_ configuration: NodeConfiguration) { self.configuration = configuration }

    func examine() -> SetupFinding {
        let path = configuration.node.dataDirectory
        let marks = configuration.watermarks
        let free: UInt64
        do { free = try DiskSpace.freeBytes(at: Self.existing(path)) } catch {
            return .bad(.diskSpace, path, "free space of the data directory cannot be read (\(error.reason))")
        }
        let told = "\(Self.gibibytes(Double(free))) free below \(path)"
        for (mark, what, key) in [
            (marks.object, "objects are refused", "refuse_objects_below_mebibytes"),
            (marks.association, "studies are rejected", "reject_associations_below_mebibytes"),
        ] where free < mark {
            return .bad(
                .diskSpace, path, "\(told): \(what) with less than \(Self.gibibytes(Double(mark)))",
                "make room, or lower disk.\(key)")
        }
        let room = Double(free - marks.association)
        let alert = configuration.operatorAlerts.policy.diskBelow
        if free < alert {
            return .warning(
                .diskSpace, path, "\(told), and operators are told of less than \(Self.gibibytes(Double(alert)))",
                "make room, or lower operator_alerts.disk_below_mebibytes")
        }
        guard let daily = dailyBytes() else {
            let images = Int(room / Self.imageBytes)
            return .good(.diskSpace, path, "\(told), room for about \(images) images before studies are rejected")
        }
        let days = room / daily
        let some = days < 1000 ? "about \(Int(days))" : "over 1000"
        let rate =
            "room for \(some) days at the rate of the last week (\(Self.gibibytes(daily)) a day) where nothing can be "
            + "removed"
        return days < Self.leastDays
            ? .warning(.diskSpace, path, "\(told), \(rate)", "a larger disk, or a smaller retention.keep_days")
            : .good(.diskSpace, path, "\(told), \(rate)")
    }

    private static func gibibytes(_ bytes: Double) -> String { String(format: "%.1f GiB", bytes / Double(1 << 30)) }

    /// The nearest folder above that exists.
    private static func existing(_ path: String) -> String {
        var url = URL(fileURLWithPath: path)
        while !FileManager.default.fileExists(atPath: url.path) && url.path != "/" { url.deleteLastPathComponent() }
        return url.path
    }

    /// nil where nothing came, or it takes too long to count.
    private func dailyBytes() -> Double? {
        let now = Date()
        let studies = NodeFolders(of: configuration).spool.studies
        guard
            let files = FileManager.default.enumerator(
                at: studies, includingPropertiesForKeys: [.contentModificationDateKey, .fileSizeKey])
        else { return nil }
        var (bytes, first) = (0.0, now)
        for case let file as URL in files where file.pathExtension == "dcm" {
            guard Date().timeIntervalSince(now) < Self.mostSeconds else { return nil }
            guard
                let values = try? file.resourceValues(forKeys: [.contentModificationDateKey, .fileSizeKey]),
                let size = values.fileSize, let moment = values.contentModificationDate,
                now.timeIntervalSince(moment) < Self.weekSeconds
            else { continue }
            bytes += Double(size)
            first = min(first, moment)
        }
        return bytes > 0 ? bytes / max(1, now.timeIntervalSince(first) / 86400) : nil
    }
}
