import Foundation
import Ledger
import Logging
import Synchronization
import Testing
import WorkerProtocol

@testable import StoreSCP

/// Settings that change while they are used.
@Suite struct ChangedSettingsTests {
    private final class Held<Value: Sendable>: Sendable {
        private let held: Mutex<Value>
        init(_ value: Value) { held = Mutex(value) }
        var value: Value {
            get { held.withLock { $0 } }
            set { held.withLock { $0 = newValue } }
        }
    }

    @Test func watermarksCountFromTheNextLookOn() {
        let marks = Held(DiskWatch.Watermarks(association: 1000, object: 100))
        let watch = DiskWatch(path: "/", watermarks: marks.value, logger: Logger(label: "test")) { _ in 500 }
        #expect(watch.state == .low)
        marks.value = .init(association: 400, object: 100)
        watch.look()
        #expect(watch.state == .roomy)
    }

    @Test func whoMayConnectIsAskedForEachConnection() async throws {
        func rules(_ network: String, calling: [AETitle] = []) throws -> AdmissionRules {
            AdmissionRules(
                calledAETitles: [AETitle("ICHNODE")!], callingAETitles: calling,
                allowedNetworks: [try #require(NetworkBlock(network))])
        }
        let current = Held(try rules("127.0.0.0/8"))
        let admitted = Held(0)
        let listener = try AssociationListener(
            addresses: ["127.0.0.1"], ports: DICOMPorts(plain: 0), rules: current.value, logger: Logger(label: "test")
        ) {
            admitted.value += 1
            close($0.descriptor)
        }
        let running = listener.start()
        let port = UInt16(try #require(listener.ports.plain))
        let request = AssociationRequestTests.pdu(called: "ICHNODE", calling: "CT1")
        /// - Returns: the answer; none where the connection is handed on, or closed at once.
        func answer() throws -> [UInt8] {
            let peer = try Peer(port: port)
            peer.send(request[...])
            return peer.receive(10)
        }
        #expect(try answer() == [] && admitted.value == 1)
        // Calling AE title not recognized (PS3.8 Table 9-21).
        current.value = try rules("127.0.0.0/8", calling: [AETitle("CT2")!])
        #expect(try answer() == [3, 0, 0, 0, 0, 4, 0, 1, 1, 3])
        current.value = try rules("10.0.0.0/8")
        #expect(try answer() == [] && admitted.value == 1)
        current.value = try rules("127.0.0.1")
        #expect(try answer() == [] && admitted.value == 2)
        listener.stop()
        await running.value
    }

    @Test func aStudyThatWaitsIsLookedAtByTheRulesOfNow() async throws {
        let ledger = try SQLiteLedger(
            path: FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).sqlite").path)
        let now = Date(timeIntervalSince1970: 10_000)
        let time = Held(now)
        let clock = WallClock(now: { time.value }, sleep: { _ in try await Task.sleep(for: .milliseconds(2)) })
        let missing = Held([CompletionReason.slice(atMillimetres: 3)])
        let policy = Held(CompletionPolicy(grace: .seconds(2), quietTime: .seconds(60), deadline: .seconds(600)))
        let assembler = StudyAssembler(
            policy: policy.value, ledger: ledger, clock: clock, logger: Logger(label: "test"),
            evidence: { _, _ in SeriesEvidence(missing: missing.value) })
        func send(_ study: String) async {
            let record = InstanceRecord(
                sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID(study + ".1")!,
                studyInstanceUID: UID(study)!, seriesInstanceUID: UID("1.8")!,
                transferSyntaxUID: UID("1.2.840.10008.1.2")!)
            await assembler.opened(study, peer: study, at: time.value)
            await assembler.arrived(
                StoredInstance(record: record, path: "/\(study)", receivedAt: time.value), association: study)
            await assembler.ended(study, at: time.value)
        }
        let running = Task { try await assembler.run() }
        var events = assembler.events.makeAsyncIterator()
        func next() async -> AssembledStudy? {
            while let event = await events.next() { if case .assembled(let study) = event { return study } }
            return nil
        }
        await send("1.2")
        time.value += 10
        for _ in 0..<200 where await assembler.waiting(UID("1.2")!)?.contains("slice") != true {
            try await Task.sleep(for: .milliseconds(5))
        }
        missing.value = []
        await assembler.reconsider()
        #expect(await next()?.decision == .complete(.grace))
        missing.value = [.slice(atMillimetres: 3)]
        await send("1.3")
        time.value += 10
        policy.value = CompletionPolicy(grace: .seconds(1), quietTime: .seconds(2), deadline: .seconds(5))
        #expect(await next()?.decision == .incomplete(.deadline, reasons: [.slice(atMillimetres: 3)]))
        running.cancel()
    }
}
