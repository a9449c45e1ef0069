import AlertDispatcher
import Foundation
import Ledger
import StoreSCP
import Testing
import WorkerProtocol

@testable import ICHModel
@testable import ichnode

/// What an analysis may say, whatever the network says.
@Suite struct AnalysisDraftTests {
    private let threshold = ModelPackage.Threshold(name: "balanced", value: 0.5)

    /// A head of 30 axial slices of 5 mm, without those at the given positions in the stack.
    private func head(without missing: Set<Int> = [], patient: (Int) -> String = { _ in "P1" }) -> [StoredInstance] {
        (1...30).filter { !missing.contains($0) }.map { number in
            var record = InstanceRecord(
                sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("1.2.3.4.\(number)")!,
                studyInstanceUID: UID("1.2.3")!, seriesInstanceUID: UID("1.2.3.4")!,
                transferSyntaxUID: UID("1.2.840.10008.1.2.1")!)
            record.patient.id = patient(number)
            record.series.modality = "CT"
            record.series.bodyPartExamined = "HEAD"
            record.image.imageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            record.image.position = [-120, -120, Double(number) * 5]
            record.image.orientation = [1, 0, 0, 0, 1, 0]
            record.image.pixelSpacing = [0.5, 0.5]
            record.image.sliceThickness = 5
            (record.image.rows, record.image.columns) = (512, 512)
            (record.image.samplesPerPixel, record.image.bitsAllocated, record.image.bitsStored) = (1, 16, 12)
            record.image.photometricInterpretation = "MONOCHROME2"
            record.image.hasPixelData = true
            return StoredInstance(record: record, path: "/spool/\(number)", receivedAt: .now)
        }
    }

    private func draft(
        _ instances: [StoredInstance], _ decision: CompletionPolicy.Decision = .complete(.grace)
    ) -> AnalysisDraft {
        let known = StudyAnalyzer.newest(instances)
        let selection = SeriesSelection(known.values.map(\.record))
        var draft = AnalysisDraft(
            study: AssembledStudy(
                studyInstanceUID: UID("1.2.3")!, instances: instances, origin: StudyOrigin(),
                decision: decision, lastArrival: .now), known: known, selection: selection, threshold: threshold,
            startedAt: .now)
        draft.analysed = selection.series[0].instances
        draft.digests = Dictionary(uniqueKeysWithValues: draft.analysed.map { ($0, "digest of \($0)") })
        return draft
    }

    private func finding(_ probability: Double, endsWithinBrain: [SeriesEnd] = []) -> Finding {
        Finding(
            modelName: "m", modelVersion: "1", modelDigest: "d", classes: ["any"], probability: probability,
            classProbabilities: [probability], threshold: threshold, isPositive: probability >= threshold.value,
            sliceThreshold: 0.5, slices: [], box: StudyBox(x: 0, y: 0, size: 512), rows: 512, columns: 512, mapSize: 1,
            slicesPerSlab: 1, spacingMillimetres: 5, brain: BrainCheck(brainMillilitres: 1000),
            endsWithinBrain: endsWithinBrain)
    }

    @Test func aCompleteHeadIsNegativeOrPositive() {
        let negative = draft(head()).concluded(finding(0.1), flagged: [])
        #expect(negative.outcome == .negative)
        #expect(negative.report?.presence == .absent)
        #expect(negative.report?.studyProbability == 0.1)
        #expect(draft(head()).concluded(finding(0.9), flagged: []).outcome == .positive)
    }

    /// A report takes its identity from a file.
    @Test func aStudyOfWhichNoFileIsLeftIsUndeterminedWithoutAReport() {
        func ended(_ instances: [StoredInstance]) -> StudyAnalyzer.Analysis {
            var draft = draft(instances, .incomplete(.deadline, reasons: [.purged(30)]))
            draft.analysed = []
            return draft.undetermined("no image of the series can be decoded")
        }
        var gone = head()
        for index in gone.indices { gone[index].isPurged = true }
        #expect(ended(gone).outcome == .undetermined && ended(gone).report == nil)
        #expect(ended(gone).reason.contains("30 images"))
        gone[7].isPurged = false
        #expect(ended(gone).report?.presence == .undetermined)
        #expect(ended(gone).report?.images == [gone[7]])
    }

    /// Dose reports and presentation states are of the head where the study is, and are no images.
    @Test func whatStandsForAStudyNothingOfWhichWasAnalysedIsACTImageOfTheHead() {
        func other(_ number: Int, _ sopClass: String, _ modality: String, hasPixelData: Bool) -> StoredInstance {
            var record = InstanceRecord(
                sopClassUID: UID(sopClass)!, sopInstanceUID: UID("1.2.3.\(number).1")!,
                studyInstanceUID: UID("1.2.3")!, seriesInstanceUID: UID("1.2.3.\(number)")!,
                transferSyntaxUID: UID("1.2.840.10008.1.2.1")!)
            record.series.modality = modality
            record.series.bodyPartExamined = "HEAD"
            record.image.hasPixelData = hasPixelData
            return StoredInstance(record: record, path: "/spool/other/\(number)", receivedAt: .now)
        }
        func shown(_ instances: [StoredInstance]) -> [StoredInstance]? {
            var draft = draft(instances)
            draft.analysed = []
            return draft.undetermined("contrast").report?.images
        }
        let dose = other(1, "1.2.840.10008.5.1.4.1.1.88.67", "SR", hasPixelData: false)
        let capture = other(2, "1.2.840.10008.5.1.4.1.1.7", "OT", hasPixelData: true)
        var neck = other(3, "1.2.840.10008.5.1.4.1.1.2", "CT", hasPixelData: true)
        neck.record.series.bodyPartExamined = "NECK"
        let head = head()
        #expect(draft([dose] + head).selection.series.map(\.region) == [.head, .head])
        #expect(shown([dose, capture, neck] + head) == [head[0]])
        #expect(shown([dose, capture, neck]) == [neck])
        #expect(shown([dose, capture]) == [capture])
        #expect(shown([dose]) == [dose])
    }

    @Test func anIncompleteStudyIsPositiveOrUndeterminedAndNeverNegative() {
        let incomplete = CompletionPolicy.Decision.incomplete(.deadline, reasons: [.slice(atMillimetres: 50)])
        let undetermined = draft(head(without: [10]), incomplete).concluded(finding(0.1), flagged: [])
        #expect(undetermined.outcome == .undetermined)
        #expect(undetermined.report?.presence == .undetermined)
        #expect(undetermined.reason.contains("no slice at 50.0 mm"))
        // A number that anybody could read as a negative is not sent.
        #expect(undetermined.report?.studyProbability == nil)
        #expect(draft(head(without: [10]), incomplete).concluded(finding(0.9), flagged: []).outcome == .positive)
    }

    @Test func imagesThatCannotBeDecodedKeepItFromBeingNegative() {
        var draft = draft(head())
        draft.defects.append("1 images cannot be decoded")
        #expect(draft.concluded(finding(0.1), flagged: []).outcome == .undetermined)
    }

    @Test func imagesThatRetentionRemovedKeepItFromBeingNegativeWhateverWasDecided() {
        var instances = head()
        for index in 0..<4 { instances[index].isPurged = true }
        let analysis = draft(instances).concluded(finding(0.1), flagged: [])
        #expect(analysis.outcome == .undetermined)
        #expect(analysis.report?.presence == .undetermined)
        #expect(analysis.reason == "4 images that retention removed")
        #expect(draft(instances).concluded(finding(0.9), flagged: []).outcome == .positive)
        // Said once.
        let incomplete = CompletionPolicy.Decision.incomplete(.deadline, reasons: [.purged(4)])
        #expect(draft(instances, incomplete).defects == ["incomplete: 4 images that retention removed"])
    }

    /// Of a study that says nothing of its region pixels tell whether it is a head: all of them.
    @Test func onlyAllImagesShowThatAStudyIsNoHead() {
        var instances = head()
        for index in instances.indices { instances[index].record.series.bodyPartExamined = nil }
        let whole = draft(instances)
        let none = SeriesSelection.Conclusion.notHeadCT(.noBrainInPixels)
        #expect(whole.refused(none).outcome == .notHeadCT)
        let incomplete = CompletionPolicy.Decision.incomplete(.deadline, reasons: [.purged(4)])
        let part = draft(instances, incomplete).refused(none)
        #expect(part.outcome == .undetermined && part.report?.presence == .undetermined)
        #expect(part.reason == "no head by header or pixels; incomplete: 4 images that retention removed")
        // A header that says so needs no pixels.
        for index in instances.indices { instances[index].record.series.bodyPartExamined = "ABDOMEN" }
        let abdomen = draft(instances, incomplete)
        #expect(abdomen.refused(abdomen.selection.conclusion).outcome == .notHeadCT)
    }

    @Test func aHeadCutOffAtTheTopIsNotNegative() {
        let analysis = draft(head()).concluded(
            finding(0.1, endsWithinBrain: [.upper]), flagged: [])
        #expect(analysis.outcome == .undetermined)
    }

    @Test func imagesOfTheSeriesThatFitNoStackKeepItFromBeingNegative() {
        var instances = head()
        for index in 0..<3 { instances[index].record.image.orientation = [1, 0, 0, 0, 0.866, -0.5] }
        let analysis = draft(instances).concluded(finding(0.1), flagged: [])
        #expect(analysis.outcome == .undetermined)
        #expect(analysis.reason.contains("another orientation"))
    }

    @Test func twoPatientsUnderOneStudyAreHeld() {
        let records = head(patient: { $0 < 5 ? "P1" : "P2" }).map(\.record)
        #expect(IdentityConflict.find(in: records, newest: records)?.contains("2 patients") == true)
        #expect(draft(head()).held("identity conflict").report == nil)
        let one = head().map(\.record)
        #expect(IdentityConflict.find(in: one, newest: one) == nil)
    }

    @Test func theRevisionIsWhatWasSeenAndWhatWasMissing() {
        let whole = draft(head()).concluded(finding(0.1), flagged: []).revisionDigest
        #expect(whole == draft(head().reversed()).concluded(finding(0.9), flagged: []).revisionDigest)
        #expect(whole != draft(head(without: [30])).concluded(finding(0.1), flagged: []).revisionDigest)
        #expect(
            whole
                != draft(head(), .incomplete(.forced, reasons: [.more(1)])).concluded(finding(0.1), flagged: [])
                .revisionDigest)
    }

    @Test func aStudyNothingOfWhichWasAnalysedGivesOneReportForOneReason() {
        var (one, more) = (draft(Array(head().prefix(3))), draft(Array(head().prefix(4))))
        (one.analysed, more.analysed) = ([], [])
        #expect(one.undetermined("contrast").revisionDigest == more.undetermined("contrast").revisionDigest)
        #expect(one.undetermined("contrast").revisionDigest != one.undetermined("other").revisionDigest)
    }

    @Test func imagesSentAgainUnderAnotherPatientGiveAnotherReportEvenWhereNothingWasAnalysed() {
        func digest(_ change: (inout InstanceRecord) -> Void) -> String {
            var instances = head()
            for index in instances.indices { change(&instances[index].record) }
            var draft = draft(instances)
            draft.analysed = []
            return draft.undetermined("contrast").revisionDigest
        }
        let corrections: [(inout InstanceRecord) -> Void] = [
            { $0.patient.id = "P2" }, { $0.patient.issuerOfID = "P2" }, { $0.patient.name = "P2" },
            { $0.patient.birthDate = "20000101" }, { $0.study.accessionNumber = "P2" },
        ]
        let unchanged = digest { _ in }
        let digests = corrections.map { digest($0) } + [unchanged]
        #expect(Set(digests).count == digests.count)
        let other = digest { $0.patient.sex = "O" }
        #expect(other == unchanged)
    }

    private func find(_ records: [InstanceRecord]) -> SeriesEvidence {
        HeaderEvidence().find(
            records.map { StoredInstance(record: $0, path: "\($0.sopInstanceUID)", receivedAt: Date()) })
    }

    private func evidence(doubts: [CompletionReason] = [], isAsDeclared: Bool = false) -> SeriesEvidence {
        SeriesEvidence(
            seriesInstanceUID: UID("1.2.3.4"), imageCount: 30, doubts: doubts, isAsDeclared: isAsDeclared)
    }

    @Test func slicesFurtherApartThanTheyAreThickAreADoubt() {
        var thin = head().map(\.record)
        for index in thin.indices { thin[index].image.sliceThickness = 2.5 }
        #expect(
            find(thin)
                == evidence(doubts: [.wideSpacing(millimetres: 5, thickness: 2.5)]))
        for index in thin.indices { thin[index].image.sliceThickness = 4.6 }
        #expect(find(thin) == evidence())
    }

    @Test func imagesAreCountedAgainstWhatTheScannerDeclares() {
        func declaring(_ count: Int, _ records: [InstanceRecord]) -> [InstanceRecord] {
            records.map { record in
                var record = record
                record.image.acquisitionNumber = 2
                record.series.imagesInAcquisition = count
                return record
            }
        }
        let head = head().map(\.record)
        #expect(find(declaring(30, head)) == evidence(isAsDeclared: true))
        #expect(
            find(declaring(40, head))
                == evidence(doubts: [.fewerThanDeclared(present: 30, 40)]))
        // Nonsense, and one image alone, says nothing.
        #expect(find(declaring(1, head)) == evidence())
        #expect(find(declaring(30, Array(head[..<15])) + head[15...]) == evidence())
        // Of two series of one acquisition, the count may be of both.
        let bone = head.enumerated().map { index, record in
            var record = record
            record.sopInstanceUID = UID("1.2.3.5.\(index)")!
            record.seriesInstanceUID = UID("1.2.3.5")!
            record.series.convolutionKernel = "BONE"
            return record
        }
        #expect(find(declaring(60, head + bone)) == evidence(isAsDeclared: true))
        // Each of several acquisitions declares its own.
        let halves = declaring(15, head).enumerated().map { index, record in
            var record = record
            record.image.acquisitionNumber = index < 15 ? 1 : 2
            return record
        }
        #expect(find(halves) == evidence(isAsDeclared: true))
        // What no integer holds says nothing.
        let huge = halves.map { record in
            var record = record
            record.series.imagesInAcquisition = .max
            return record
        }
        #expect(find(huge) == evidence())
    }

    @Test func aGapAndAStubOfASeriesAreWaitedFor() {
        #expect(find(head().map(\.record)) == evidence())
        #expect(find(head(without: [12]).map(\.record)).missing == [.slice(atMillimetres: 60)])
        let many = find(head(without: Set(10...22)).map(\.record)).missing
        #expect(many.count == 11)
        #expect(many.last == .more(3))
        #expect(
            find(head().prefix(3).map(\.record))
                == SeriesEvidence(seriesInstanceUID: UID("1.2.3.4"), missing: [.partialSeries("fewer than 8 slices")]))
    }

    @Test func aHeadWithoutASeriesToAnalyseIsWaitedFor() {
        func changed(_ change: (inout InstanceRecord) -> Void) -> SeriesEvidence {
            find(
                head().map(\.record).map {
                    var record = $0
                    change(&record)
                    return record
                })
        }
        let scouts = changed { $0.image.imageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"] }
        #expect(scouts == SeriesEvidence(missing: [.localizersOnly]))
        let bone = changed { $0.series.convolutionKernel = "H70h" }
        #expect(bone == SeriesEvidence(doubts: [.noSeries("bone kernel")]))
        // Nobody is told of what is no head: it waits for nothing.
        let chest = changed {
            $0.series.bodyPartExamined = "CHEST"
            $0.series.description = "Thorax"
            $0.study.description = nil
        }
        #expect(chest == SeriesEvidence())
    }

    @Test func purgedImagesAreMissing() {
        var instances = head()
        for index in 0..<4 { instances[index].isPurged = true }
        #expect(HeaderEvidence().find(instances).missing == [.purged(4)])
    }
}
