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
                studyInstanceUID: UID("1.2.3")!, instances: instances, callingAETitle: nil, calledAETitle: nil,
                decision: decision, lastArrival: .now), known: known, selection: selection, threshold: threshold,
            startedAt: .now)
        draft.analysed = selection.series[0].instances
        draft.digests = Dictionary(uniqueKeysWithValues: draft.analysed.map { ($0, "digest of \($0)") })
        return draft
    }

    private func finding(_ probability: Double, endsWithinBrain: [String] = []) -> Finding {
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

    @Test func anIncompleteStudyIsPositiveOrUndeterminedAndNeverNegative() {
        let incomplete = CompletionPolicy.Decision.incomplete(.deadline, reasons: ["no slice at 50.0 mm"])
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

    @Test func aHeadCutOffAtTheTopIsNotNegative() {
        let analysis = draft(head()).concluded(
            finding(0.1, endsWithinBrain: ["the upper end shows brain"]), flagged: [])
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
                != draft(head(), .incomplete(.forced, reasons: ["x"])).concluded(finding(0.1), flagged: [])
                .revisionDigest)
    }

    @Test func aStudyNothingOfWhichWasAnalysedGivesOneReportForOneReason() {
        var (one, more) = (draft(Array(head().prefix(3))), draft(Array(head().prefix(4))))
        (one.analysed, more.analysed) = ([], [])
        #expect(one.undetermined("contrast").revisionDigest == more.undetermined("contrast").revisionDigest)
        #expect(one.undetermined("contrast").revisionDigest != one.undetermined("other").revisionDigest)
    }

    @Test func aGapAndAStubOfASeriesAreWaitedFor() {
        #expect(MissingPositions.find(head().map(\.record)).isEmpty)
        #expect(MissingPositions.find(head(without: [12]).map(\.record)) == ["no slice at 60.0 mm along the normal"])
        #expect(MissingPositions.find(head().prefix(3).map(\.record)) == ["a series has fewer than 8 slices"])
    }
}
