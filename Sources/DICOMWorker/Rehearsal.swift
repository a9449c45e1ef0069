internal import CLinux
internal import DICOM
internal import WorkerProtocol

/// What a template does before it makes workers: once through all that a worker does for an object, in memory. Swift
/// looks up types and conformances at their first use, which costs milliseconds; its workers find them looked up.
enum Rehearsal {
    /// - Throws: `WorkerError` where the channel between daemon and worker does not carry what it has to.
    static func run() throws {
        var sockets: [Int32] = [-1, -1]
        guard clinux_socket_pair(&sockets) == 0 else {
            throw WorkerError(.system, "cannot make a socket pair: \(Errno.text)")
        }
        let daemon = Channel(takingOwnershipOf: sockets[0], limits: .messagesOnly)
        let worker = Channel(takingOwnershipOf: sockets[1], limits: .messagesOnly)
        try daemon.send(
            ReceiveRequest.serve(AssociationJob(associationID: "", peerAddress: "", calledAETitles: [title])))
        _ = try worker.receive(ReceiveRequest.self)

        let accepted = AssociationAccepted(
            callingAETitle: title, calledAETitle: title, acceptedContexts: 1, proposedContexts: 1)
        let record = try record()
        for event: ReceiveEvent in [
            .accepted(accepted), .common(CommonAttributes(record)), .stored(OwnAttributes(record), microseconds: 1),
            .ended(AssociationEnded(how: .released, storedInstances: 1)),
        ] {
            try worker.send(event)
        }
        guard let request = CommandSet(command) else {
            throw WorkerError(.system, "the rehearsal's command set cannot be read")
        }
        _ = request.response(.success).encoded
    }

    private static let title = AETitle("ICHNODE")!
    private static let sopClass = "1.2.840.10008.5.1.4.1.1.2"
    private static let instance = "2.25.1"

    /// The header of a CT image, in implicit VR little endian.
    private static func record() throws -> InstanceRecord {
        let values: [(UInt16, UInt16, String)] = [
            (0x0008, 0x0005, "ISO_IR 100"), (0x0008, 0x0008, "ORIGINAL\\PRIMARY"), (0x0008, 0x0016, sopClass),
            (0x0008, 0x0018, instance), (0x0008, 0x0020, "20260101"), (0x0008, 0x0060, "CT"),
            (0x0010, 0x0010, "Rehearsal"), (0x0018, 0x0050, "5"), (0x0020, 0x000D, instance),
            (0x0020, 0x000E, instance), (0x0020, 0x0013, "1"), (0x0020, 0x0032, "0\\0\\0"),
            (0x0020, 0x0037, "1\\0\\0\\0\\1\\0"), (0x0028, 0x0030, "0.5\\0.5"), (0x0028, 0x1052, "-1024"),
        ]
        let header = values.flatMap { group, number, text in element(group, number, Array(text.utf8)) }
        let reader = HeaderReader(transferSyntax: .implicitLittleEndian, limits: ObjectLimits())
        try header.withUnsafeBytes { try reader.consume($0) }
        try reader.finish()
        var record = try InstanceRecord(reader, transferSyntax: .implicitLittleEndian)
        record.callingAETitle = title
        record.calledAETitle = title
        return record
    }

    /// A C-STORE request (PS3.7 §9.3.1.1).
    private static var command: [UInt8] {
        element(0, 0x0002, Array(sopClass.utf8)) + element(0, 0x0100, [1, 0]) + element(0, 0x0110, [1, 0])
            + element(0, 0x0800, [0, 0]) + element(0, 0x1000, Array(instance.utf8))
    }

    private static func element(_ group: UInt16, _ number: UInt16, _ value: [UInt8]) -> [UInt8] {
        let value = value.count.isMultiple(of: 2) ? value : value + [UInt8(ascii: " ")]
        return [UInt8(group & 0xFF), UInt8(group >> 8), UInt8(number & 0xFF), UInt8(number >> 8)]
            + [UInt8(value.count), 0, 0, 0] + value
    }
}
