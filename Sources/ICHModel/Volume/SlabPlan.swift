internal import Foundation
public import WorkerProtocol

/// One slice of the series under analysis.
public struct StudySlice: Sendable, Equatable {
    public let sopInstanceUID: UID
    /// Changes when the pixels change.
    public let contentDigest: String
    public let geometry: SliceGeometry

    public init(sopInstanceUID: UID, contentDigest: String, geometry: SliceGeometry) {
        self.sopInstanceUID = sopInstanceUID
        self.contentDigest = contentDigest
        self.geometry = geometry
    }

    /// - Throws: `ModelError` with code `slice` where the record has no usable geometry.
    public init(_ record: InstanceRecord, contentDigest: String) throws {
        self.init(
            sopInstanceUID: record.sopInstanceUID, contentDigest: contentDigest,
            geometry: try SliceGeometry(record.image))
    }

    var position: Double { geometry.positionMillimetres }
}

/// Which slices make which slab: a function of the slices alone, whatever the order of their arrival.
struct SlabPlan: Sendable, Equatable {
    enum Key: Hashable, Sendable, Comparable {
        /// Every slice is its own slab.
        case slice(UID)
        /// Cell of a grid of `slicesPerSlab · spacing` millimetres, anchored at position zero.
        case cell(Int)
    }

    struct Slab: Sendable, Equatable {
        let key: Key
        /// Feet → head.
        let members: [StudySlice]
        /// Mean of the members' positions, mm along the normal.
        var position: Double { members.reduce(0) { $0 + $1.position } / Double(members.count) }
    }

    /// How slices are put together.
    struct Grid: Sendable, Equatable {
        let slicesPerSlab: Int
        /// mm; nil where one slice or none is known.
        let spacing: Double?

        init(spacing: Double?, thickness: Double) {
            self.spacing = spacing
            slicesPerSlab = spacing.map { max(1, Percentile.roundHalfAway(thickness / $0)) } ?? 1
        }

        func key(of slice: StudySlice) -> Key {
            guard let spacing, slicesPerSlab > 1 else { return .slice(slice.sopInstanceUID) }
            return .cell(Int((slice.position / (Double(slicesPerSlab) * spacing) + 1e-4).rounded(.down)))
        }
    }

    let grid: Grid
    /// Feet → head.
    let slabs: [Slab]

    init(_ slices: some Collection<StudySlice>, grid: Grid) {
        self.grid = grid
        slabs = Dictionary(grouping: slices, by: grid.key)
            .map { Slab(key: $0, members: $1.sorted(by: Self.isBelow)) }
            .sorted { ($0.position, $0.key) < ($1.position, $1.key) }
    }

    private static func isBelow(_ left: StudySlice, _ right: StudySlice) -> Bool {
        (left.position, left.sopInstanceUID) < (right.position, right.sopInstanceUID)
    }

    /// What the volume of a slab is reckoned with, mm: half the way to both neighbours; 15 mm at most, for gaps.
    var extents: [Double] {
        let positions = slabs.map(\.position)
        guard positions.count > 1 else { return positions.map { _ in grid.spacing ?? 5 } }
        return positions.indices.map { index in
            let below = index > 0 ? positions[index] - positions[index - 1] : positions[1] - positions[0]
            let above = index + 1 < positions.count ? positions[index + 1] - positions[index] : below
            return min(15, (below + above) / 2)
        }
    }

    /// The spacing of a complete series: the median distance of neighbours.
    static func spacing(of slices: some Collection<StudySlice>) -> Double? {
        SliceSpacing.median(of: slices.map(\.position))
    }

    /// The spacing as far as it can be told while slices arrive in any order: what is missing only makes distances
    /// larger, so a median well above what the header declares is not believed.
    static func estimatedSpacing(of slices: some Collection<StudySlice>) -> Double? {
        let declared = slices.compactMap { $0.geometry.declaredSpacingMillimetres ?? $0.geometry.thicknessMillimetres }
            .min()
        let median = slices.count >= 8 || declared == nil ? spacing(of: slices) : nil
        guard let declared else { return median }
        guard let median else { return (declared * 1000).rounded() / 1000 }
        return median <= 1.15 * declared ? median : (declared * 1000).rounded() / 1000
    }
}
