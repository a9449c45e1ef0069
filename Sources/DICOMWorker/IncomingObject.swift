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

    /// Creates the file and writes its meta header.
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
        let written = header.withUnsafeBytes { bytes in
            Result { () throws(StoreRefusal) in try write(bytes) }
        }
        try written.get()
    }

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
        guard fsync(descriptor) == 0 else { throw .system("cannot make the file durable") }
        record.callingAETitle = meta.sourceAETitle
        record.calledAETitle = meta.receivingAETitle
        record.fileSize = metaBytes + dataSetBytes
        return record
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(StoreRefusal) {
        var rest = bytes
        while !rest.isEmpty {
            let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
            guard count > 0 || (count < 0 && errno == EINTR) else { throw .system("cannot write the object") }
            rest = UnsafeRawBufferPointer(rebasing: rest[max(0, count)...])
        }
    }
}
