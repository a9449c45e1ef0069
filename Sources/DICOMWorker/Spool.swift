internal import CLinux
internal import DICOM
internal import Foundation
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// The two folders that a receiving worker writes to, and the steps by which an object becomes durable in them.
final class Spool {
    private let incoming: String
    private let studies: String
    private let job: AssociationJob
    private let partial: PartialFile
    private var objects = 0
    /// Study folders whose name in `studies` is known to be durable.
    private var durableStudies: Set<UID> = []

    private static let folderMode: mode_t = 0o750

    /// - Throws: `WorkerError` where the association's identifier cannot be part of a file name.
    init(incoming: String, studies: String, job: AssociationJob, partial: PartialFile) throws {
        let isPlain = job.associationID.utf8.allSatisfy { byte in
            byte == UInt8(ascii: "-") || (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
                || (0x61...0x7A).contains(byte)
        }
        guard isPlain, (1...100).contains(job.associationID.utf8.count) else {
            throw WorkerError(.protocolViolation, "an association identifier of other than letters, digits and hyphens")
        }
        self.incoming = incoming
        self.studies = studies
        self.job = job
        self.partial = partial
    }

    func begin(_ meta: FileMeta, syntax: TransferSyntax) throws(StoreRefusal) -> IncomingObject {
        try requireRoom()
        objects += 1
        let path = "\(incoming)/\(job.associationID)-\(objects).part"
        partial.begin(path)
        do throws(StoreRefusal) {
            return try IncomingObject(path: path, meta: meta, syntax: syntax, limits: job.limits)
        } catch {
            discard()
            throw error
        }
    }

    /// The disk's second watermark: other associations, and what the node itself has to write, need the rest.
    private func requireRoom() throws(StoreRefusal) {
        guard job.leastFreeBytes > 0 else { return }
        var (free, total): (UInt64, UInt64) = (0, 0)
        guard clinux_disk_space(incoming, &free, &total) == 0 else { throw .system("cannot tell free disk space") }
        if free < job.leastFreeBytes { throw StoreRefusal(.outOfResources, "the disk is full") }
    }

    /// Removes the object that is under way.
    func discard() { partial.remove() }

    /// What became of a final name.
    enum Placement {
        case placed
        /// The object has it, but a power cut may take it away: not to be acknowledged.
        case placedOnly(StoreRefusal)
        case taken
    }

    func path(of record: InstanceRecord) -> String {
        "\(studies)/\(record.studyInstanceUID)/\(record.sopInstanceUID).dcm"
    }

    /// Gives the durable temporary file its final name, and makes the name durable: after this the object may be
    /// acknowledged.
    func place(_ temporaryPath: String, as path: String, study: UID) throws(StoreRefusal) -> Placement {
        let folder = "\(studies)/\(study)"
        try makeDurable(folder, study: study)
        guard clinux_rename_noreplace(temporaryPath, path) == 0 else {
            if errno == EEXIST { return .taken }
            throw .system("cannot move the object into its study")
        }
        partial.end()
        do throws(StoreRefusal) { try sync(folder) } catch { return .placedOnly(error) }
        return .placed
    }

    /// The object is in its study already, byte for byte. Whoever put it there may have ended before the name was
    /// durable.
    func confirm(study: UID) throws(StoreRefusal) { try sync("\(studies)/\(study)") }

    private func sync(_ folder: String) throws(StoreRefusal) {
        guard clinux_sync_directory(folder) == 0 else { throw .system("cannot make the study's folder durable") }
    }

    /// Whether the daemon's choice of a path is one for a version of the object.
    func isVersionPath(_ path: String, of record: InstanceRecord) -> Bool {
        let prefix = "\(studies)/\(record.studyInstanceUID)/"
        guard path.hasPrefix(prefix), path.hasSuffix(".dcm") else { return false }
        let name = path.dropFirst(prefix.count)
        return name.hasPrefix(record.sopInstanceUID.string) && !name.contains("/")
    }

    private func makeDurable(_ folder: String, study: UID) throws(StoreRefusal) {
        if durableStudies.contains(study) { return }
        guard mkdir(folder, Self.folderMode) == 0 || errno == EEXIST else {
            throw .system("cannot make the study's folder")
        }
        // Also where it exists: another association may have made it and not come to this point.
        guard clinux_sync_directory(studies) == 0 else { throw .system("cannot make the study's name durable") }
        durableStudies.insert(study)
    }
}
