import Foundation
import Ledger
import Synchronization
import Testing
import WorkerProtocol

@testable import StoreSCP

@Suite struct AssociationBookTests {
    private final class Time: Sendable {
        let now = Mutex(Date(timeIntervalSince1970: 1000))
        var clock: WallClock { WallClock(now: { self.now.withLock { $0 } }, sleep: { _ in }) }
        func advance(_ seconds: Double) { now.withLock { $0 += seconds } }
    }

    private let time = Time()
    private func connection(_ calling: String, _ transport: Transport = .plain) -> AdmittedConnection {
        AdmittedConnection(
            descriptor: -1, transport: transport, peerAddress: "10.0.0.7",
            callingAETitle: transport == .plain ? calling : nil,
            calledAETitle: transport == .plain ? "ICHNODE" : nil)
    }

    private func record(study: String) -> InstanceRecord {
        InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.9.1")!,
            studyInstanceUID: UID(study)!, seriesInstanceUID: UID("1.8")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2")!, fileSize: 1000)
    }

    @Test func anAssociationIsOpenThenEnded() throws {
        let book = AssociationBook(clock: time.clock)
        book.opened("1", connection("", .tls))
        #expect(book.overview.open.map(\.callingAETitle) == [nil])
        let tls = SecureConnection(version: "TLSv1.3", cipher: "c", peerCertificate: "CN=scanner")
        book.change("1") {
            $0.accepted(
                AssociationAccepted(
                    callingAETitle: AETitle("CT1")!, calledAETitle: AETitle("ICHNODE")!, acceptedContexts: 1,
                    proposedContexts: 1, tls: tls))
            $0.stored(record(study: "1.2.1"), isKnown: false)
            $0.stored(record(study: "1.2.2"), isKnown: false)
            $0.stored(record(study: "1.2.2"), isKnown: true)
            $0.refusedObject("too deep")
            $0.echoes += 1
        }
        let open = try #require(book.overview.open.first)
        #expect(open.callingAETitle == "CT1" && open.certificate == "CN=scanner" && open.isSecure)
        #expect(open.objects == 2 && open.known == 1 && open.bytes == 3000 && open.studies.count == 2)
        #expect(open.refusedObjects == 1 && open.objectRefusal == "too deep" && open.echoes == 1)
        time.advance(5)
        book.ended("1", .released)
        #expect(book.overview.open.isEmpty && book.overview.refused.isEmpty)
        let ended = try #require(book.overview.ended.first)
        #expect(ended.ending == .released && ended.ended == Date(timeIntervalSince1970: 1005))
        #expect(ended.objects == 2)
    }

    @Test func sizesThatNoWorkerCanMeanDoNoHarm() {
        let book = AssociationBook(clock: time.clock)
        var huge = record(study: "1.2.1")
        huge.fileSize = .max
        for id in 1...3 {
            book.opened("\(id)", connection("CT1"))
            for _ in 1...3 { book.change("\(id)") { $0.stored(huge, isKnown: false) } }
            book.ended("\(id)", .released)
        }
        #expect(book.overview.ended.map(\.objects) == [9])
    }

    @Test func whatGoesAlikeIsOneLineUnlessItWasLongAgo() throws {
        let book = AssociationBook(clock: time.clock)
        for id in 1...3 {
            book.opened("\(id)", connection("CT1"))
            book.change("\(id)") { $0.stored(record(study: "1.2.1"), isKnown: false) }
            book.ended("\(id)", .released)
            time.advance(60)
        }
        book.opened("4", connection("CT2"))
        book.ended("4", .broken("association idle"))
        var ended = book.overview.ended
        #expect(ended.map(\.callingAETitle) == ["CT2", "CT1"])
        #expect(ended[1].count == 3 && ended[1].objects == 3 && ended[1].studies.count == 1)
        #expect(ended[1].began == Date(timeIntervalSince1970: 1000))
        time.advance(AssociationBook.mergesWithin)
        book.opened("5", connection("CT1"))
        book.ended("5", .released)
        ended = book.overview.ended
        #expect(ended.map(\.count) == [1, 1, 3])
    }

    @Test func neitherManyAssociationsNorManyRefusalsDriveTheOthersOut() {
        let book = AssociationBook(clock: time.clock)
        book.refused("10.0.0.9", .plain, nil, "not DICOM")
        for id in 0...AssociationBook.mostLines {
            book.opened("\(id)", connection("CT\(id)"))
            book.ended("\(id)", .released)
        }
        #expect(book.overview.ended.count == AssociationBook.mostLines)
        #expect(book.overview.ended.last?.callingAETitle == "CT1")
        #expect(book.overview.refused.count == 1)
        for number in 0...AssociationBook.mostLines { book.refused("10.0.1.\(number)", .plain, nil, "not DICOM") }
        #expect(book.overview.refused.count == AssociationBook.mostLines)
        #expect(book.overview.ended.count == AssociationBook.mostLines)
    }

    @Test func studiesAndTextsAreBounded() throws {
        let book = AssociationBook(clock: time.clock)
        book.opened("1", connection("CT1"))
        for number in 1...AssociationBook.mostStudies + 1 {
            book.change("1") { $0.stored(record(study: "1.2.\(number)"), isKnown: false) }
        }
        book.ended("1", .broken(String(repeating: "x", count: 10_000)))
        let ended = try #require(book.overview.ended.first)
        #expect(ended.studies.count == AssociationBook.mostStudies)
        guard case .broken(let text) = ended.ending else {
            Issue.record("it is not broken")
            return
        }
        #expect(text.count <= 400)
    }
}
