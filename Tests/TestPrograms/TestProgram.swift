public import Foundation

#if canImport(Glibc)
public import Glibc
#endif

/// A program beside the tests.
///
/// Not Foundation's `Process`: with more than about a thousand open descriptors, which the tests in parallel have, its
/// `run()` reads past the end of `readdir`'s buffer, and crashes where no page follows.
public final class TestProgram: Sendable {
    public let pid: pid_t

    /// - Parameters:
    ///   - input: its standard input; nil: `/dev/null`.
    ///   - output: its standard output and error; nil: `/dev/null`.
    public init(
        _ path: String, _ arguments: [String], input: FileHandle? = nil, output: FileHandle? = nil
    ) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (descriptor, handle) in [(0 as Int32, input), (1, output), (2, output)] {
            if let handle {
                posix_spawn_file_actions_adddup2(&actions, handle.fileDescriptor, descriptor)
            } else {
                posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_RDWR, 0)
            }
        }
        // None of the tests' own descriptors, more than they ever have open at once.
        for descriptor in 3..<min(Int32(clamping: sysconf(Int32(_SC_OPEN_MAX))), 8192) {
            posix_spawn_file_actions_addclose(&actions, descriptor)
        }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var (none, all) = (sigset_t(), sigset_t())
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var vector = ([path] + arguments).map { strdup($0) } + [nil]
        defer { for each in vector { free(each) } }
        var started: pid_t = 0
        let error = posix_spawn(&started, path, &actions, &attributes, &vector, environ)
        guard error == 0 else { throw POSIXError(POSIXErrorCode(rawValue: error) ?? .EIO) }
        pid = started
    }

    /// Its exit code once it has ended, or 128 and the signal that ended it.
    public func wait() -> Int32 {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
        let signal = status & 0x7f
        return signal != 0 ? 128 + signal : (status >> 8) & 0xff
    }

    /// Ends it at once.
    public func end() {
        kill(pid, SIGKILL)
        _ = wait()
    }

    /// Runs a program to its end, which blocks the thread.
    /// - Parameter input: what it reads, less than a pipe holds.
    /// - Returns: its exit code, and what it wrote to standard output and error.
    public static func run(
        _ path: String, _ arguments: [String], input: Data? = nil
    ) throws -> (status: Int32, output: String) {
        let output = Pipe()
        let given = input.map { _ in Pipe() }
        let program = try TestProgram(
            path, arguments, input: given?.fileHandleForReading, output: output.fileHandleForWriting)
        try output.fileHandleForWriting.close()
        if let given, let input {
            given.fileHandleForWriting.write(input)
            try given.fileHandleForWriting.close()
        }
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        return (program.wait(), text)
    }
}
