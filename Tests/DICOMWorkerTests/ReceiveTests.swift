import Foundation
import Testing
import WorkerProtocol

@testable import DICOM

#if canImport(Glibc)
import Glibc
#endif

@Suite(.serialized) struct ReceiveTests {
    static let ctContext = [RawPeer.Context(1, RawPeer.ct, [RawPeer.explicitLittleEndian])]

    static func dataSet(ofFile path: String) throws -> (meta: FileMeta, bytes: [UInt8]) {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        let (meta, offset) = try #require(FileMeta.read(bytes))
        return (meta, Array(bytes[offset...]))
    }

    // MARK: Association

    @Test func negotiatesContextsEachForItself() async throws {
        let (events, results) = try await ReceivingNode().serveRaw { peer in
            let answer = try peer.associate([
                .init(1, RawPeer.ct, ["1.2.840.10008.1.2.4.100", RawPeer.explicitLittleEndian]),
                .init(3, RawPeer.verification, [RawPeer.implicitLittleEndian]),
                .init(5, "1.2.840.10008.5.1.4.1.2.2.1", [RawPeer.implicitLittleEndian]),
                .init(7, RawPeer.ct, ["1.2.840.10008.1.2.4.100"]),
            ])
            try peer.release()
            return answer.results
        }
        #expect(results == [1: 0, 3: 0, 5: 3, 7: 4])
        #expect(events.kinds == ["accepted", "ended"])
        #expect(events.ended?.how == .released)
        guard case .accepted(let accepted) = events[0] else { return }
        #expect(accepted.proposedContexts == 4)
        #expect(accepted.acceptedContexts == 2)
        #expect(accepted.callingAETitle == AETitle("PEER"))
    }

    @Test func takesExtraSOPClasses() async throws {
        var job = ReceivingNode.job()
        job.extraSOPClasses = [UID(literal: "1.2.840.113619.4.26")]
        let (_, results) = try await ReceivingNode().serveRaw(job) { peer in
            let answer = try peer.associate([.init(1, "1.2.840.113619.4.26", [RawPeer.implicitLittleEndian])])
            try peer.release()
            return answer.results
        }
        #expect(results == [1: 0])
    }

    @Test func rejectsUnknownCalledAETitle() async throws {
        let (events, answer) = try await ReceivingNode().serveRaw { peer in
            let answer = try peer.associate(called: "OTHER", Self.ctContext)
            return (answer.type, answer.body)
        }
        #expect(answer.0 == RawPeer.PDU.reject)
        // PS3.8 Table 9-21: rejected permanent, service user, called AE title not recognized.
        #expect(answer.1 == [0, 1, 1, 7])
        #expect(events.kinds == ["ended"])
        #expect(events.ended?.how == .rejected)
    }

    @Test func answersEcho() async throws {
        let (events, status) = try await ReceivingNode().serveRaw { peer in
            _ = try peer.associate([.init(1, RawPeer.verification, [RawPeer.implicitLittleEndian])])
            try peer.sendValue(
                1, command: true, last: true,
                RawPeer.command(field: 0x30, sopClass: RawPeer.verification, dataSetType: 0x0101))
            let status = try peer.receiveResponse()?.status
            try peer.release()
            return status
        }
        #expect(status == 0)
        #expect(events.kinds == ["accepted", "echoed", "ended"])
    }

    @Test func refusesOtherOperationsAndGoesOn() async throws {
        let (events, statuses) = try await ReceivingNode().serveRaw { peer in
            _ = try peer.associate(Self.ctContext)
            try peer.sendValue(1, command: true, last: true, RawPeer.command(field: 0x20, sopClass: RawPeer.ct))
            try peer.sendValue(1, command: false, last: true, [1, 2, 3])
            let find = try peer.receiveResponse()?.status
            // C-CANCEL has no answer.
            try peer.sendValue(
                1, command: true, last: true, RawPeer.command(field: 0xFFF, sopClass: RawPeer.ct, dataSetType: 0x0101))
            let store = try peer.store(sopInstance: "1.2.3.4", dataSet: PeerDataSet.ct())?.status
            try peer.release()
            return [find, store]
        }
        #expect(statuses == [0x0211, 0])
        #expect(events.kinds == ["accepted", "stored", "ended"])
    }

    @Test func storesNothingInAContextForReportsOfCommitment() async throws {
        let sopClass = "1.2.840.10008.1.20.1"
        let node = try ReceivingNode()
        let (events, status) = try await node.serveRaw { peer in
            _ = try peer.associate([.init(1, sopClass, [RawPeer.explicitLittleEndian])])
            let set = PeerDataSet.ct(sopClass: sopClass)
            let status = try peer.store(sopClass: sopClass, sopInstance: "1.2.3.4", dataSet: set)?.status
            try peer.release()
            return status
        }
        #expect(status == 0xA900)
        #expect(events.kinds == ["accepted", "refused", "ended"])
        #expect(node.stored.isEmpty)
    }

    // MARK: Storing

    @Test func keepsEveryByteWhateverThePieces() async throws {
        let node = try ReceivingNode()
        let (events, statuses) = try await node.serveRaw { peer in
            _ = try peer.associate(Self.ctContext)
            var statuses: [UInt16?] = []
            for pieces in [1, 7, 333, 16000] {
                let instance = "1.2.3.\(pieces)"
                let bytes = PeerDataSet.ct(instance: instance) + [0]
                statuses.append(try peer.store(sopInstance: instance, dataSet: bytes, pieces: pieces)?.status)
            }
            try peer.release()
            return statuses
        }
        #expect(statuses == [0, 0, 0, 0])
        #expect(events.kinds == ["accepted", "stored", "stored", "stored", "stored", "ended"])
        #expect(events.ended?.storedInstances == 4)
        #expect(node.partial.isEmpty)
        for record in events.records {
            let path = "\(node.studies)/\(record.studyInstanceUID)/\(record.sopInstanceUID).dcm"
            let (meta, bytes) = try Self.dataSet(ofFile: path)
            #expect(bytes == PeerDataSet.ct(instance: record.sopInstanceUID.string) + [0])
            #expect(meta.sourceAETitle == AETitle("PEER"))
            #expect(meta.receivingAETitle == AETitle("ICHNODE"))
            #expect(record.fileSize == meta.encoded.count + bytes.count)
        }
    }

    @Test(.enabled(if: Surroundings.sharedDICOM != nil, "needs the shared DICOM objects"))
    func keepsEveryByteOfEveryTransferSyntax() async throws {
        let node = try ReceivingNode()
        var sent: [String: (meta: FileMeta, bytes: [UInt8])] = [:]
        for file in Surroundings.files("transfer-syntaxes") {
            let object = try Self.dataSet(ofFile: file)
            sent[file] = object
            let (events, status) = try await node.serveRaw { peer in
                let syntax = object.meta.transferSyntaxUID.string
                _ = try peer.associate([.init(1, object.meta.sopClassUID.string, [syntax])])
                let response = try peer.store(
                    sopClass: object.meta.sopClassUID.string, sopInstance: object.meta.sopInstanceUID.string,
                    dataSet: object.bytes)
                try peer.release()
                return response?.status
            }
            #expect(status == 0, "\(file)")
            // The same slice, so the same SOP instance: the first is stored, the later ones collide.
            guard let record = events.records.first else {
                guard case .collision(let collision)? = events.dropFirst().first else {
                    Issue.record("neither stored nor a collision: \(file)")
                    continue
                }
                #expect(collision.record.transferSyntaxUID == object.meta.transferSyntaxUID)
                try FileManager.default.removeItem(atPath: collision.existingPath)
                continue
            }
            #expect(record.transferSyntaxUID == object.meta.transferSyntaxUID)
            let path = "\(node.studies)/\(record.studyInstanceUID)/\(record.sopInstanceUID).dcm"
            #expect(try Self.dataSet(ofFile: path).bytes == object.bytes, "\(file)")
            try FileManager.default.removeItem(atPath: path)
        }
        #expect(sent.count >= 15)
    }

    @Test(
        .enabled(
            if: Surroundings.sharedDICOM != nil && Surroundings.hasTools,
            "needs DCMTK's tools and the shared DICOM objects"
        ), arguments: ["storescu", "dcmsend"])
    func receivesFromDCMTK(tool: String) async throws {
        let node = try ReceivingNode()
        let files = Array(Surroundings.files("ge-head-tilt").prefix(10))
        let (events, result) = try await node.serve { port in
            try await run(tool, ["-aec", "ICHNODE", "127.0.0.1", "\(port)"] + files)
        }
        #expect(result.status == 0, "\(result.output)")
        #expect(events.records.count == files.count)
        #expect(node.stored.count == files.count)
        #expect(events.records.allSatisfy { $0.series.modality == "CT" && $0.image.gantryTilt == 18.5 })
        let originals = try files.map { try Self.dataSet(ofFile: $0).bytes }
        for path in node.stored { #expect(originals.contains(try Self.dataSet(ofFile: path).bytes)) }
    }

    @Test(.enabled(if: Surroundings.hasTools, "needs DCMTK's tools"))
    func answersDCMTKsEcho() async throws {
        let (events, result) = try await ReceivingNode().serve { port in
            try await run("echoscu", ["-aec", "ICHNODE", "127.0.0.1", "\(port)"])
        }
        #expect(result.status == 0, "\(result.output)")
        #expect(events.kinds == ["accepted", "echoed", "ended"])
    }

    // MARK: Collisions

    /// Stores the same instance twice, the second time with the given bytes.
    static func storeTwice(
        _ node: ReceivingNode, verdict: @escaping @Sendable (Collision) -> CollisionVerdict
    ) async throws -> (events: [ReceiveEvent], statuses: [UInt16?]) {
        let (events, statuses) = try await node.serveRaw(verdict: verdict) { peer in
            _ = try peer.associate(Self.ctContext)
            let first = try peer.store(sopInstance: "1.2.3.4", dataSet: PeerDataSet.ct())?.status
            let second = try peer.store(sopInstance: "1.2.3.4", dataSet: PeerDataSet.ct(pixelBytes: 500))?.status
            let third = try peer.store(sopInstance: "1.2.3.5", dataSet: PeerDataSet.ct(instance: "1.2.3.5"))?.status
            try peer.release()
            return [first, second, third]
        }
        return (events, statuses)
    }

    @Test func acknowledgesWhatIsIdentical() async throws {
        let node = try ReceivingNode()
        let (events, statuses) = try await Self.storeTwice(node) { _ in .identical }
        #expect(statuses == [0, 0, 0])
        #expect(events.kinds == ["accepted", "stored", "collision", "stored", "ended"])
        #expect(node.stored.count == 2)
        #expect(node.partial.isEmpty)
    }

    @Test func keepsOtherBytesAsAVersion() async throws {
        let node = try ReceivingNode()
        let (events, statuses) = try await Self.storeTwice(node) { collision in
            #expect(FileManager.default.fileExists(atPath: collision.temporaryPath))
            return .keepAs(path: collision.existingPath.replacing(".dcm", with: ".v2.dcm"), version: 2)
        }
        #expect(statuses == [0, 0, 0])
        #expect(events.kinds == ["accepted", "stored", "collision", "stored", "stored", "ended"])
        #expect(events.records.map(\.version) == [1, 2, 1])
        #expect(node.stored.contains { $0.hasSuffix("/1.2.3.4.v2.dcm") })
        #expect(node.partial.isEmpty)
    }

    @Test func refusesWhatCannotBeCompared() async throws {
        let node = try ReceivingNode()
        let (events, statuses) = try await Self.storeTwice(node) { _ in .refuse(reason: "disk error") }
        #expect(statuses == [0, 0xA700, 0])
        #expect(events.kinds == ["accepted", "stored", "collision", "refused", "stored", "ended"])
        #expect(node.stored.count == 2)
        #expect(node.partial.isEmpty)
    }

    @Test func oneOfManySendersOfTheSameInstanceStoresIt() async throws {
        let node = try ReceivingNode()
        let outcomes = try await withThrowingTaskGroup(of: ([String], UInt16?).self) { group in
            for number in 0..<8 {
                group.addTask {
                    let (events, status) = try await node.serveRaw(ReceivingNode.job("a\(number)")) { peer in
                        _ = try peer.associate(Self.ctContext)
                        let response = try peer.store(sopInstance: "1.2.3.4", dataSet: PeerDataSet.ct())
                        try peer.release()
                        return response?.status
                    }
                    return (events.kinds, status)
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(outcomes.allSatisfy { $0.1 == 0 })
        #expect(outcomes.filter { $0.0.contains("stored") }.count == 1)
        #expect(outcomes.filter { $0.0.contains("collision") }.count == 7)
        #expect(node.stored.count == 1)
        #expect(node.partial.isEmpty)
    }

    // MARK: Refusals

    struct Refusal: Sendable, CustomTestStringConvertible {
        var name: String
        var status: UInt16
        var sopInstance = "1.2.3.4"
        var dataSet: [UInt8]
        var testDescription: String { name }
    }

    static let refusals: [Refusal] = [
        Refusal(
            name: "another SOP instance in the data set", status: 0xA900, dataSet: PeerDataSet.ct(instance: "1.2.3.5")),
        Refusal(
            name: "another SOP class in the data set", status: 0xA900,
            dataSet: PeerDataSet.ct(sopClass: "1.2.840.10008.5.1.4.1.1.4")),
        Refusal(name: "a path for a SOP instance", status: 0xC001, sopInstance: "../../x", dataSet: PeerDataSet.ct()),
        Refusal(
            name: "65 characters", status: 0xC001, sopInstance: String(repeating: "1", count: 65),
            dataSet: PeerDataSet.ct()),
        Refusal(name: "a path for a study", status: 0xC001, dataSet: PeerDataSet.ct(study: "../../x")),
        Refusal(name: "no identity", status: 0xC001, dataSet: PeerDataSet.code(0x0008, 0x0060, "CS", "CT")),
        Refusal(name: "300 levels", status: 0xC002, dataSet: PeerDataSet.ct(insertion: PeerDataSet.nested(300))),
        Refusal(name: "6,000 levels", status: 0xC002, dataSet: PeerDataSet.ct(insertion: PeerDataSet.nested(6000))),
        Refusal(
            name: "200,000 levels", status: 0xC002, dataSet: PeerDataSet.ct(insertion: PeerDataSet.nested(200_000))),
        Refusal(name: "noise", status: 0xC000, dataSet: [UInt8](repeating: 0xFE, count: 5000)),
        Refusal(name: "a header cut off", status: 0xC000, dataSet: Array(PeerDataSet.ct().prefix(45))),
        Refusal(name: "over the object limit", status: 0xC003, dataSet: PeerDataSet.ct(pixelBytes: 20_000_000)),
    ]

    @Test(arguments: refusals)
    func refusesAndGoesOn(refusal: Refusal) async throws {
        let node = try ReceivingNode()
        var job = ReceivingNode.job()
        job.limits.objectBytes = 16_000_000
        let (events, statuses) = try await node.serveRaw(job) { peer in
            _ = try peer.associate(Self.ctContext)
            let bad = try peer.store(sopInstance: refusal.sopInstance, dataSet: refusal.dataSet)
            let good = try peer.store(sopInstance: "1.2.3.9", dataSet: PeerDataSet.ct(instance: "1.2.3.9"))
            try peer.release()
            return [bad?.status, good?.status]
        }
        #expect(statuses == [refusal.status, 0])
        #expect(events.kinds == ["accepted", "refused", "stored", "ended"])
        #expect(events.refusals.first?.status == refusal.status)
        #expect(events.refusals.first?.reason.isEmpty == false)
        #expect(node.stored.count == 1)
        #expect(node.partial.isEmpty)
    }

    @Test func acceptsTheDeepestAllowedNesting() async throws {
        let (_, status) = try await ReceivingNode().serveRaw { peer in
            _ = try peer.associate(Self.ctContext)
            let response = try peer.store(
                sopInstance: "1.2.3.4", dataSet: PeerDataSet.ct(insertion: PeerDataSet.nested(32)))
            try peer.release()
            return response?.status
        }
        #expect(status == 0)
    }

    @Test func aFailedWriteRefusesTheObject() async throws {
        let node = try ReceivingNode()
        // A file in the place of the study's folder: neither can it be made nor renamed into.
        #expect(FileManager.default.createFile(atPath: "\(node.studies)/1.2.3", contents: nil))
        let (events, status) = try await node.serveRaw { peer in
            _ = try peer.associate(Self.ctContext)
            let response = try peer.store(sopInstance: "1.2.3.4", dataSet: PeerDataSet.ct())
            try peer.release()
            return response?.status
        }
        #expect(status == 0xA700)
        #expect(events.kinds == ["accepted", "refused", "ended"])
        #expect(node.partial.isEmpty)
    }

    // MARK: Endings

    struct Misconduct: Sendable, CustomTestStringConvertible {
        var name: String
        var how: AssociationEnded.How
        var body: @Sendable (RawPeer) throws -> Void
        var testDescription: String { name }
    }

    static let misconduct: [Misconduct] = [
        Misconduct(name: "data set before command", how: .abortedByUs) { peer in
            _ = try peer.associate(ctContext)
            try peer.sendValue(1, command: false, last: true, [1, 2, 3, 4])
            _ = try peer.receive()
        },
        Misconduct(name: "a context that was not accepted", how: .abortedByUs) { peer in
            _ = try peer.associate(ctContext)
            try peer.sendStore(9, sopInstance: "1.2.3.4", dataSet: PeerDataSet.ct())
            _ = try peer.receive()
        },
        Misconduct(name: "a response", how: .abortedByUs) { peer in
            _ = try peer.associate(ctContext)
            try peer.sendValue(1, command: true, last: true, RawPeer.command(field: 0x8001, sopClass: RawPeer.ct))
            _ = try peer.receive()
        },
        Misconduct(name: "a command that is none", how: .abortedByUs) { peer in
            _ = try peer.associate(ctContext)
            try peer.sendValue(1, command: true, last: true, [UInt8](repeating: 0xAA, count: 100))
            _ = try peer.receive()
        },
        Misconduct(name: "PDU length 0xFFFFFFF0", how: .abortedByUs) { peer in
            _ = try peer.associate(ctContext)
            try peer.send([4, 0, 0xFF, 0xFF, 0xFF, 0xF0] + [UInt8](repeating: 0, count: 1000))
            _ = try peer.receive()
        },
        Misconduct(name: "an unknown PDU", how: .abortedByUs) { peer in
            _ = try peer.associate(ctContext)
            try peer.send(pdu: 0x55, [0, 0, 0, 0])
            _ = try peer.receive()
        },
        Misconduct(name: "closed within an object", how: .closedByPeer) { peer in
            _ = try peer.associate(ctContext)
            try peer.sendValue(
                1, command: true, last: true,
                RawPeer.command(field: 1, sopClass: RawPeer.ct, sopInstance: "1.2.3.4"))
            try peer.sendValue(1, command: false, last: false, PeerDataSet.ct())
            peer.shutDown()
        },
        Misconduct(name: "aborted within an object", how: .abortedByPeer) { peer in
            _ = try peer.associate(ctContext)
            try peer.sendValue(
                1, command: true, last: true,
                RawPeer.command(field: 1, sopClass: RawPeer.ct, sopInstance: "1.2.3.4"))
            try peer.sendValue(1, command: false, last: false, PeerDataSet.ct())
            try peer.send(pdu: RawPeer.PDU.abort, [0, 0, 0, 0])
        },
        Misconduct(name: "closed at once", how: .closedByPeer) { $0.shutDown() },
        Misconduct(name: "HTTP", how: .abortedByUs) { peer in
            try peer.send(Array("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".utf8))
            _ = try peer.receive()
        },
    ]

    @Test(arguments: misconduct)
    func endsTheAssociation(misconduct: Misconduct) async throws {
        let node = try ReceivingNode()
        let (events, _) = try await node.serveRaw { try misconduct.body($0) }
        #expect(events.ended?.how == misconduct.how, "\(events.ended?.reason ?? "no end")")
        #expect(node.stored.isEmpty)
        #expect(node.partial.isEmpty)
    }

    @Test func endsIdleAssociations() async throws {
        var job = ReceivingNode.job()
        job.idleTimeoutSeconds = 0.3
        let (events, _) = try await ReceivingNode().serveRaw(job) { peer in
            _ = try peer.associate(Self.ctContext)
            return try peer.receive()?.type
        }
        #expect(events.ended?.how == .idle)
    }

    @Test func endsAtTheDeadlineThoughBytesTrickle() async throws {
        var job = ReceivingNode.job()
        job.deadlineSeconds = 0.7
        let (events, _) = try await ReceivingNode().serveRaw(job) { peer in
            _ = try peer.associate(Self.ctContext)
            for byte in [UInt8]([4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]) {
                do { try peer.send([byte]) } catch { return }
                usleep(150_000)
            }
        }
        #expect(events.ended?.how == .deadline)
    }

    @Test func stopsBetweenObjects() async throws {
        let node = try ReceivingNode()
        async let ended = onThread {
            let peer = try RawPeer(port: node.port)
            _ = try peer.associate(Self.ctContext)
            let status = try peer.store(sopInstance: "1.2.3.4", dataSet: PeerDataSet.ct())?.status
            return (status, try peer.receive()?.type)
        }
        let worker = try await node.handOver()
        var events: [ReceiveEvent] = []
        for try await frame in worker.frames {
            guard case .message(let payload) = frame else { continue }
            events.append(try JSONDecoder().decode(ReceiveEvent.self, from: payload))
            if case .stored? = events.last { try await worker.send(ReceiveRequest.stop) }
        }
        #expect(events.kinds == ["accepted", "stored", "ended"])
        #expect(events.ended?.how == .abortedByUs)
        let (status, type) = try await ended
        #expect(status == 0)
        #expect(type == RawPeer.PDU.abort)
        #expect(await worker.ended() == .exited(code: 0))
    }

    @Test func removesThePartialFileWhenTheDaemonGoes() async throws {
        let node = try ReceivingNode()
        async let peerEnded = onThread {
            let peer = try RawPeer(port: node.port)
            _ = try peer.associate(Self.ctContext)
            try peer.sendValue(
                1, command: true, last: true, RawPeer.command(field: 1, sopClass: RawPeer.ct, sopInstance: "1.2.3.4"))
            try peer.sendValue(1, command: false, last: false, PeerDataSet.ct())
            return try peer.receive() == nil
        }
        let worker = try await node.handOver()
        for _ in 0..<200 where node.partial.isEmpty { try await Task.sleep(for: .milliseconds(10)) }
        #expect(node.partial.count == 1)
        let ending = await worker.stop()
        #expect(ending == .exited(code: 0))
        #expect(node.partial.isEmpty)
        #expect(node.stored.isEmpty)
        #expect(try await peerEnded)
    }
}
