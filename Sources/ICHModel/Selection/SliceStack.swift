internal import WorkerProtocol

/// Images of a series that one volume is made of: one size, pixel spacing, orientation and field of view, one image a
/// position.
struct SliceStack {
    struct Element {
        let record: InstanceRecord
        let geometry: SliceGeometry

        /// mm between the outer edges of the outer pixels, the shorter side.
        var field: Double {
            min(
                Double(geometry.rows) * geometry.pixelSpacingMillimetres[0],
                Double(geometry.columns) * geometry.pixelSpacingMillimetres[1])
        }
    }

    /// Feet → head.
    let elements: [Element]
    let coverage: Double
    let thickness: Double?
    /// Images of the series in no group, for it has too many.
    private var ungrouped: Set<UID> = []
    var records: [InstanceRecord] { elements.map(\.record) }
    var instances: [UID] { elements.map(\.record.sopInstanceUID) }
    var positions: [Double] { elements.map(\.geometry.positionMillimetres) }

    init(_ elements: [Element]) {
        self.elements = elements.sorted {
            ($0.geometry.positionMillimetres, $0.record.sopInstanceUID) < (
                $1.geometry.positionMillimetres, $1.record.sopInstanceUID
            )
        }
        let thicknesses = elements.compactMap(\.geometry.thicknessMillimetres)
        thickness = thicknesses.isEmpty ? nil : Percentile.linear(thicknesses, 50)
        let positions = self.elements.map(\.geometry.positionMillimetres)
        coverage = positions.isEmpty ? 0 : positions[positions.count - 1] - positions[0] + (thickness ?? 0)
    }

    /// Of the largest group of alike images one for every position; where positions occur twice, of the acquisition in
    /// it that covers as much, if there is one.
    static func largest(of elements: [Element]) -> SliceStack {
        let (groups, rest) = groups(of: elements)
        var stack = largest(among: groups)
        stack.ungrouped = Set(rest.map(\.record.sopInstanceUID))
        return stack
    }

    private static func largest(among groups: [[Element]]) -> SliceStack {
        guard let whole = groups.map(SliceStack.init).min(by: isBetter) else { return SliceStack([]) }
        guard SliceSpacing.distinct(whole.positions).count < whole.elements.count else { return whole }
        let acquisitions = Dictionary(grouping: whole.elements) { $0.record.image.acquisitionNumber }.values
            .map { SliceStack($0).withUniquePositions() }
        return acquisitions.filter { $0.coverage >= 0.8 * whole.coverage }.min(by: isBetter)
            ?? whole.withUniquePositions()
    }

    /// Whether the other shows all that this one shows: over its range, and as wide.
    func lies(within other: SliceStack) -> Bool {
        guard let own = elements.first, let whole = other.elements.first,
            let frame = own.record.series.frameOfReferenceUID, frame == whole.record.series.frameOfReferenceUID,
            Self.isParallel(own.geometry, whole.geometry), own.field <= 1.05 * whole.field
        else { return false }
        let (mine, its, margin) = (positions, other.positions, other.thickness ?? 0)
        return mine[0] >= its[0] - margin && mine[mine.count - 1] <= its[its.count - 1] + margin
    }

    // MARK: What is left out

    /// - Parameter usable: all axial images of the series, the stack's own among them.
    /// - Returns: one for each image that the stack does not stand for.
    func leftOut(of usable: [Element]) -> [Omission.Kind] {
        guard let first = elements.first else { return [] }
        let own = Set(instances)
        let slices = elements.map { ($0.geometry.positionMillimetres, $0.geometry.thicknessMillimetres) }
        let spacing = SliceSpacing.median(of: slices.map(\.0)) ?? thickness ?? 0
        return usable.filter { !own.contains($0.record.sopInstanceUID) }.compactMap { other in
            if ungrouped.contains(other.record.sopInstanceUID) { return .ungrouped }
            if !Self.isParallel(other.geometry, first.geometry) { return .otherOrientation }
            if !Self.covers(other.geometry, slices, spacing) { return .otherPosition }
            return first.field < Self.wholeHeadField && other.field > 1.05 * first.field ? .widerField : nil
        }
    }

    /// The spacing of a stretch, or of the series where there is none, that leaves room for as many slices again.
    var wideSpacing: Double? {
        let contiguity = SliceContiguity(positions: positions)
        guard !contiguity.stretches.isEmpty else {
            let spacing = SliceSpacing.median(of: positions)
            return spacing.flatMap { Self.isWide($0, thickness) ? $0 : nil }
        }
        return contiguity.stretches.first { stretch in
            // A stretch has its own thickness: older protocols change it above the skull base.
            let known = elements[stretch.slices].compactMap(\.geometry.thicknessMillimetres)
            return Self.isWide(stretch.spacing, known.isEmpty ? nil : Percentile.linear(known, 50))
        }?.spacing
    }

    private static func isWide(_ spacing: Double, _ thickness: Double?) -> Bool {
        thickness.map { spacing > SliceContiguity.wideFrom * $0 } ?? false
    }

    /// A head with its skin is narrower, mm.
    static let wholeHeadField = 200.0

    /// Whether the stack shows what an image at another position shows: within its range, at most one spacing beyond,
    /// and not in a hole between two slices.
    /// - Parameter slices: ascending.
    private static func covers(_ geometry: SliceGeometry, _ slices: [(Double, Double?)], _ spacing: Double) -> Bool {
        let position = geometry.positionMillimetres
        guard let lowest = slices.first?.0, let highest = slices.last?.0 else { return false }
        let slack = spacing + SliceSpacing.sameMillimetres
        guard position >= lowest - slack, position <= highest + slack else { return false }
        guard position > lowest, position < highest else { return true }
        var (below, above) = (0, slices.count - 1)
        while above - below > 1 {
            let middle = (below + above) / 2
            if slices[middle].0 < position { below = middle } else { above = middle }
        }
        let nearest = position - slices[below].0 <= slices[above].0 - position ? slices[below] : slices[above]
        return abs(nearest.0 - position) <= 0.8 * (nearest.1 ?? spacing)
    }

    // MARK: Which images belong together

    /// Directions of normals within one stack.
    static let sameOrientationDegrees = 1.0
    /// Fields of view within one stack, mm.
    static let sameFieldMillimetres = 1.0
    /// Of one series; each image is compared with the first of each. A head and what is scanned with it are a few.
    static let mostGroups = 32

    private static let leastCosine = 0.99984769515639123915  // of 1°

    private static func isParallel(_ left: SliceGeometry, _ right: SliceGeometry) -> Bool {
        dot(left.normal, right.normal) >= leastCosine
    }

    /// Groups by likeness with the first image of a group, in the order of positions.
    /// - Returns: at most `mostGroups`, and what is in none of them.
    private static func groups(of elements: [Element]) -> (groups: [[Element]], rest: [Element]) {
        var groups: [[Element]] = []
        var rest: [Element] = []
        for element in SliceStack(elements).elements {
            if let index = groups.firstIndex(where: { isAlike($0[0], element) }) {
                groups[index].append(element)
            } else if groups.count < mostGroups {
                groups.append([element])
            } else {
                rest.append(element)
            }
        }
        return (groups, rest)
    }

    private static func isAlike(_ left: Element, _ right: Element) -> Bool {
        let (first, second) = (left.geometry, right.geometry)
        return first.rows == second.rows && first.columns == second.columns
            && zip(first.pixelSpacingMillimetres, second.pixelSpacingMillimetres)
                .allSatisfy { abs($0 - $1) <= 0.001 * $0 }
            && isParallel(first, second) && sidewaysShift(left, right) <= sameFieldMillimetres
    }

    /// How far two fields of view lie apart sideways, mm. A stack proceeds along its normal or, with a tilted gantry,
    /// with the table along the body axis: what is left beside the better of the two.
    private static func sidewaysShift(_ left: Element, _ right: Element) -> Double {
        guard let from = left.record.image.position, let to = right.record.image.position else { return 0 }
        let way = zip(from, to).map { $1 - $0 }
        let along = dot(way, left.geometry.normal)
        let beside = zip(way, left.geometry.normal).map { $0 - along * $1 }
        return min(dot(beside, beside), way[0] * way[0] + way[1] * way[1]).squareRoot()
    }

    private static func isBetter(_ left: SliceStack, _ right: SliceStack) -> Bool {
        if left.elements.count != right.elements.count { return left.elements.count > right.elements.count }
        if left.coverage != right.coverage { return left.coverage > right.coverage }
        guard let first = left.elements.first, let second = right.elements.first else { return false }
        return isLater(first, second)
    }

    /// The later acquisition, instance: a repetition is made because the first did not turn out well.
    private static func isLater(_ left: Element, _ right: Element) -> Bool {
        func order(_ record: InstanceRecord) -> (Int, Int, UID) {
            (record.image.acquisitionNumber ?? .min, record.image.instanceNumber ?? .min, record.sopInstanceUID)
        }
        return order(left.record) > order(right.record)
    }

    /// Of images at one position the latest: two are never averaged.
    private func withUniquePositions() -> SliceStack {
        var kept: [Element] = []
        var start = -Double.infinity
        for element in elements {
            if element.geometry.positionMillimetres - start >= SliceSpacing.sameMillimetres {
                kept.append(element)
                start = element.geometry.positionMillimetres
            } else if Self.isLater(element, kept[kept.count - 1]) {
                kept[kept.count - 1] = element
            }
        }
        return SliceStack(kept)
    }
}
