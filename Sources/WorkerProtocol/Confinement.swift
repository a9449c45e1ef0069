internal import CLinux

#if canImport(Glibc)
internal import Glibc
#endif

/// What a child gives up first thing, before it reads a byte of its job.
public struct Confinement: Sendable {
    /// Access to one path and all below it.
    public struct PathRule: Codable, Sendable, Hashable {
        public enum Access: String, Codable, Sendable {
            /// Read files and list directories.
            case read
            /// Read, write, create, remove: a scratch folder.
            case scratch
            /// Create files and directories, list; no reading of what is there.
            case addOnly
            /// Write to an existing file, such as /dev/null.
            case write
        }
        public var path: String
        public var access: Access
        public init(_ path: String, _ access: Access) {
            self.path = path
            self.access = access
        }
    }

    /// What is in force, for the daemon's log: missing kernel features are warned of once.
    public struct Report: Codable, Sendable, Equatable {
        public var landlockVersion: Int
        public var seccomp: Bool
        public var missing: [String]
        public init(landlockVersion: Int = 0, seccomp: Bool = false, missing: [String] = []) {
            self.landlockVersion = landlockVersion
            self.seccomp = seccomp
            self.missing = missing
        }
    }

    public var addressSpaceBytes: UInt64
    public var fileSizeBytes: UInt64
    public var cpuSeconds: UInt64
    public var descriptors: UInt64
    public var paths: [PathRule]
    /// Whether the verb may open connections (`send`, `echo`, `reach`, `find`, `move`, `commit`).
    public var allowsNetwork: Bool
    /// Signals and other processes stay untouched; nice value added for work that must not slow receiving.
    public var niceness: Int32

    public init(
        addressSpaceBytes: UInt64 = 2 << 30, fileSizeBytes: UInt64 = 4 << 30, cpuSeconds: UInt64 = 3600,
        descriptors: UInt64 = 256, paths: [PathRule], allowsNetwork: Bool = false, niceness: Int32 = 0
    ) {
        self.addressSpaceBytes = addressSpaceBytes
        self.fileSizeBytes = fileSizeBytes
        self.cpuSeconds = cpuSeconds
        self.descriptors = descriptors
        self.paths = paths
        self.allowsNetwork = allowsNetwork
        self.niceness = niceness
    }

    /// Applies all of it to the calling process; to be called before other threads exist.
    ///
    /// Limits and `no_new_privs` must hold; Landlock and seccomp are reported where the kernel lacks them.
    public func apply() throws -> Report {
        clinux_reset_signals()
        if niceness != 0 { _ = nice(niceness) }
        guard clinux_set_limits(addressSpaceBytes, fileSizeBytes, cpuSeconds, descriptors) == 0 else {
            throw WorkerError(.system, "cannot set resource limits: \(Errno.text)")
        }
        guard clinux_no_new_privileges() == 0 else {
            throw WorkerError(.system, "cannot set no_new_privs: \(Errno.text)")
        }
        var report = Report(landlockVersion: Int(clinux_landlock_version()))
        if !restrictPaths() {
            report.landlockVersion = 0
            report.missing.append("landlock: \(Errno.text)")
        }
        report.seccomp = clinux_seccomp(allowsNetwork ? 0 : Int32(CLINUX_DENY_NETWORK)) == 0
        if !report.seccomp { report.missing.append("seccomp: \(Errno.text)") }
        return report
    }

    private func restrictPaths() -> Bool {
        let strings = paths.map { strdup($0.path) }
        defer { strings.forEach { free($0) } }
        let rules = zip(paths, strings).map { clinux_path_rule(path: $1, access: $0.access.bits) }
        return clinux_landlock_restrict(rules, rules.count, allowsNetwork ? 1 : 0) == 0
    }
}

extension Confinement.PathRule.Access {
    fileprivate var bits: UInt32 {
        switch self {
        case .read: UInt32(CLINUX_READ)
        case .scratch:
            UInt32(CLINUX_READ | CLINUX_WRITE | CLINUX_ADD | CLINUX_REMOVE)
        case .addOnly: UInt32(CLINUX_ADD | CLINUX_LIST)
        case .write: UInt32(CLINUX_WRITE)
        }
    }
}
