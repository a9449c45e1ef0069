internal import CLinux
internal import DICOM
internal import Foundation
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// One object on its way to disk: its bytes go to the file as they are, while its header is read.
final class IncomingObject {
    let temporaryPath: String
    private let meta: FileMeta
    private let syntax: TransferSyntax
    private let limits: ObjectLimits
    private let reader: HeaderReader
    private var descriptor: Int32
    private var dataSetBytes = 0
    private let metaBytes: Int
    /// Taken and not yet written, less than a block.
    private var tail: [UInt8] = []

    private static let blockBytes = 64 << 10

    /// Creates the file, which begins with its meta header.
    init(path: String, meta: FileMeta, syntax: TransferSyntax, limits: ObjectLimits) throws(StoreRefusal) {
        temporaryPath = path
        self.meta = meta
        self.syntax = syntax
        self.limits = limits
        reader = HeaderReader(transferSyntax: syntax, limits: limits)
        let header = meta.encoded
        metaBytes = header.count
        descriptor = clinux_create(path)
        guard descriptor >= 0 else { throw .system("cannot create a file") }
        tail = header
    }

    /// See `HeaderReader`.
    var studyInstanceUID: UID? { reader.studyInstanceUID(of: meta.sopInstanceUID) }

    deinit {
        if descriptor >= 0 { close(descriptor) }
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreRefusal) {
        dataSetBytes += bytes.count
        guard dataSetBytes <= limits.objectBytes else {
            throw StoreRefusal(.overLimit, "the object is over the limit of \(limits.objectBytes) bytes")
        }
        do throws(HeaderError) { try reader.consume(bytes) } catch { throw StoreRefusal(error) }
        try write(bytes)
    }

    /// The data set has ended: checks what it says of itself, and makes the file durable under its temporary name.
    func finish() throws(StoreRefusal) -> InstanceRecord {
        var record: InstanceRecord
        do throws(HeaderError) {
            try reader.finish()
            record = try InstanceRecord(reader, transferSyntax: syntax)
        } catch { throw StoreRefusal(error) }
        // PS3.4 Annex B.2.3: the data set has to be what the command says.
        guard record.sopClassUID == meta.sopClassUID else {
            throw StoreRefusal(.doesNotMatch, "SOP Class UID of command and data set differ")
        }
        guard record.sopInstanceUID == meta.sopInstanceUID else {
            throw StoreRefusal(.doesNotMatch, "SOP Instance UID of command and data set differ")
        }
        try put(UnsafeRawBufferPointer(start: nil, count: 0))
        guard fsync(descriptor) == 0 else { throw .system("cannot make the file durable") }
        record.callingAETitle = meta.sourceAETitle
        record.calledAETitle = meta.receivingAETitle
        record.fileSize = metaBytes + dataSetBytes
        return record
    }

    /// Whole blocks go to the file, the rest waits for more: of writes that begin anywhere the kernel makes many small
    /// folios of page cache, of these few large ones.
    private func write(_ bytes: UnsafeRawBufferPointer) throws(StoreRefusal) {
        let whole = (tail.count + bytes.count) / Self.blockBytes * Self.blockBytes
        guard whole > 0 else { return tail.append(contentsOf: bytes) }
        let rest = whole - tail.count
        try put(UnsafeRawBufferPointer(rebasing: bytes[..<rest]))
        tail.append(contentsOf: bytes[rest...])
    }

    /// Writes the tail, then the bytes.
    private func put(_ bytes: UnsafeRawBufferPointer) throws(StoreRefusal) {
        let isWritten = tail.withUnsafeBytes { tail in
            clinux_write_two(descriptor, tail.baseAddress, tail.count, bytes.baseAddress, bytes.count) == 0
        }
        guard isWritten else { throw .system("cannot write the object") }
        tail.removeAll(keepingCapacity: true)
    }
}
