internal import CLinux
internal import DICOM
internal import Foundation
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// A stored Part 10 file below the spool, open for reading.
final class StoredFile {
    let path: String
    let meta: FileMeta
    let syntax: TransferSyntax
    /// Another file under the same name has another.
    let stamp: Stamp
    private let descriptor: Int32
    private let size: Int
    private let dataSetOffset: Int

    private static let chunkBytes = 1 << 20

    struct Stamp: Equatable {
        let inode: ino_t
        let size: off_t
        let seconds: Int
        let nanoseconds: Int
    }

    /// - Throws: `WorkerError` with code `failed` where it cannot be read or is no such file.
    init(path: String, below spool: String) throws {
        self.path = path
        try Self.check(path, below: spool)
        let descriptor = clinux_open_read(path)
        guard descriptor >= 0 else { throw WorkerError(.failed, "cannot open the file: \(Errno.text)") }
        do {
            var status = stat()
            guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                throw WorkerError(.failed, "not a regular file")
            }
            size = Int(status.st_size)
            stamp = Stamp(
                inode: status.st_ino, size: status.st_size, seconds: status.st_mtim.tv_sec,
                nanoseconds: status.st_mtim.tv_nsec)
            let beginning = try Self.read(descriptor, at: 0, count: min(size, FileMeta.mostBytes))
            guard let (meta, dataSetOffset) = FileMeta.read(beginning) else {
                throw WorkerError(.failed, "no file meta information: not a DICOM file")
            }
            guard let syntax = TransferSyntax(meta.transferSyntaxUID) else {
                throw WorkerError(.failed, "transfer syntax \(meta.transferSyntaxUID) is not supported")
            }
            self.descriptor = descriptor
            self.meta = meta
            self.syntax = syntax
            self.dataSetOffset = dataSetOffset
        } catch {
            close(descriptor)
            throw error
        }
    }

    deinit { close(descriptor) }

    /// Reads the header, and the whole data set where its digest is wanted.
    private func scan(limits: ObjectLimits, digest: SHA256Digest?) throws -> HeaderReader {
        let reader = HeaderReader(transferSyntax: syntax, limits: limits)
        var at = dataSetOffset
        do {
            while at < size, digest != nil || !reader.isComplete {
                let chunk = try Self.read(descriptor, at: at, count: min(Self.chunkBytes, size - at))
                guard !chunk.isEmpty else { throw WorkerError(.failed, "the file is shorter than it was") }
                try chunk.withUnsafeBytes { bytes in
                    try reader.consume(bytes)
                    digest?.update(bytes)
                }
                at += chunk.count
            }
            try reader.finish()
        } catch let error as HeaderError {
            throw WorkerError(.failed, error.description)
        }
        return reader
    }

    /// Checks what DCMTK, whose reader recurses and allocates what a file declares, is about to read.
    /// - Returns: SHA-256 of the data set, lower-case hexadecimal.
    func checkBeforeDecoding(limits: ObjectLimits = .widest) throws -> String {
        let digest = SHA256Digest()
        let reader = try scan(limits: limits, digest: digest)
        guard reader.hasPixelData else { throw WorkerError(.failed, "no pixel data") }
        guard reader.pixelDataLength ?? 0 <= 2 * DecodeLimits.decodedBytes else {
            throw WorkerError(.failed, "pixel data is longer than the limit")
        }
        return digest.finish()
    }

    /// What `receive` recorded of the file, from the file alone.
    func record(limits: ObjectLimits = .widest) throws -> InstanceRecord {
        let reader = try scan(limits: limits, digest: nil)
        var record: InstanceRecord
        do { record = try InstanceRecord(reader, transferSyntax: syntax) } catch {
            throw WorkerError(.failed, error.description)
        }
        record.callingAETitle = meta.sourceAETitle
        record.calledAETitle = meta.receivingAETitle
        record.fileSize = size
        record.version = Self.version(path)
        return record
    }

    /// `<UID>.dcm` is version 1, `<UID>.v2.dcm` version 2.
    static func version(_ path: String) -> Int {
        let parts = path.split(separator: "/").last?.split(separator: ".") ?? []
        guard parts.count >= 3, let part = parts.dropLast().last, part.hasPrefix("v") else { return 1 }
        return Int(part.dropFirst()) ?? 1
    }

    private static func check(_ path: String, below spool: String) throws {
        let root = spool.hasSuffix("/") ? spool : spool + "/"
        guard path.hasPrefix(root), !path.split(separator: "/").contains("..") else {
            throw WorkerError(.failed, "a path outside of the spool")
        }
    }

    private static func read(_ descriptor: Int32, at offset: Int, count: Int) throws -> [UInt8] {
        var failed = false
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                let taken = pread(descriptor, buffer.baseAddress! + filled, count - filled, off_t(offset + filled))
                if taken < 0, errno == EINTR { continue }
                if taken < 0 { failed = true }
                if taken <= 0 { return }
                filled += taken
            }
        }
        if failed { throw WorkerError(.failed, "cannot read the file: \(Errno.text)") }
        return bytes
    }
}
