internal import Foundation
internal import Logging
internal import NIOCore
internal import NIOSSL
internal import Synchronization
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// The console's certificate and key: read again once the files have changed, as the DICOM TLS port does.
final class ConsoleCertificate: Sendable {
    private struct Mark: Equatable {
        var seconds: Int
        var nanoseconds: Int
        var bytes: Int64
        var inode: UInt64
    }

    private struct Material: Sendable {
        var marks: [Mark]
        var chain: [NIOSSLCertificateSource]
        var key: NIOSSLPrivateKeySource
    }

    private let files: TLSFiles
    private let logger: Logger
    private let material: Mutex<Material>
    /// What could not be used, and what was said of it: once, not for every connection.
    private let refused = Mutex<(marks: [Mark], trouble: String?)>(([], nil))

    /// - Throws: what is wrong with the files.
    init(_ files: TLSFiles, logger: Logger) throws {
        self.files = files
        self.logger = logger
        material = Mutex(try Self.read(files, try Self.marks(files)))
    }

    /// TLS 1.2 and later.
    func configuration() -> TLSConfiguration {
        let current = material.withLock { $0 }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: current.chain, privateKey: current.key)
        configuration.minimumTLSVersion = .tlsv12
        configuration.sslContextCallback = { [self] _, promise in
            renew()
            let current = material.withLock { $0 }
            var override = NIOSSLContextConfigurationOverride()
            (override.certificateChain, override.privateKey) = (current.chain, current.key)
            promise.succeed(override)
        }
        return configuration
    }

    /// Keeps what there is where the new files are of no use: they may be under way.
    private func renew() {
        var marks: [Mark] = []
        do {
            marks = try Self.marks(files)
            guard marks != refused.withLock({ $0.marks }) else { return }
            if marks != material.withLock({ $0.marks }) {
                let read = try Self.read(files, marks)
                material.withLock { $0 = read }
                logger.notice("the console's certificate was renewed")
            }
            refused.withLock { $0 = ([], nil) }
        } catch {
            let trouble = "\(error)"
            let isNew = refused.withLock { refused in
                defer { refused = (marks, trouble) }
                return refused.trouble != trouble || refused.marks != marks
            }
            if isNew { logger.error("the console's new certificate is of no use", metadata: ["error": "\(trouble)"]) }
        }
    }

    private static func read(_ files: TLSFiles, _ marks: [Mark]) throws -> Material {
        let chain = try NIOSSLCertificate.fromPEMFile(files.certificate)
        let key = try NIOSSLPrivateKey(file: files.key, format: .pem)
        // A certificate and the key of another: found out now, not by a browser.
        _ = try NIOSSLContext(
            configuration: .makeServerConfiguration(
                certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key)))
        return Material(marks: marks, chain: chain.map { .certificate($0) }, key: .privateKey(key))
    }

    /// - Throws: where a file is not there, or the key is open to others.
    private static func marks(_ files: TLSFiles) throws -> [Mark] {
        try [files.certificate, files.key].map { path in
            var status = stat()
            guard stat(path, &status) == 0 else { throw WorkerError(.failed, "\(path) cannot be read (\(Errno.text))") }
            if path == files.key, status.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO) != 0 {
                throw WorkerError(
                    .failed, "\(path) is open to others: chmod 640, with the node's group, or 600, with its user")
            }
            return Mark(
                seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec, bytes: Int64(status.st_size),
                inode: UInt64(status.st_ino))
        }
    }
}
