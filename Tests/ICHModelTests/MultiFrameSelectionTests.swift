import Testing
import WorkerProtocol

@testable import ICHModel

@Suite struct MultiFrameSelectionTests {
    /// One Enhanced CT record whose frames are the images.
    private func enhanced(_ images: [InstanceRecord], change: (inout InstanceRecord) -> Void = { _ in })
        -> InstanceRecord
    {
        var record = images[0]
        record.sopClassUID = Records.uid("1.2.840.10008.5.1.4.1.1.2.1")
        record.sopInstanceUID = Records.uid("1.2.9")
        record.image.numberOfFrames = images.count
        record.image.position = nil
        record.multiFrame = MultiFrame(
            images.map { image in
                var frame = FrameAttributes()
                frame.position = image.image.position
                return frame
            })
        change(&record)
        return record
    }

    @Test func framesAreChosenLikeTheSameImages() throws {
        let images = Records.series()
        let single = SeriesSelection(images)
        let record = enhanced(images.reversed())
        let selection = SeriesSelection(record.images)
        let (expected, found) = (single.series[0], selection.series[0])
        #expect(selection.conclusion == single.conclusion)
        #expect(found.coverageMillimetres == expected.coverageMillimetres)
        #expect(found.thicknessMillimetres == expected.thicknessMillimetres)
        #expect(found.leftOut == expected.leftOut)
        // Feet to head: the last frame is the lowest.
        let numbers = Dictionary(uniqueKeysWithValues: record.images.map { ($0.sopInstanceUID, $0.frame?.number) })
        #expect(found.instances.map { numbers[$0] } == (1...28).reversed())
        let geometries = try record.images.map { try SliceGeometry($0.image) }
        #expect(try geometries == images.reversed().map { try SliceGeometry($0.image) })
    }

    @Test(arguments: [
        (["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"], SelectionReason.localizer),
        (["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM", "MAX_IP"], .secondaryCaptureOrDerived),
        (["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED", "CURVED_MPR"], .secondaryCaptureOrDerived),
        (["ORIGINAL", "PRIMARY", "POST_CONTRAST", "NONE"], .contrastAgent),
        (["ORIGINAL", "PRIMARY", "ANGIO", "NONE"], .contrastAgent),
    ]) func framesAreRefusedByTheirType(type: [String], reason: SelectionReason) {
        let record = enhanced(Records.series()) { $0.image.imageType = type }
        #expect(SeriesSelection(record.images).series[0].verdict == .refused(reason))
    }

    @Test func averagedFramesAreTaken() {
        let record = enhanced(Records.series()) { $0.image.imageType = ["DERIVED", "PRIMARY", "VOLUME", "MEAN"] }
        #expect(SeriesSelection(record.images).series[0].verdict == .chosen)
    }

    @Test func anObjectWhoseFramesAreNotKnownIsRefusedWithTheReason() {
        for problem in [MultiFrame.Problem.tooMany, .otherNumber, .tooLong, .malformed] {
            let record = enhanced(Records.series()) { $0.multiFrame = MultiFrame([], problem: problem) }
            let selection = SeriesSelection(record.images)
            #expect(selection.conclusion == .notAnalysable(.framesNotKnown(problem)))
            #expect(SelectionReason.framesNotKnown(problem).description.hasSuffix(problem.description))
            // Beside slices that can be analysed it is missing.
            let beside = SeriesSelection(record.images + Records.series())
            #expect(beside.series[0].leftOut == ["1 image of several frames not analysed"])
        }
        // Recorded before frames were.
        let earlier = enhanced(Records.series()) { $0.multiFrame = nil }
        #expect(SeriesSelection(earlier.images).conclusion == .notAnalysable(.multiFrame))
    }

    @Test func aStudyOfTooManyImagesIsNotAnalysed() {
        func conclusion(_ count: Int, bodyPart: String?, settled: UID? = nil) -> SeriesSelection.Conclusion {
            let images = Records.series { $0.series.bodyPartExamined = bodyPart }
            let large = enhanced(images) {
                $0.seriesInstanceUID = Records.uid("1.2.4")
                $0.multiFrame = MultiFrame(Array(repeating: FrameAttributes(), count: count - images.count))
            }
            return SeriesSelection(images + [large], settled: settled).conclusion
        }
        let most = SeriesSelection.mostImages
        let tooMany = SelectionReason.moreImages(than: most)
        #expect(tooMany.description == "more than 50000 images in the study")
        #expect(conclusion(most, bodyPart: "HEAD") == .chosen(seriesInstanceUID: Records.uid("1.2.3")))
        #expect(conclusion(most + 1, bodyPart: "HEAD") == .notAnalysable(tooMany))
        #expect(conclusion(most + 1, bodyPart: nil) == .notAnalysable(tooMany))
        #expect(conclusion(most + 1, bodyPart: "CHEST") == .notHeadCT(tooMany))
        // What was analysed before so many came stays as it is.
        let settled = Records.uid("1.2.3")
        #expect(conclusion(most + 1, bodyPart: "HEAD", settled: settled) == .chosen(seriesInstanceUID: settled))
    }

    @Test func legacyConversionsAreNotTakenForContrast() {
        let record = enhanced(Records.series()) {
            $0.sopClassUID = Records.uid("1.2.840.10008.5.1.4.1.1.2.2")
            $0.series.description = "HEAD 5.0 H30s (enhanced conversion)"
        }
        #expect(SeriesSelection(record.images).series[0].verdict == .chosen)
        let contrast = enhanced(Records.series()) { $0.series.description = "HEAD enhanced (enhanced conversion)" }
        #expect(SeriesSelection(contrast.images).series[0].verdict == .refused(.contrastAgent))
    }
}
