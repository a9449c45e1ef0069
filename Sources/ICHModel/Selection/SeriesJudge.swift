internal import WorkerProtocol

/// Judges one series by the headers of its instances.
struct SeriesJudge {
    struct Judgement {
        var assessment: SeriesSelection.Assessment
        /// Lower is better among usable series.
        let order: Order
    }

    struct Order: Comparable {
        /// 0: 2.5 to 5 mm, 1: thicker, 2: thinner or unknown.
        let thicknessClass: Int
        /// In steps of a tenth of the longest head, so that a millimetre does not decide.
        let missingCoverage: Int
        let isDerived: Int
        let hasUnknownKernel: Int
        let number: Int
        let uid: UID

        static func < (left: Order, right: Order) -> Bool {
            (left.thicknessClass, left.missingCoverage, left.isDerived, left.hasUnknownKernel, left.number, left.uid)
                < (
                    right.thicknessClass, right.missingCoverage, right.isDerived, right.hasUnknownKernel, right.number,
                    right.uid
                )
        }
    }

    private typealias Words = HeaderVocabulary

    static let computedTomography = "1.2.840.10008.5.1.4.1.1.2"
    /// Enhanced CT, Legacy Converted Enhanced CT.
    static let multiFrameClasses: Set<String> = ["1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"]
    static let secondaryCapture = "1.2.840.10008.5.1.4.1.1.7"

    let uid: UID
    let records: [InstanceRecord]
    let limits: SeriesSelection.Limits

    func assess() -> Judgement {
        var refusals: [SelectionReason] = []
        var usable: [(record: InstanceRecord, geometry: SliceGeometry)] = []
        for record in records {
            switch Self.judge(record) {
            case .success(let geometry): usable.append((record, geometry))
            case .failure(let refusal): refusals.append(refusal.reason)
            }
        }
        let stack = Stack.largest(of: usable)
        let headers = Headers.distinct(in: records)
        let region = Self.region(of: headers)
        let verdict = verdict(stack, region, refusals)
        let assessment = SeriesSelection.Assessment(
            seriesInstanceUID: uid, verdict: verdict, region: region, instances: stack.instances,
            coverageMillimetres: stack.coverage, thicknessMillimetres: stack.thickness)
        return Judgement(assessment: assessment, order: order(stack))
    }

    // MARK: One instance

    private struct Refusal: Error {
        let reason: SelectionReason
        init(_ reason: SelectionReason) { self.reason = reason }
    }

    /// The geometry of an axial CT image, or why the instance is none.
    private static func judge(_ record: InstanceRecord) -> Result<SliceGeometry, Refusal> {
        let sopClass = record.sopClassUID.string
        let types = record.image.imageType.map { Words.folded($0) }
        if sopClass.hasPrefix(secondaryCapture) { return .failure(Refusal(.secondaryCaptureOrDerived)) }
        if multiFrameClasses.contains(sopClass) { return .failure(Refusal(.multiFrame)) }
        guard sopClass == computedTomography, Words.folded(record.series.modality ?? "ct") == "ct" else {
            return .failure(Refusal(.notCT))
        }
        guard record.image.hasPixelData else { return .failure(Refusal(.noPixelData)) }
        if types.contains(where: Words.localizerTypes.contains) { return .failure(Refusal(.localizer)) }
        guard !isDerived(record, types) else { return .failure(Refusal(.secondaryCaptureOrDerived)) }
        guard (record.image.numberOfFrames ?? 1) <= 1 else { return .failure(Refusal(.multiFrame)) }
        guard let geometry = try? SliceGeometry(record.image) else { return .failure(Refusal(.noGeometry)) }
        guard geometry.isAxial else { return .failure(Refusal(.notAxial)) }
        if types.contains(where: Words.derivedTypes.contains) { return .failure(Refusal(.secondaryCaptureOrDerived)) }
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
        _ stack: Stack, _ region: SeriesSelection.Region, _ refusals: [SelectionReason]
    ) -> SeriesSelection.Verdict {
        guard !stack.instances.isEmpty else { return .refused(refusals.min { $0.rank < $1.rank } ?? .noImages) }
        if case .other(let name) = region { return .refused(.otherBodyPart(name)) }
        if let reason = Headers.distinct(in: stack.records).lazy.compactMap(Self.textualRefusal).first {
            return .refused(reason)
        }
        if stack.instances.count < limits.leastSlices { return .refused(.fewerSlices(than: limits.leastSlices)) }
        if stack.coverage < limits.leastCoverageMillimetres {
            return .refused(.coversOnly(millimetres: Int(stack.coverage.rounded())))
        }
        return .candidate
    }

    /// What descriptions, kernel and contrast agent speak against.
    private static func textualRefusal(of headers: Headers) -> SelectionReason? {
        let series = headers.series
        let text = Words.folded(series.description)
        if !Words.noContrast.contains(Words.folded(series.contrastBolusAgent)) { return .contrastAgent }
        if Words.angiography.matches(text) { return .angiographyOrPerfusion }
        if Words.withContrast.matches(text), !Words.withoutContrast.matches(text) { return .contrastAgent }
        if isPartOfHead(text, bodyPart: series.bodyPartExamined) { return .partOfHead }
        switch Words.isBone(kernel: series.convolutionKernel ?? "", manufacturer: series.manufacturer ?? "") {
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

    private func order(_ stack: Stack) -> Order {
        let record = stack.records.first
        let kernel = Words.isBone(
            kernel: record?.series.convolutionKernel ?? "", manufacturer: record?.series.manufacturer ?? "")
        let isDerived = record?.image.imageType.first.map { Words.folded($0) } == "derived"
        return Order(
            thicknessClass: Self.thicknessClass(stack.thickness),
            missingCoverage: max(0, 20 - Int(stack.coverage / 20)),
            isDerived: isDerived ? 1 : 0, hasUnknownKernel: kernel == nil ? 1 : 0,
            number: record?.series.number ?? Int.max,
            uid: uid)
    }

    private static func thicknessClass(_ thickness: Double?) -> Int {
        guard let thickness, thickness >= 2.4 else { return 2 }
        return thickness <= 5.1 ? 0 : 1
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

/// Images of one size and orientation within a series.
private struct Stack {
    typealias Element = (record: InstanceRecord, geometry: SliceGeometry)

    /// Feet → head.
    let records: [InstanceRecord]
    let coverage: Double
    let thickness: Double?
    var instances: [UID] { records.map(\.sopInstanceUID) }

    private init(_ elements: [Element]) {
        let sorted = elements.sorted {
            ($0.geometry.positionMillimetres, $0.record.sopInstanceUID) < (
                $1.geometry.positionMillimetres, $1.record.sopInstanceUID
            )
        }
        records = sorted.map(\.record)
        let thicknesses = sorted.compactMap(\.geometry.thicknessMillimetres)
        thickness = thicknesses.isEmpty ? nil : Percentile.linear(thicknesses, 50)
        let positions = sorted.map(\.geometry.positionMillimetres)
        coverage = positions.isEmpty ? 0 : positions[positions.count - 1] - positions[0] + (thickness ?? 0)
    }

    private struct Shape: Hashable {
        let rows: Int
        let columns: Int
        let normal: [Int]
    }

    /// The largest group; where it holds positions twice, the acquisition in it that covers as much.
    static func largest(of elements: [Element]) -> Stack {
        let groups = Dictionary(grouping: elements) { element in
            Shape(
                rows: element.geometry.rows, columns: element.geometry.columns,
                normal: element.geometry.normal.map { Int(($0 * 50).rounded()) })
        }
        let stacks = groups.values.map(Stack.init)
        guard let whole = stacks.min(by: isBetter) else { return Stack([]) }
        let members = Set(whole.instances)
        let chosen = elements.filter { members.contains($0.record.sopInstanceUID) }
        let positions = chosen.map(\.geometry.positionMillimetres)
        guard SliceSpacing.distinct(positions).count < positions.count else { return whole }
        let acquisitions = Dictionary(grouping: chosen) { $0.record.image.acquisitionNumber }.values.map(Stack.init)
        return acquisitions.filter { $0.coverage >= 0.8 * whole.coverage }.min(by: isBetter) ?? whole
    }

    private static func isBetter(_ left: Stack, _ right: Stack) -> Bool {
        if left.records.count != right.records.count { return left.records.count > right.records.count }
        if left.coverage != right.coverage { return left.coverage > right.coverage }
        return (left.instances.first?.string ?? "") < (right.instances.first?.string ?? "")
    }
}
