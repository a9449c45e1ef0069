internal import CLinux
public import Foundation
public import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// The folders in which received objects live. The spool is the truth; the ledger is an index over it.
///
/// ```
/// <root>/incoming/<association>-<n>.part        being received
/// <root>/studies/<StudyUID>/<SOPUID>.dcm        durable, acknowledged
/// <root>/studies/<StudyUID>/<SOPUID>.v2.dcm     other bytes under the same SOP Instance UID
/// ```
public struct Spool: Sendable {
    public let root: URL
    public var incoming: URL { root.appendingPathComponent("incoming") }
    public var studies: URL { root.appendingPathComponent("studies") }
    /// Held by the node and its receive workers.
    public var lock: URL { root.appendingPathComponent("lock") }

    public init(root: URL) { self.root = root }

    /// Makes the folders where they are missing.
    /// - Returns: a descriptor holding the spool's lock; receive workers inherit it, so that a daemon started anew
    ///   waits until the last worker of an earlier one is gone.
    /// - Throws: `SpoolError` saying what to change.
    public func open() throws -> Int32 {
        for folder in [root, incoming, studies] {
            do { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) } catch {
                throw SpoolError(
                    "cannot make \(folder.path): create it and make it writable for the node's user (\(error))"
                )
            }
            guard clinux_sync_directory(folder.path) == 0 else {
                throw SpoolError("cannot fsync \(folder.path): \(Errno.text)")
            }
        }
        let held = clinux_lock_file(lock.path, 10)
        guard held >= 0 else { throw SpoolError("another node holds \(root.path): stop it first (\(Errno.text))") }
        return held
    }

    /// Removes what interrupted associations left in `incoming/`. Nothing there was acknowledged.
    /// - Returns: how many files were removed.
    public func removeUnfinished() throws -> Int {
        let files = try FileManager.default.contentsOfDirectory(at: incoming, includingPropertiesForKeys: nil)
        for file in files { try FileManager.default.removeItem(at: file) }
        return files.count
    }

    /// Removes what a dead association left.
    func removeUnfinished(association id: String) throws {
        for file in try FileManager.default.contentsOfDirectory(at: incoming, includingPropertiesForKeys: nil)
        where file.lastPathComponent.hasPrefix("\(id)-") {
            try FileManager.default.removeItem(at: file)
        }
    }

    /// Folders of studies. Folders of other names are none of the node's.
    func folders() throws -> [(study: UID, path: String)] {
        try FileManager.default.contentsOfDirectory(atPath: studies.path)
            .compactMap { name in UID(name).map { ($0, "\(studies.path)/\(name)") } }
    }

    /// Paths of the durable objects of a study.
    func paths(in folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".dcm") }
            .map { "\(folder)/\($0)" }
    }

    public func path(study: UID, instance: UID, version: Int = 1) -> String {
        version == 1
            ? "\(studies.path)/\(study)/\(instance).dcm" : "\(studies.path)/\(study)/\(instance).v\(version).dcm"
    }

    /// What to do with an object whose name is taken.
    func verdict(on collision: Collision) -> CollisionVerdict { judge(collision).verdict }

    /// - Parameter unusable: is told of each stored file that cannot be read, or not be dated anew. It stands in the
    ///   way of no intact copy: the next version is kept, and the newest counts.
    /// - Returns: the verdict, and the version that it is about.
    func judge(
        _ collision: Collision, unusable: (_ path: String, _ error: any Error) -> Void = { _, _ in }
    ) -> (verdict: CollisionVerdict, version: Int) {
        let record = collision.record
        // Paths are made from checked UIDs here, never taken from the worker.
        guard collision.temporaryPath.hasPrefix(incoming.path + "/"), !collision.temporaryPath.contains("/../") else {
            return (.refuse(reason: "worker named a file outside incoming"), 1)
        }
        let received: StoredDataSet
        do { received = try StoredDataSet(URL(fileURLWithPath: collision.temporaryPath)) } catch {
            return (.refuse(reason: Self.receivedUnreadable), 1)
        }
        for version in 1...Self.mostVersions {
            let existing = path(study: record.studyInstanceUID, instance: record.sopInstanceUID, version: version)
            guard FileManager.default.fileExists(atPath: existing) else {
                return (.keepAs(path: existing, version: version), version)
            }
            do {
                guard try received.isSame(as: URL(fileURLWithPath: existing)) else { continue }
            } catch let error as StoredDataSet.OtherUnreadable {
                unusable(existing, error.cause)
                continue
            } catch { return (.refuse(reason: Self.receivedUnreadable), version) }
            // Retention may have marked it and not removed it. Newer than what the ledger knows of it, `SpoolMender`
            // takes it for sent again, should the node end before the ledger hears of it.
            guard utimes(existing, nil) == 0 else {
                // Another's file.
                unusable(existing, POSIXError(POSIXErrorCode(rawValue: errno) ?? .EPERM))
                continue
            }
            return (.identical, version)
        }
        return (.refuse(reason: "more than \(Self.mostVersions) versions of one SOP instance"), Self.mostVersions)
    }

    /// Versions of one SOP Instance UID that are kept.
    static let mostVersions = 16

    private static let receivedUnreadable = "cannot read the received object back"
}

/// The data set within a Part 10 file. Read, not mapped: a mapped file that is cut short ends the daemon by SIGBUS.
private final class StoredDataSet {
    /// It is not this file that cannot be read.
    struct OtherUnreadable: Error {
        let cause: any Error
    }

    /// Of the value of (0002,0000), UL: the bytes of the file meta header after it. Before it are the preamble, "DICM"
    /// and the element's tag, VR and length.
    private static let metaLengthOffset = 140
    private static let chunkBytes = 1 << 20

    let length: Int
    private let descriptor: Int32
    private let start: Int

    init(_ file: URL) throws {
        var status = stat()
        // Opening a FIFO or a device could block.
        guard lstat(file.path, &status) == 0, Self.isRegular(status) else {
            throw SpoolError("a stored file is no regular file")
        }
        descriptor = clinux_open_read(file.path)
        guard descriptor >= 0 else { throw SpoolError("cannot open a stored file: \(Errno.text)") }
        do { (start, length) = try Self.extent(descriptor) } catch {
            close(descriptor)
            throw error
        }
    }

    deinit { close(descriptor) }

    /// Whether another Part 10 file holds the same data set bytes; their file meta headers may differ (PS3.10 §7.1).
    func isSame(as file: URL) throws -> Bool {
        let other: StoredDataSet
        do { other = try StoredDataSet(file) } catch { throw OtherUnreadable(cause: error) }
        return try length == other.length && equals(other)
    }

    /// Both have to be of the same length.
    private func equals(_ other: StoredDataSet) throws -> Bool {
        var (mine, theirs) = (Self.chunk(), Self.chunk())
        for offset in stride(from: 0, to: length, by: Self.chunkBytes) {
            let count = min(Self.chunkBytes, length - offset)
            let same = try mine.withUnsafeMutableBytes { mine in
                try theirs.withUnsafeMutableBytes { theirs in
                    try read(into: UnsafeMutableRawBufferPointer(rebasing: mine[..<count]), at: offset)
                    do {
                        try other.read(into: UnsafeMutableRawBufferPointer(rebasing: theirs[..<count]), at: offset)
                    } catch { throw OtherUnreadable(cause: error) }
                    return memcmp(mine.baseAddress!, theirs.baseAddress!, count) == 0
                }
            }
            guard same else { return false }
        }
        return true
    }

    private func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws {
        try Self.read(descriptor, into: buffer, at: start + offset)
    }

    private static func read(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws {
        var filled = 0
        while filled < buffer.count {
            let count = pread(descriptor, buffer.baseAddress! + filled, buffer.count - filled, off_t(offset + filled))
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw SpoolError("cannot read a stored file: \(Errno.text)") }
            guard count > 0 else { throw SpoolError("a stored file is cut short") }
            filled += count
        }
    }

    /// Where the data set begins, and its length.
    private static func extent(_ descriptor: Int32) throws -> (start: Int, length: Int) {
        var status = stat()
        guard fstat(descriptor, &status) == 0, isRegular(status) else {
            throw SpoolError("a stored file is no regular file")
        }
        var bytes = [UInt8](repeating: 0, count: 4)
        try bytes.withUnsafeMutableBytes { try read(descriptor, into: $0, at: metaLengthOffset) }
        let start = metaLengthOffset + 4 + bytes.reversed().reduce(0) { $0 << 8 | Int($1) }
        let length = Int(status.st_size) - start
        guard length >= 0 else { throw SpoolError("a stored file is cut short") }
        return (start, length)
    }

    private static func chunk() -> [UInt8] { [UInt8](repeating: 0, count: chunkBytes) }

    private static func isRegular(_ status: stat) -> Bool { status.st_mode & S_IFMT == S_IFREG }
}

/// The spool cannot be used; says what to change.
public struct SpoolError: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}
