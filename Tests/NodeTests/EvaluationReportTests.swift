import Foundation
import Ledger
import Testing
import WorkerProtocol

@testable import ICHModel
@testable import ichnode

/// From findings and labels to figures.
@Suite struct EvaluationReportTests {
    private static let classes = ["any", "subdural"]
    private let half = ModelPackage.Threshold(name: "half", value: 0.5)

    private func slab(_ number: Int, _ logit: Double, images: Int = 2) -> AnalysedSlice {
        let uids = (0..<images).map { UID("1.2.\(number).\($0 + 1)")! }
        return AnalysedSlice(
            instances: uids, representative: uids[images / 2], positionMillimetres: Double(number) * 5,
            probability: 1 / (1 + exp(-logit)), logit: logit, attention: 0.1, isFlagged: false, lesionMap: nil)
    }

    private func finding(_ probability: Double, subdural: Double = 0, slabs: [AnalysedSlice] = []) -> Finding {
        Finding(
            modelName: "m", modelVersion: "1", modelDigest: "d", classes: Self.classes, probability: probability,
            classProbabilities: [probability, subdural], threshold: half, isPositive: probability >= 0.5,
            sliceThreshold: 0.5, slices: slabs, box: StudyBox(x: 0, y: 0, size: 512), rows: 512, columns: 512,
            mapSize: 1, slicesPerSlab: 2, spacingMillimetres: 2.5, brain: BrainCheck(brainMillilitres: 1000),
            endsWithinBrain: [])
    }

    private func study(
        _ number: Int, _ isPositive: Bool, _ finding: Finding?, reason: String = "", subdural: Bool? = nil,
        reader: Bool? = nil, seconds: Double = 1
    ) -> EvaluatedStudy {
        var (subtypes, readers) = ([String: Bool](), [String: Bool]())
        subtypes["subdural"] = subdural
        readers["second"] = reader
        let row = StudyLabels.Row(
            line: number + 1, key: "A\(number)", any: isPositive, subtypes: subtypes, readers: readers)
        return EvaluatedStudy(
            label: row, studyInstanceUID: UID("1.9.\(number)")!, patient: "P\(number)", imageCount: 30,
            outcome: finding.map { $0.isPositive ? .positive : .negative } ?? .undetermined, reason: reason,
            finding: finding, seconds: seconds)
    }

    private func report(
        _ studies: [EvaluatedStudy], slices: SliceLabels? = nil, readers: [String] = [], prevalences: [Double] = []
    ) throws -> EvaluationReport {
        let package = try ModelPackage(directory: Repository.file("Models/\(try #require(Self.shipped))"))
        return EvaluationReport(
            studies, package: package, sliceLabels: slices,
            questions: .init(thresholds: [half], readers: readers, prevalences: prevalences), warnings: [])
    }

    private static var shipped: String? {
        (try? FileManager.default.contentsOfDirectory(atPath: Repository.file("Models")))?.sorted().first
    }

    @Test func whatWasNotAnalysedStaysInTheCountAndIsListed() throws {
        let report = try report([
            study(1, true, finding(0.9)), study(2, true, finding(0.2)), study(3, false, finding(0.1)),
            study(4, true, nil, reason: "no brain tissue"), study(5, false, nil, reason: "no series that suits"),
        ])
        #expect((report.labelledStudies, report.labelledPositives) == (5, 3))
        #expect((report.analysedStudies, report.analysedPositives) == (3, 2))
        #expect(report.notAnalysed.map(\.reason) == ["no brain tissue", "no series that suits"])
        let point = report.operatingPoints[0]
        #expect(point.analysed.sensitivity == Proportion(1, of: 2))
        #expect(point.all.sensitivity == Proportion(1, of: 3))
        #expect(point.analysed.specificity == Proportion(1, of: 1))
        #expect(point.all.specificity == Proportion(2, of: 2))
        #expect(report.studyArea.estimate?.value == 1)
        let text = EvaluationText(report: report).string
        #expect(text.contains("analysed 3 of 5"))
        #expect(text.contains("line 5, positive, study 1.9.4: undetermined: no brain tissue"))
        #expect(text.contains("all studies, those not analysed as not flagged"))
    }

    @Test func aThresholdOfZeroDoesNotFlagWhatWasNotAnalysed() throws {
        let package = try ModelPackage(directory: Repository.file("Models/\(try #require(Self.shipped))"))
        let report = EvaluationReport(
            [study(1, true, finding(0.9)), study(2, true, nil, reason: "broken")], package: package, sliceLabels: nil,
            questions: .init(thresholds: [.init(name: "0", value: 0)], readers: [], prevalences: []), warnings: [])
        #expect(report.operatingPoints[0].all.sensitivity == Proportion(1, of: 2))
    }

    @Test func studiesWithDefectsAreCountedAndSaid() throws {
        let report = try report([
            study(1, true, finding(0.9)), study(2, false, finding(0.1), reason: "incomplete: no slice at 50 mm"),
        ])
        #expect(report.analysedStudies == 2)
        #expect(report.withDefects.map(\.line) == [3])
        #expect(EvaluationText(report: report).string.contains("incomplete: no slice at 50 mm"))
    }

    @Test func slabScoresGoToTheirImages() throws {
        let labels = try SliceLabels(
            try CSVTable(
                text: "sop_instance_uid,any\n1.2.1.1,0\n1.2.1.2,0\n1.2.2.1,1\n1.2.2.2,0\n1.2.3.1,1\n1.2.9.1,1\n",
                name: "s"))
        let studies = [
            study(1, true, finding(0.9, slabs: [slab(1, -2), slab(2, 3)])),
            study(2, true, finding(0.8, slabs: [slab(3, 1), slab(4, 2)])),
        ]
        let slices = try #require(try report(studies, slices: labels).slices)
        // 1.2.3.2 and both of slab 4 have no label; 1.2.9.1 was in no analysis.
        #expect(slices.analysedWithoutLabel == 3)
        #expect(slices.labelsNotAnalysed == 1)
        #expect((slices.area.count, slices.area.positives, slices.area.patients) == (5, 2, 2))
        // Scores 3 and 1 of the positive, −2, −2 and 3 of the negative: pairs won 2 + 1/2 and 2 of 6.
        #expect(slices.area.estimate?.value == 4.5 / 6)
        // Study 2's highest slab has no label at all.
        #expect(slices.topSliceIsPositive == Proportion(1, of: 1))
    }

    @Test func slicesAndStudiesThatDisagreeAreSaid() throws {
        let labels = try SliceLabels(try CSVTable(text: "sop_instance_uid,any\n1.2.1.1,1\n1.2.1.2,0\n", name: "s"))
        let negative = try report([study(1, false, finding(0.9, slabs: [slab(1, 1)]))], slices: labels)
        #expect(negative.warnings.first?.contains("lines 2") == true)
        let partly = try report([study(1, true, finding(0.9, slabs: [slab(1, 1), slab(2, 0)]))], slices: labels)
        #expect(partly.warnings.isEmpty)
    }

    @Test func theReaderIsComparedOnTheStudiesThatItRead() throws {
        let studies = [
            study(1, true, finding(0.9), reader: false), study(2, true, finding(0.8), reader: true),
            study(3, false, finding(0.7), reader: false), study(4, false, finding(0.2), reader: nil),
            study(5, true, nil, reason: "x", reader: true),
        ]
        let comparison = try report(studies, readers: ["second"]).operatingPoints[0].readers[0]
        #expect(comparison.all.studies == 3)
        #expect((comparison.all.onlyFirstRight, comparison.all.onlySecondRight) == (1, 1))
        #expect((comparison.positives.onlyFirstRight, comparison.positives.onlySecondRight) == (1, 0))
        #expect(comparison.readerDecisions.sensitivity == Proportion(1, of: 2))
        #expect(comparison.modelDecisions.specificity == Proportion(0, of: 1))
    }

    @Test func subtypesAreOfStudiesWhoseSubtypeIsKnown() throws {
        // The shipped package has its classes in another order than this finding.
        let package = try ModelPackage(directory: Repository.file("Models/\(try #require(Self.shipped))"))
        let place = try #require(package.classes.firstIndex(of: "subdural"))
        func scored(_ value: Double) -> Finding {
            var finding = finding(0.5)
            finding.classProbabilities = [Double](repeating: 0, count: package.classes.count)
            finding.classProbabilities[place] = value
            return finding
        }
        let areas = try report([
            study(1, true, scored(0.6), subdural: true), study(2, true, scored(0.2), subdural: false),
            study(3, false, scored(0.9), subdural: nil),
        ]).subtypeAreas
        #expect(areas.keys.sorted() == ["subdural"])
        #expect(areas["subdural"]?.count == 2)
        #expect(areas["subdural"]?.estimate?.value == 1)
    }

    @Test func medianSecondsAndPrevalence() throws {
        let studies = [
            study(1, true, finding(0.9), seconds: 1), study(2, false, finding(0.1), seconds: 4),
            study(3, false, finding(0.2), seconds: 2), study(4, false, finding(0.2), seconds: 3),
            study(5, false, nil, reason: "x", seconds: 100),
        ]
        let report = try report(studies, prevalences: [0.06])
        #expect(report.secondsPerStudy?.median == 2.5)
        #expect(report.secondsPerStudy?.highest == 4)
        #expect(report.operatingPoints[0].atPrevalence.map(\.prevalence) == [0.06])
        #expect(EvaluationText(report: report).string.contains("2.50 (median)"))
    }

    @Test func aSetOfOneKindOrOfNothingHasNoFiguresAndDoesNotFail() throws {
        let negative = try report([study(1, false, finding(0.1))])
        #expect(negative.studyArea.estimate == nil)
        #expect(EvaluationText(report: negative).string.contains("cannot be computed"))
        let nothing = try report([study(1, true, nil, reason: "x")], prevalences: [0.06])
        #expect(nothing.calibration == nil)
        #expect(nothing.operatingPoints[0].atPrevalence.isEmpty)
        #expect(EvaluationText(report: nothing).string.contains("analysed 0 of 1"))
    }

    // MARK: Thresholds

    @Test func thresholdsByNameOrNumber() throws {
        let package = try ModelPackage(directory: Repository.file("Models/\(try #require(Self.shipped))"))
        let balanced = try package.threshold(named: "balanced")
        #expect(try package.operatingPoint("balanced") == balanced)
        #expect(try package.operatingPoint("0.25").value == 0.25)
        #expect(try package.operatingPoint("1").value == 1)
        for wrong in ["best", "1.5", "-0.1", "nan", ""] {
            let error = #expect(throws: ModelError.self) { try package.operatingPoint(wrong) }
            #expect(error?.reason.contains("choose one of balanced, high-ppv, high-sensitivity") == true)
        }
        #expect(try EvaluateCommand.thresholds([], package) == package.thresholds)
        let chosen = try EvaluateCommand.thresholds(["0.25", "balanced"], package)
        #expect(chosen == [.init(name: "0.25", value: 0.25), balanced])
    }
}
