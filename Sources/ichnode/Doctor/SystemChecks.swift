import CLinux
import Console
import Foundation
import Glibc

/// What the node needs of the kernel, and what is missing without it.
struct SystemChecks {
    private static let leastKernel = (5, 19)
    private static let confinement = "a worker that a hostile object takes over"

    let configuration: NodeConfiguration
    /// Of the node that runs; nil where none does.
    let runningProcess: Int32?

    func examine() -> [SetupFinding] { [version(), landlock(), seccomp(), descriptors()] }

    private func version() -> SetupFinding {
        var names = utsname()
        uname(&names)
        let release = withUnsafeBytes(of: &names.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        guard numbers.count == 2, (numbers[0], numbers[1]) < Self.leastKernel else {
            return .good(.kernelVersion, release, "Linux \(release)")
        }
        let least = "\(Self.leastKernel.0).\(Self.leastKernel.1)"
        return .warning(
            .kernelVersion, release, "Linux \(release) is older than \(least): workers are confined less",
            "use Debian 12's kernel, 6.1")
    }

    private func landlock() -> SetupFinding {
        let version = max(0, clinux_landlock_version())
        guard version == 0 else { return .good(.kernelLandlock, "landlock", "Landlock \(version) confines workers") }
        return .warning(
            .kernelLandlock, "landlock", "the kernel has no Landlock: \(Self.confinement) could read other studies",
            "use Linux 5.13 or later with landlock in lsm=")
    }

    private func seccomp() -> SetupFinding {
        guard NodePortrait.hasSeccomp else {
            return .warning(
                .kernelSeccomp, "seccomp", "the kernel has no seccomp: \(Self.confinement) could use the network",
                "use a kernel with CONFIG_SECCOMP_FILTER")
        }
        return .good(.kernelSeccomp, "seccomp", "seccomp keeps workers from calls that they do not need")
    }

    /// Sockets without a request, associations with their channels, the console, and what is always open.
    private func descriptors() -> SetupFinding {
        let needed = 512 + 3 * configuration.dicom.mostAssociations + configuration.console.mostConnections + 64
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        // A shell's soft limit says nothing of the node's.
        let (most, whose) =
            runningProcess.flatMap(Self.descriptors).map { ($0, "the running node") }
            ?? (Int(clamping: limit.rlim_max), "this session")
        guard most < needed else { return .good(.descriptors, "descriptors", "\(whose) may open \(most) descriptors") }
        return .warning(
            .descriptors, "descriptors", "\(whose) may open \(most) descriptors, and full use takes \(needed)",
            "raise LimitNOFILE= of the unit, or lower dicom.most_associations")
    }

    private static func descriptors(of process: Int32) -> Int? {
        let text = (try? String(contentsOfFile: "/proc/\(process)/limits", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("Max open files") }
        return line?.split(separator: " ").dropFirst(3).first.flatMap { Int($0) }
    }
}
