import Testing
import WorkerProtocol

@testable import ICHModel

@Suite struct SeriesSelectionTests {
    private func verdict(_ records: [InstanceRecord]) -> SeriesSelection.Verdict? {
        SeriesSelection(records).series.first?.verdict
    }

    private func reason(_ change: (inout InstanceRecord) -> Void) -> SelectionReason? {
        guard case .refused(let reason)? = verdict(Records.series(change: change)) else { return nil }
        return reason
    }

    @Test func choosesAPlainHead() {
        let selection = SeriesSelection(Records.series())
        #expect(selection.conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.3")))
        #expect(selection.series[0].instances.count == 28)
        #expect(selection.series[0].coverageMillimetres == 140)
    }

    @Test func refusesWithAReason() {
        #expect(reason { $0.series.modality = "MR" } == .notCT)
        #expect(reason { $0.image.hasPixelData = false } == .noPixelData)
        #expect(reason { $0.image.imageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"] } == .localizer)
        #expect(reason { $0.image.imageType = ["DERIVED", "SECONDARY", "MPR"] } == .secondaryCaptureOrDerived)
        #expect(reason { $0.image.imageType = ["DERIVED", "PRIMARY", "MIP"] } == .secondaryCaptureOrDerived)
        #expect(reason { $0.image.imageType[2] = "PROJECTION_IMAGE" } == .secondaryCaptureOrDerived)
        #expect(reason { $0.image.samplesPerPixel = 3 } == .secondaryCaptureOrDerived)
        #expect(reason { $0.sopClassUID = Records.uid("1.2.840.10008.5.1.4.1.1.7") } == .secondaryCaptureOrDerived)
        #expect(reason { $0.sopClassUID = Records.uid("1.2.840.10008.5.1.4.1.1.2.1") } == .multiFrame)
        #expect(reason { $0.image.orientation = [1, 0, 0, 0, 0, -1] } == .notAxial)
        #expect(reason { $0.image.position = nil } == .noGeometry)
        #expect(reason { $0.series.contrastBolusAgent = "ISOVUE300/100" } == .contrastAgent)
        #expect(reason { $0.series.description = "HEAD POST CONTRAST" } == .contrastAgent)
        #expect(reason { $0.series.description = "Schädel mit KM" } == .contrastAgent)
        #expect(reason { $0.series.description = "CTA HEAD 0.6" } == .angiographyOrPerfusion)
        #expect(reason { $0.series.description = "Bolus tracking" } == .angiographyOrPerfusion)
        #expect(reason { $0.series.description = "CHEST" } == .otherBodyPart("CHEST"))
        #expect(reason { $0.series.bodyPartExamined = "ABDOMEN" } == .otherBodyPart("ABDOMEN"))
        #expect(reason { $0.series.description = "NNH axial" } == .partOfHead)
        #expect(SelectionReason.otherBodyPart("CHEST").description == "body part CHEST is not the head")
    }

    @Test(arguments: ["NONE", "no", "", "None "]) func aContrastAgentMayBeNamedNone(agent: String) {
        #expect(reason { $0.series.contrastBolusAgent = agent } == nil)
    }

    @Test(arguments: [
        "HEAD WITHOUT CONTRAST", "Brain w/o contrast", "Kopf nativ ohne KM", "NON-CONTRAST HEAD",
        "crâne sans injection",
        "CRANEO SIN CONTRASTE", "Head w/o iv contrast", "STD BRAIN 5MM", "STEREOTAXIS", "Head 5.0 H31s",
    ]) func acceptsPlainHeadsInSeveralLanguages(description: String) {
        #expect(reason { $0.series.description = description } == nil)
    }

    @Test(arguments: [
        "Schädel nativ", "tête", "CRÂNE", "cráneo simple", "Kopf", "TC CRANIO", "Hoofd", "Neuro", "CT Hirn", "głowa",
        "脳",
    ]) func recognisesTheHeadWithoutABodyPart(description: String) {
        let selection = SeriesSelection(
            Records.series {
                $0.series.bodyPartExamined = nil
                $0.study.description = description
            })
        #expect(selection.series[0].region == .head)
    }

    @Test(arguments: [
        ("GE MEDICAL SYSTEMS", "BONE", true), ("GE MEDICAL SYSTEMS", "BONEPLUS", true),
        ("GE MEDICAL SYSTEMS", "EDGE", true),
        ("GE MEDICAL SYSTEMS", "STD+", false), ("GE MEDICAL SYSTEMS", "SOFT", false), ("SIEMENS", "H60s", true),
        ("SIEMENS", "H31s", false), ("SIEMENS", "Hr60f\\3", true), ("SIEMENS", "J70h", true),
        ("SIEMENS", "Hr40f", false),
        ("Philips", "UB", false), ("Philips", "YB", true), ("Philips", "D", true), ("TOSHIBA", "FC30", true),
        ("TOSHIBA", "FC21", false), ("CANON", "FC81", true), ("TOSHIBA", "FC13", false),
    ]) func knowsKernels(manufacturer: String, kernel: String, isBone: Bool) {
        #expect(HeaderVocabulary.isBone(kernel: kernel, manufacturer: manufacturer) == isBone)
    }

    @Test func anUnknownKernelIsJudgedByTheDescription() {
        #expect(
            reason {
                $0.series.convolutionKernel = "X"
                $0.series.description = "HEAD BONE"
            } == .boneKernel)
        #expect(reason { $0.series.convolutionKernel = nil } == nil)
    }

    @Test func atTheLeastNumberOfSlicesItIsUsable() {
        #expect(verdict(Records.series(count: 7)) == .refused(.fewerSlices(than: 8)))
        #expect(verdict(Records.series(count: 15)) == .refused(.coversOnly(millimetres: 75)))
        #expect(verdict(Records.series(count: 16)) == .chosen)
        let early = SeriesSelection(Records.series(count: 2))
        #expect(early.series[0].mayBeChosen)
        #expect(early.conclusion == .notAnalysable(.fewerSlices(than: 8)))
    }

    private func series(
        _ uid: String, thickness: Double, count: Int, _ change: (inout InstanceRecord) -> Void = { _ in }
    )
        -> [InstanceRecord]
    {
        Records.series(uid, count: count).enumerated().map { index, record in
            var record = record
            record.image.sliceThickness = thickness
            record.image.position = [0, 0, Double(index) * thickness]
            change(&record)
            return record
        }
    }

    @Test func prefersTheBestThickness() {
        let thin = series("1.2.1", thickness: 0.625, count: 240)
        let usual = series("1.2.2", thickness: 5, count: 30)
        let thick = series("1.2.3", thickness: 8, count: 19)
        #expect(SeriesSelection(thin + usual + thick).conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.2")))
        #expect(SeriesSelection(thin + thick).conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.3")))
        let all = SeriesSelection((thick + usual + thin).shuffled())
        #expect(all == SeriesSelection(thin + usual + thick))
        #expect(all.assessment(of: Records.uid("1.2.1"))?.verdict == .candidate(.preferredThickness))
    }

    @Test func theWholeHeadWinsOverAPartOfIt() {
        let part = series("1.2.1", thickness: 5, count: 17)
        let whole = series("1.2.2", thickness: 1, count: 160)
        #expect(SeriesSelection(part + whole).conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.2")))
    }

    @Test func originalWinsOverDerived() {
        let derived = series("1.2.1", thickness: 5, count: 30) { $0.image.imageType = ["DERIVED", "PRIMARY", "AXIAL"] }
        let original = series("1.2.2", thickness: 5, count: 30)
        #expect(SeriesSelection(derived + original).conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.2")))
    }

    @Test func aScoutInTheSeriesIsLeftOut() {
        var records = Records.series()
        records.append(
            Records.make(index: 100) {
                $0.image.imageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
                $0.image.orientation = [0, 1, 0, 0, 0, -1]
            })
        let selection = SeriesSelection(records)
        #expect(selection.conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.3")))
        #expect(selection.series[0].instances.count == 28)
    }

    @Test func ofTwoAcquisitionsInOneSeriesTheLaterIsTaken() {
        let first = Records.series().map { record in
            var record = record
            record.image.acquisitionNumber = 1
            return record
        }
        let second = first.map { record in
            var record = record
            record.sopInstanceUID = Records.uid(record.sopInstanceUID.string + ".9")
            record.image.acquisitionNumber = 2
            return record
        }
        let series = SeriesSelection(first + second).series[0]
        #expect(series.instances == second.map(\.sopInstanceUID))
        #expect(series.leftOut.isEmpty)
    }

    @Test func aHeadWithoutAUsableSeriesIsNotAnalysable() {
        let bone = Records.series("1.2.1") { $0.series.convolutionKernel = "BONE" }
        let scout = Records.series("1.2.2", count: 1) { $0.image.imageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"] }
        #expect(SeriesSelection(bone + scout).conclusion == .notAnalysable(.boneKernel))
        #expect(SeriesSelection([]).conclusion == .notHeadCT(.noImages))
    }

    @Test func anotherBodyPartIsNoHeadCT() {
        let chest = Records.series {
            $0.series.bodyPartExamined = nil
            $0.series.description = "HELICAL CHEST"
            $0.study.description = "CHEST"
        }
        #expect(SeriesSelection(chest).conclusion == .notHeadCT(.otherBodyPart("CHEST")))
        #expect(SeriesSelection(Records.series { $0.series.modality = "MR" }).conclusion == .notHeadCT(.notCT))
    }

    @Test func withoutAnyRegionThePixelsDecide() {
        let selection = SeriesSelection(Records.series { $0.series.bodyPartExamined = nil })
        #expect(selection.series[0].region == .unspecified)
        #expect(selection.conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.3")))
        let unnamed = Records.series { $0.series.bodyPartExamined = nil }
        let brainless = SeriesSelection(unnamed, brainless: [Records.uid("1.2.3"): true])
        #expect(brainless.conclusion == .notHeadCT(.noBrainInPixels))
    }

    @Test func afterASeriesWithoutBrainAnotherOfNoNamedRegionMayBeTheHead() {
        let frame = Records.uid("1.9")
        func series(_ uid: String, from start: Double, frame: UID? = nil) -> [InstanceRecord] {
            Records.series(uid) {
                $0.series.bodyPartExamined = nil
                $0.series.frameOfReferenceUID = frame
                $0.image.position?[2] += start
            }
        }
        func chosen(_ others: [InstanceRecord], isWhole: Bool = true) -> SeriesSelection {
            SeriesSelection(
                series("1.2.1", from: 0, frame: frame) + others, brainless: [Records.uid("1.2.1"): isWhole])
        }
        let elsewhere = SeriesSelection.Conclusion.chosen(seriesInstanceUID: Records.uid("1.2.2"))
        #expect(chosen(series("1.2.2", from: 400, frame: frame)).conclusion == elsewhere)
        // Nobody knows where it lies.
        #expect(chosen(series("1.2.2", from: 0)).conclusion == elsewhere)
        #expect(chosen(series("1.2.2", from: 0, frame: frame)).conclusion == .notHeadCT(.noBrainInPixels))
        // Not all of the first was seen.
        #expect(chosen(series("1.2.2", from: 0, frame: frame), isWhole: false).conclusion == elsewhere)
        // A head that cannot be analysed is one none the less.
        let contrast = Records.series("1.2.2") { $0.series.contrastBolusAgent = "IOMERON" }
        #expect(chosen(contrast).conclusion == .notAnalysable(.contrastAgent))
    }

    // MARK: Rules of a site

    private func pattern(_ text: String) throws -> SelectionRules.TextPattern {
        try #require(SelectionRules.TextPattern(text))
    }

    @Test func aConfiguredDescriptionIsPreferredOverThicknessAndWords() throws {
        let thin = Records.series("1.2.1") {
            $0.image.sliceThickness = 1
            $0.series.description = "MPR Tête spéciale"
        }
        let usual = Records.series("1.2.2")
        #expect(SeriesSelection(thin + usual).conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.2")))
        let rules = SelectionRules(preferredDescriptions: [try pattern("^mpr tete")])
        let selection = SeriesSelection(thin + usual, rules: rules)
        #expect(selection.conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.1")))
        #expect(selection.assessment(of: Records.uid("1.2.2"))?.verdict == .candidate(.preferredDescription))
    }

    @Test func aConfiguredDescriptionIsRefused() throws {
        let rules = SelectionRules(refusedDescriptions: [try pattern("angle")])
        let series = Records.series { $0.series.description = "HEAD other ANGLE" }
        #expect(SeriesSelection(series).series[0].verdict == .chosen)
        let refused = SeriesSelection(series, rules: rules)
        #expect(refused.conclusion == .notAnalysable(.refusedDescription("angle")))
        #expect(
            refused.series[0].verdict == .refused(.refusedDescription("angle"))
                && "\(SelectionReason.refusedDescription("angle"))"
                    == "description matches \"angle\", which the configuration refuses"
        )
    }

    @Test func kernelsOfTheSiteCountBeforeTheVocabulary() {
        let soft = Records.series { $0.series.convolutionKernel = "BONE" }
        #expect(SeriesSelection(soft).conclusion == .notAnalysable(.boneKernel))
        #expect(SeriesSelection(soft, rules: .init(softKernels: ["bone"])).series[0].verdict == .chosen)
        let bone = Records.series { $0.series.convolutionKernel = "Qx7" }
        #expect(SeriesSelection(bone).series[0].verdict == .chosen)
        #expect(SeriesSelection(bone, rules: .init(boneKernels: ["QX7"])).series[0].verdict == .refused(.boneKernel))
    }

    @Test func anInstitutionHasRulesOfItsOwn() throws {
        let own = SelectionRules(preferredThicknessMillimetres: 0.5...1.5)
        let rules = SelectionRules(institutions: [.init(name: try pattern("^general"), rules: own)])
        func chosen(_ institution: String) -> SeriesSelection.Conclusion {
            let change: (inout InstanceRecord) -> Void = { $0.study.institutionName = institution }
            let thin = Records.series("1.2.1") {
                $0.image.sliceThickness = 1
                change(&$0)
            }
            return SeriesSelection(thin + Records.series("1.2.2") { change(&$0) }, rules: rules).conclusion
        }
        #expect(chosen("General Hospital") == .chosen(seriesInstanceUID: Records.uid("1.2.1")))
        #expect(chosen("Other Hospital") == .chosen(seriesInstanceUID: Records.uid("1.2.2")))
    }

    @Test func anInvalidExpressionIsNone() { #expect(SelectionRules.TextPattern("(") == nil) }

    @Test func aSettledSeriesStaysWhileItIsUsable() {
        let thin = Records.series("1.2.1") { $0.image.sliceThickness = 1 }
        let usual = Records.series("1.2.2")
        let selection = SeriesSelection(thin + usual, settled: Records.uid("1.2.1"))
        #expect(selection.conclusion == .chosen(seriesInstanceUID: Records.uid("1.2.1")))
        #expect(selection.assessment(of: Records.uid("1.2.2"))?.verdict == .candidate(.analysedAlready))
        #expect(
            SeriesSelection(thin + usual, settled: Records.uid("1.2.9")).conclusion
                == .chosen(seriesInstanceUID: Records.uid("1.2.2")))
    }
}
