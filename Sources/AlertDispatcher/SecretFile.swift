public import Foundation
public import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// A secret that is shared with a receiver, in a file of its own.
public enum SecretFile {
    private static let bytes = 16...4096

    /// - Returns: the file's bytes without line ends after them.
    /// - Throws: `WorkerError` that says what to change; never with a byte of the secret.
    public static func read(_ path: String) throws(WorkerError) -> Data {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else {
            throw WorkerError(
                .failed, "\(path) cannot be read (\(Errno.text)): name a file that the node's user may read")
        }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw WorkerError(.failed, "\(path) is no file")
        }
        // As for private keys.
        guard status.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO) == 0 else {
            throw WorkerError(
                .failed,
                "\(path) is open to others (mode \(String(status.st_mode & 0o7777, radix: 8))): chmod 640, with the "
                    + "node's group, or 600, with the node's user")
        }
        var buffer = [UInt8](repeating: 0, count: Self.bytes.upperBound + 3)
        let count = Glibc.read(file, &buffer, buffer.count)
        var secret = Data(buffer.prefix(max(0, count)))
        while let last = secret.last, last == UInt8(ascii: "\n") || last == UInt8(ascii: "\r") { secret.removeLast() }
        guard Self.bytes.contains(secret.count) else {
            throw WorkerError(
                .failed,
                "\(path) has to hold a secret of \(Self.bytes.lowerBound) to \(Self.bytes.upperBound) bytes, such as "
                    + "`openssl rand -hex 32`")
        }
        return secret
    }
}
