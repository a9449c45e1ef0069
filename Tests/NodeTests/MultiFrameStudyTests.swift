import Foundation
import Ledger
import StoreSCP
import Testing
import WorkerProtocol

@testable import ICHModel
@testable import ichnode

/// Studies of multi-frame objects, as the node sees them.
@Suite struct MultiFrameStudyTests {
    /// Part of a head in 30 slices of 5 mm.
    private func part(
        _ number: Int, of total: Int? = nil, frames: Range<Int>, version: Int = 1
    ) -> StoredInstance {
        var record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2.1")!, sopInstanceUID: UID("1.2.3.4.\(number)")!,
            studyInstanceUID: UID("1.2.3")!, seriesInstanceUID: UID("1.2.3.4")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2.1")!, version: version)
        record.series.modality = "CT"
        record.series.bodyPartExamined = "HEAD"
        record.image.imageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        record.image.orientation = [1, 0, 0, 0, 1, 0]
        record.image.pixelSpacing = [0.5, 0.5]
        record.image.sliceThickness = 5
        (record.image.rows, record.image.columns) = (512, 512)
        record.image.numberOfFrames = frames.count
        record.image.hasPixelData = true
        let concatenation = total.map {
            MultiFrame.Concatenation(uid: UID("1.2.9")!, number: number, total: $0, frameOffset: frames.lowerBound)
        }
        record.multiFrame = MultiFrame(
            frames.map { index in
                var frame = FrameAttributes()
                frame.position = [-120, -120, Double(index) * 5]
                return frame
            }, concatenation: concatenation)
        return StoredInstance(record: record, path: "/spool/\(number).v\(version)", receivedAt: .now)
    }

    private func find(_ records: [InstanceRecord]) -> SeriesEvidence {
        HeaderEvidence().find(
            records.map { StoredInstance(record: $0, path: "\($0.sopInstanceUID)", receivedAt: .now) })
    }

    @Test func aFrameIsAnImageOfItsFile() throws {
        let known = StudyAnalyzer.newest([part(1, frames: 0..<30)])
        #expect(known.count == 30)
        #expect(
            known.allSatisfy { $0 == $1.record.sopInstanceUID && $1.record.storedSOPInstanceUID == UID("1.2.3.4.1") })
        #expect(
            Set(known.values.map(\.location)) == Set((1...30).map { FrameLocation(path: "/spool/1.v1", number: $0) }))
        // Once more, as what is known is looked at again with what arrives.
        #expect(StudyAnalyzer.newest(Array(known.values) + [part(1, frames: 0..<30)]).count == 30)
    }

    @Test func theNewestVersionHasItsFramesAlone() {
        let known = StudyAnalyzer.newest([part(1, frames: 0..<30), part(1, frames: 0..<28, version: 2)])
        #expect(known.count == 28)
        #expect(known.values.allSatisfy { $0.path == "/spool/1.v2" })
    }

    /// Sent again after retention, a study has its first version alone.
    @Test func aVersionWhoseFileWasRemovedDoesNotStandBeforeOneThatIsThere() {
        var versions = [part(1, frames: 0..<30), part(1, frames: 0..<28, version: 2)]
        versions[1].isPurged = true
        #expect(StudyAnalyzer.newest(versions).values.allSatisfy { $0.path == "/spool/1.v1" && !$0.isPurged })
        #expect(StudyAnalyzer.newest(versions.reversed()).count == 30)
        versions[0].isPurged = true
        #expect(StudyAnalyzer.newest(versions).values.allSatisfy { $0.path == "/spool/1.v2" })
    }

    /// Whoever knows how UIDs of frames are made can send an instance with one of them.
    @Test func anInstanceWithTheUIDOfAFrameDoesNoHarm() {
        let enhanced = part(1, frames: 0..<30)
        var imitation = part(2, frames: 0..<1)
        imitation.record.sopInstanceUID = enhanced.images[3].record.sopInstanceUID
        imitation.record.multiFrame = nil
        #expect(StudyAnalyzer.newest([enhanced, imitation]).count == 30)
    }

    @Test func onePartIsOneImageThatThePACSHolds() {
        let evidence = find([part(1, frames: 0..<20), part(2, frames: 20..<30)].map(\.record))
        #expect(evidence == SeriesEvidence(seriesInstanceUID: UID("1.2.3.4"), imageCount: 2))
    }

    @Test func partsOfAConcatenationAreWaitedFor() {
        let parts = [part(1, of: 2, frames: 0..<20), part(2, of: 2, frames: 20..<30)].map(\.record)
        #expect(find(parts).isAsDeclared)
        #expect(find(parts).missing.isEmpty)
        // Nothing is missing between slices 1 to 20.
        let alone = find([parts[0]])
        #expect(alone.missing == [.concatenation(present: 1, 2)])
        #expect(alone.missing[0].description == "1 of 2 parts of a concatenation")
        #expect(!alone.isAsDeclared)
        // The same part again is no other.
        let again = find([parts[0], part(1, of: 2, frames: 0..<20, version: 2).record])
        #expect(again.missing == [.concatenation(present: 1, 2)])
    }

    /// A few megabytes of headers.
    @Test(.timeLimit(.minutes(1))) func aHundredThousandFramesAreNotTakenApart() {
        let parts = (1...25).map { part($0, frames: 0..<MultiFrame.mostFrames) }
        #expect(StudyAnalyzer.newest(parts).count == 25)
        let reason = SelectionReason.moreImages(than: SeriesSelection.mostImages)
        #expect(find(parts.map(\.record)) == SeriesEvidence(doubts: [.noSeries("\(reason)")]))
    }

    @Test func aGapBetweenFramesIsAGap() {
        let evidence = find([part(1, frames: 0..<20), part(2, frames: 21..<30)].map(\.record))
        #expect(evidence.missing == [.slice(atMillimetres: 100)])
    }
}
