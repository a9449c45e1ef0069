internal import WorkerProtocol

/// The planes of one slab, summed. Sums are integers, so that the mean does not depend on the order of arrival.
///
/// Holds one number a pixel: int16 for a single plane, int32 for a sum.
struct Slab: Sendable {
    private enum Pixels: Sendable {
        case none
        case single([Int16])
        case sum([Int32])
    }

    /// What is found in the pixels before anything is encoded.
    struct Measures: Sendable, Equatable {
        let skull: SkullBox?
        /// mm² that look like brain.
        let brainArea: Double
    }

    /// What the encoder said, and of which crop.
    struct Encoding: Sendable {
        let box: StudyBox
        let plane: EncodedPlane
    }

    /// Content digests of the slices in the sum.
    private(set) var members: [UID: String] = [:]
    private var pixels = Pixels.none
    /// Differs for every content.
    private(set) var revision = 0
    private(set) var measures: Measures?
    private(set) var encoding: Encoding?

    mutating func add(_ slice: StudySlice, _ plane: Plane, revision: Int) {
        members[slice.sopInstanceUID] = slice.contentDigest
        // Taken out first, so that the sum is made in place.
        let earlier = pixels
        pixels = .none
        pixels = Self.sum(consume earlier, plane.values)
        self.revision = revision
        measures = nil
        encoding = nil
    }

    private static func sum(_ pixels: consuming Pixels, _ values: [Int16]) -> Pixels {
        switch consume pixels {
        case .none: return .single(values)
        case .single(let first): return .sum(zip(first, values).map { Int32($0) + Int32($1) })
        case .sum(var sums):
            sums.withUnsafeMutableBufferPointer { sums in
                values.withUnsafeBufferPointer { values in
                    for index in 0..<values.count { sums[index] += Int32(values[index]) }
                }
            }
            return .sum(sums)
        }
    }

    /// [row][column], HU: the mean of the members.
    var mean: [Float] {
        switch pixels {
        case .none: return []
        case .single(let values): return values.map(Float.init)
        case .sum(let sums):
            let count = Float(members.count)
            return sums.map { Float($0) / count }
        }
    }

    var bytes: Int {
        switch pixels {
        case .none: 0
        case .single(let values): values.count * MemoryLayout<Int16>.stride
        case .sum(let sums): sums.count * MemoryLayout<Int32>.stride
        }
    }

    mutating func set(_ measures: Measures) { self.measures = measures }
    mutating func set(_ encoding: Encoding) { self.encoding = encoding }
}
