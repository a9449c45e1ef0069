internal import WorkerProtocol

/// Judges one series by the headers of its instances.
struct SeriesJudge {
    struct Judgement {
        var assessment: SeriesSelection.Assessment
        let stack: SliceStack
        /// Lower is better among usable series.
        let order: Order
        var uid: UID { assessment.seriesInstanceUID }
    }

    struct Order: Comparable {
        let isNotPreferred: Int
        /// 0: as preferred, 1: thicker, 2: thinner or unknown.
        let thicknessClass: Int
        /// In steps of a tenth of the longest head, so that a millimetre does not decide.
        let missingCoverage: Int
        let isDerived: Int
        let hasUnknownKernel: Int
        let number: Int
        let uid: UID

        static func < (left: Order, right: Order) -> Bool {
            if left.ranks != right.ranks { return left.ranks.lexicographicallyPrecedes(right.ranks) }
            return (left.number, left.uid) < (right.number, right.uid)
        }

        private var ranks: [Int] { [isNotPreferred, thicknessClass, missingCoverage, isDerived, hasUnknownKernel] }

        /// Why it comes after another.
        func preference(_ better: Order) -> SelectionPreference {
            let kinds: [SelectionPreference] = [
                .preferredDescription, .preferredThickness, .coverage, .original, .knownKernel,
            ]
            let differing = zip(kinds, zip(ranks, better.ranks)).first { $0.1.0 != $0.1.1 }
            return differing?.0 ?? .lowerNumber
        }
    }

    private typealias Words = HeaderVocabulary

    static let computedTomography = "1.2.840.10008.5.1.4.1.1.2"
    static let secondaryCapture = "1.2.840.10008.5.1.4.1.1.7"
    /// Rows and columns. Scanners make 256 and more; less is a thumbnail.
    static let leastPixels = 64
    static let mostAcquiredTiltDegrees = 60.0

    let uid: UID
    let records: [InstanceRecord]
    /// Of the series' institution.
    let rules: SelectionRules
    /// See `SeriesSelection.mostImages`.
    var isOfTooLargeStudy = false

    func assess() -> Judgement {
        var refusals: [Refusal] = []
        var usable: [SliceStack.Element] = []
        for record in records {
            switch Self.judge(record) {
            case .success(let geometry): usable.append(.init(record: record, geometry: geometry))
            case .failure(let refusal): refusals.append(refusal)
            }
        }
        // Frames are not looked at one by one then.
        if isOfTooLargeStudy, !usable.isEmpty || refusals.contains(where: { $0.reason == .multiFrame }) {
            refusals.append(Refusal(.moreImages(than: SeriesSelection.mostImages)))
            usable = []
        }
        let stack = SliceStack.largest(of: usable)
        let headers = Headers.distinct(in: records)
        let region = headers.contains { rules.isPreferred($0.series) } ? .head : Self.region(of: headers)
        let verdict = verdict(stack, region, refusals.map(\.reason))
        let omissions = stack.instances.isEmpty ? [] : Self.omissions(stack, usable, refusals)
        let assessment = SeriesSelection.Assessment(
            seriesInstanceUID: uid, verdict: verdict, region: region, instances: stack.instances,
            leftOut: omissions.map(\.description), coverageMillimetres: stack.coverage,
            thicknessMillimetres: stack.thickness)
        return Judgement(assessment: assessment, stack: stack, order: order(stack))
    }

    // MARK: One instance

    private struct Refusal: Error {
        let reason: SelectionReason
        /// What a series without this image lacks.
        let omission: Omission.Kind?

        init(_ reason: SelectionReason, omits omission: Omission.Kind? = nil) {
            self.reason = reason
            self.omission = omission
        }
    }

    private static func omissions(_ stack: SliceStack, _ usable: [SliceStack.Element], _ refusals: [Refusal])
        -> [Omission]
    {
        let kinds = stack.leftOut(of: usable) + refusals.compactMap(\.omission)
        let counts = Dictionary(grouping: kinds) { $0 }.mapValues(\.count)
        let images = Omission.Kind.allCases.compactMap { kind in
            counts[kind].map { Omission.images(kind, count: $0) }
        }
        return images + (stack.wideSpacing.map { [.wideSpacing(millimetres: $0)] } ?? [])
    }

    /// The geometry of an axial CT image, or why the instance is none.
    private static func judge(_ record: InstanceRecord) -> Result<SliceGeometry, Refusal> {
        let sopClass = record.sopClassUID.string
        let types = record.image.imageType.map { Words.folded($0) }
        if sopClass.hasPrefix(secondaryCapture) { return .failure(Refusal(.secondaryCaptureOrDerived)) }
        let isMultiFrame = MultiFrame.sopClasses.contains(sopClass)
        // `InstanceRecord.images` makes one record for each frame where it can.
        if isMultiFrame, record.frame == nil {
            let reason = record.multiFrame?.problem.map(SelectionReason.framesNotKnown) ?? .multiFrame
            return .failure(Refusal(reason, omits: .multiFrame))
        }
        guard isMultiFrame || sopClass == computedTomography, Words.folded(record.series.modality ?? "ct") == "ct"
        else {
            return .failure(Refusal(.notCT))
        }
        let isReformatted = types.contains(where: Words.derivedTypes.contains)
        // What is mixed into a series without being one of its slices is no loss.
        let isExtra = isReformatted || isDerived(record, types) || types.contains(where: Words.localizerTypes.contains)
        func refusal(_ reason: SelectionReason, omits kind: Omission.Kind) -> Result<SliceGeometry, Refusal> {
            .failure(Refusal(reason, omits: isExtra ? nil : kind))
        }
        guard record.image.hasPixelData else { return refusal(.noPixelData, omits: .noPixelData) }
        if types.contains(where: Words.localizerTypes.contains) { return .failure(Refusal(.localizer)) }
        if types.contains(where: Words.contrastTypes.contains) { return .failure(Refusal(.contrastAgent)) }
        guard !isDerived(record, types) else { return .failure(Refusal(.secondaryCaptureOrDerived)) }
        guard record.frame != nil || (record.image.numberOfFrames ?? 1) <= 1 else {
            return refusal(.multiFrame, omits: .multiFrame)
        }
        guard let geometry = try? SliceGeometry(record.image) else { return refusal(.noGeometry, omits: .noGeometry) }
        guard geometry.isAxial else {
            // No gantry tilts that far: a scout or a reformat that does not say so.
            if geometry.tiltDegrees > mostAcquiredTiltDegrees { return .failure(Refusal(.notAxial)) }
            return refusal(.notAxial, omits: .otherOrientation)
        }
        guard !isReformatted else { return .failure(Refusal(.secondaryCaptureOrDerived)) }
        guard min(geometry.rows, geometry.columns) >= leastPixels else {
            return refusal(.smallerThan(pixels: leastPixels), omits: .small)
        }
        return .success(geometry)
    }

    /// Images that were compressed with loss or averaged are *derived* too (PS3.3 C.7.6.1.1.2): not refused for that
    /// alone.
    private static func isDerived(_ record: InstanceRecord, _ types: [String]) -> Bool {
        if types.count > 1, types[1] == "secondary" { return true }
        let photometric = Words.folded(record.image.photometricInterpretation)
        return (record.image.samplesPerPixel ?? 1) != 1 || !(photometric.isEmpty || photometric.hasPrefix("monochrome"))
    }

    // MARK: The series

    private func verdict(
        _ stack: SliceStack, _ region: SeriesSelection.Region, _ refusals: [SelectionReason]
    ) -> SeriesSelection.Verdict {
        guard !stack.instances.isEmpty else { return .refused(refusals.min { $0.rank < $1.rank } ?? .noImages) }
        if case .other(let name) = region { return .refused(.otherBodyPart(name)) }
        if let reason = Headers.distinct(in: stack.records).lazy.compactMap(textualRefusal).first {
            return .refused(reason)
        }
        if stack.instances.count < rules.leastSlices { return .refused(.fewerSlices(than: rules.leastSlices)) }
        if stack.coverage < rules.leastCoverageMillimetres {
            return .refused(.coversOnly(millimetres: Int(stack.coverage.rounded())))
        }
        // Until it is compared with the others.
        return .candidate(.lowerNumber)
    }

    /// What descriptions, kernel and contrast agent speak against.
    private func textualRefusal(of headers: Headers) -> SelectionReason? {
        let series = headers.series
        if let rule = rules.refusing(series) { return .refusedDescription(rule.source) }
        if rules.isPreferred(series) { return nil }
        let text = Words.folded(series.description)
        if !Words.noContrast.contains(Words.folded(series.contrastBolusAgent)) { return .contrastAgent }
        if Words.angiography.matches(text) { return .angiographyOrPerfusion }
        if Words.withContrast.matches(text), !Words.withoutContrast.matches(text) { return .contrastAgent }
        if Self.isPartOfHead(text, bodyPart: series.bodyPartExamined) { return .partOfHead }
        switch rules.isBone(kernel: series.convolutionKernel ?? "", manufacturer: series.manufacturer ?? "") {
        case true?: return .boneKernel
        case nil where Words.boneText.matches(text): return .boneKernel
        default: break
        }
        return Words.derivedText.matches(text) ? .secondaryCaptureOrDerived : nil
    }

    private static func isPartOfHead(_ text: String, bodyPart: String?) -> Bool {
        if Words.head.matches(text) { return false }
        return Words.partOfHead.matches(text) || Words.partBodyParts.contains(Words.folded(bodyPart))
    }

    /// The nearer a text is to the series, the more it counts.
    private static func region(of headers: [Headers]) -> SeriesSelection.Region {
        for header in headers {
            let series = header.series
            let named = region(in: series.description) ?? region(bodyPart: Words.folded(series.bodyPartExamined))
            if let region = named ?? region(in: series.protocolName) ?? region(in: header.studyDescription) {
                return region
            }
        }
        return .unspecified
    }

    private static func region(bodyPart: String) -> SeriesSelection.Region? {
        if Words.unspecifiedBodyParts.contains(bodyPart) { return nil }
        if Words.headBodyParts.contains(bodyPart) || Words.partBodyParts.contains(bodyPart) { return .head }
        return Words.head.matches(bodyPart) ? .head : .other(bodyPart.uppercased())
    }

    private static func region(in text: String?) -> SeriesSelection.Region? {
        let folded = Words.folded(text)
        if Words.head.matches(folded) || Words.partOfHead.matches(folded) { return .head }
        return Words.otherBody.firstGroup(in: folded).map { .other($0.uppercased()) }
    }

    private func order(_ stack: SliceStack) -> Order {
        let record = stack.records.first
        let kernel = rules.isBone(
            kernel: record?.series.convolutionKernel ?? "", manufacturer: record?.series.manufacturer ?? "")
        let isDerived = record?.image.imageType.first.map { Words.folded($0) } == "derived"
        return Order(
            isNotPreferred: record.map { rules.isPreferred($0.series) } == true ? 0 : 1,
            thicknessClass: thicknessClass(stack.thickness),
            missingCoverage: max(0, 20 - Int(stack.coverage / 20)),
            isDerived: isDerived ? 1 : 0, hasUnknownKernel: kernel == nil ? 1 : 0,
            number: record?.series.number ?? Int.max,
            uid: uid)
    }

    private func thicknessClass(_ thickness: Double?) -> Int {
        let preferred = rules.preferredThicknessMillimetres
        guard let thickness, thickness >= preferred.lowerBound else { return 2 }
        return thickness <= preferred.upperBound ? 0 : 1
    }
}

/// The texts that judge a series; mostly the same for all of its instances.
private struct Headers: Hashable {
    let series: SeriesAttributes
    let studyDescription: String?

    /// In the order of the instances' UIDs, so that the order of arrival does not matter.
    static func distinct(in records: [InstanceRecord]) -> [Headers] {
        var first: [Headers: UID] = [:]
        for record in records {
            let headers = Headers(series: record.series, studyDescription: record.study.description)
            first[headers] = min(first[headers] ?? record.sopInstanceUID, record.sopInstanceUID)
        }
        return first.sorted { $0.value < $1.value }.map(\.key)
    }
}
