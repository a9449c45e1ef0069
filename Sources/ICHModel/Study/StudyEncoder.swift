public import Foundation
public import WorkerProtocol

/// Encodes one series while its slices arrive, and decides when they are all there.
///
/// The result is a function of the slices alone: slabs are integer sums, their grid and the head crop are computed from
/// all slices, and at the end every slab has been encoded with the final crop. Encoding early only saves time then.
///
/// Usage: `add` every slice as it is decoded, `encodePending()` after each few, `settle()` whenever nothing has arrived
/// for a moment, `finish()` when the series is complete. After `finish()` more slices may be added and `finish()`
/// called again: only what changed is encoded again.
///
/// Memory: one int16 or int32 per pixel and slab (for 36 slabs of 512² at most 36 MiB), one encoding per slab, and for
/// the time of a call eight crops; bounded by `Limits`.
public actor StudyEncoder {
    /// Supplies planes again, of the current version of the instances: up to 32 at a time, in any order.
    public typealias PlaneSource = @Sendable (_ sopInstanceUIDs: [UID]) async throws -> [UID: Plane]

    public struct Limits: Sendable {
        /// Slices of one series. A head at 0.25 mm has 800.
        public var slices: Int
        /// Slabs of one series. A head has 20 to 60.
        public var slabs: Int
        /// Bytes of all slabs' pixels.
        public var pixelBytes: Int
        /// Planes of one encoder call.
        public var batch: Int

        public init(slices: Int = 2000, slabs: Int = 512, pixelBytes: Int = 512 << 20, batch: Int = 8) {
            self.slices = slices
            self.slabs = slabs
            self.pixelBytes = pixelBytes
            self.batch = min(max(batch, 1), ModelSizes.mostPlanes)
        }
    }

    /// When an encoder call happened.
    public enum Phase: String, Sendable, Codable {
        /// While slices arrive.
        case arrival
        /// While nothing arrives.
        case settling
        /// After the series was declared complete: what the requester waits for.
        case completion
    }

    /// One encoder call, for traces.
    public struct EncoderCall: Sendable, Codable, Equatable {
        public var phase: Phase
        public var started: Date
        public var seconds: Double
        public var planeCount: Int
    }

    public enum Addition: Sendable, Equatable {
        case added
        /// The same instance with the same content was there.
        case unchanged
        /// The same instance was there with other content.
        case replaced
    }

    /// What a series comes to.
    public enum Outcome: Sendable, Equatable {
        case finding(Finding)
        /// The pixels are no head that can be analysed: a phantom, another body region, an empty volume.
        case noBrainTissue(BrainCheck)
    }

    public struct Progress: Sendable, Equatable {
        public var slices: Int
        public var slabs: Int
        /// Slabs whose encoding is of the present crop.
        public var encodedSlabs: Int
    }

    /// The most encoder calls that `calls` remembers.
    public static let mostCalls = 4096
    /// Planes asked of the source at a time.
    public static let mostRequested = DecodeRequest.mostFrames

    private let package: ModelPackage
    private let engine: any InferenceEngine
    private let limits: Limits
    private let planeSource: PlaneSource
    private let now: @Sendable () -> Date
    private let turn = AsyncLock()

    private var slices: [UID: StudySlice] = [:]
    private var slabs: [SlabPlan.Key: Slab] = [:]
    private var grid: SlabPlan.Grid
    /// Of `slices` and `grid`; nil since the last change.
    private var knownPlan: SlabPlan?
    private var revision = 0
    private var resizer: TriangleResize?
    /// Every encoder call, oldest first.
    public private(set) var calls: [EncoderCall] = []

    /// - Parameters:
    ///   - planeSource: called when a slab has to be summed anew: its slices were replaced, or the slice spacing turned
    ///     out to be another than the first slices' headers said.
    ///   - now: for the time stamps of `calls`.
    public init(
        package: ModelPackage, engine: any InferenceEngine, limits: Limits = .init(),
        now: @escaping @Sendable () -> Date = { Date() }, planeSource: @escaping PlaneSource
    ) {
        self.package = package
        self.engine = engine
        self.limits = limits
        self.now = now
        self.planeSource = planeSource
        grid = SlabPlan.Grid(spacing: nil, thickness: package.slabThicknessMillimetres)
    }

    public var progress: Progress {
        let box = currentBox()
        let encoded = plan.slabs.count { slabs[$0.key]?.encoding?.box == box }
        return Progress(slices: slices.count, slabs: plan.slabs.count, encodedSlabs: encoded)
    }

    /// Takes a slice.
    /// - Throws: `ModelError`: `slice` where its size is not that of the series, `limit`.
    @discardableResult
    public func add(_ slice: StudySlice, plane: Plane) throws -> Addition {
        let uid = slice.sopInstanceUID
        let earlier = slices[uid]
        if earlier == slice { return .unchanged }
        try check(slice, plane)
        if earlier != nil { forget(uid) }
        slices[uid] = slice
        regrid(isFinal: false)
        revision += 1
        slabs[grid.key(of: slice), default: Slab()].add(slice, plane, revision: revision)
        return earlier == nil ? .added : .replaced
    }

    /// Takes a slice out again, such as one that turned out to belong to another patient.
    public func remove(sopInstanceUID uid: UID) {
        guard slices.removeValue(forKey: uid) != nil else { return }
        forget(uid)
        regrid(isFinal: false)
    }

    /// Takes out all slices but these: a series may turn out to hold a scout or a second acquisition.
    public func keep(only uids: some Sequence<UID>) {
        for uid in Set(slices.keys).subtracting(uids) { remove(sopInstanceUID: uid) }
    }

    /// Encodes the slabs that have all their slices and were not encoded yet, with the crop as it is known now.
    /// - Returns: planes encoded.
    @discardableResult
    public func encodePending() async throws -> Int {
        try await turn.inTurn {
            var count = 0
            while true {
                let pending = plan.slabs.filter { slab in
                    guard let state = slabs[slab.key], state.encoding == nil else { return false }
                    return slab.members.count >= grid.slicesPerSlab && isWhole(slab)
                }
                guard !pending.isEmpty else { return count }
                await measure(pending)
                count += try await encode(pending, .arrival)
            }
        }
    }

    /// Encodes all that differs from what the result would need if the series were complete. For idle moments.
    /// - Returns: planes encoded.
    @discardableResult
    public func settle() async throws -> Int {
        try await turn.inTurn {
            try await rebuild()
            return try await encodeStale(.settling)
        }
    }

    /// Encodes what is left, runs the sequence head, and decides.
    ///
    /// - Parameter threshold: the operating point; see `ModelPackage.threshold(named:)`.
    /// - Throws: what the engine and the source of planes throw; `ModelError`: `slice` without any slice, `limit`,
    ///   `notFinite`.
    public func finish(threshold: ModelPackage.Threshold) async throws -> Outcome {
        try await turn.inTurn {
            guard !slices.isEmpty else { throw ModelError(.slice, "a series without slices cannot be analysed") }
            try await rebuild()
            let brain = brainCheck()
            guard brain.hasBrain else { return .noBrainTissue(brain) }
            try await encodeStale(.completion)
            let planned = plan
            let encoded = planned.slabs.compactMap { slabs[$0.key]?.encoding }
            guard encoded.count == planned.slabs.count, let first = encoded.first,
                let slice = planned.slabs[0].members.first
            else { throw ModelError(.missingPlane, "a slab was not encoded: analyse the series again") }
            let series = FindingBuilder.Series(
                box: first.box, rows: slice.geometry.rows, columns: slice.geometry.columns,
                slicesPerSlab: planned.grid.slicesPerSlab, spacing: planned.grid.spacing, brain: brain,
                endsWithinBrain: endsWithinBrain())
            let planes = encoded.map(\.plane)
            let scores = try await engine.score(
                embeddings: planes.flatMap(\.embedding), logits: planes.flatMap(\.logits), count: planes.count)
            let builder = FindingBuilder(package: package, threshold: threshold)
            return .finding(try builder.finding(planned.slabs, planes, scores, series))
        }
    }

    /// The volume that looks like brain in the slabs measured so far.
    public func brainCheck() -> BrainCheck {
        let volume = zip(plan.slabs, plan.extents).reduce(0.0) { sum, slab in
            sum + (slabs[slab.0.key]?.measures?.brainArea ?? 0) * slab.1
        }
        return BrainCheck(brainMillilitres: volume / 1000)
    }

    /// The ends of the series that show as much brain as no end of a whole head does.
    private func endsWithinBrain() -> [SeriesEnd] {
        func area(_ slab: SlabPlan.Slab?) -> Double { slab.flatMap { slabs[$0.key]?.measures?.brainArea } ?? 0 }
        let planned = plan.slabs
        return SeriesEnd.allCases.filter { end in
            switch end {
            case .lower: area(planned.first) >= BrainCheck.cutBaseSquareMillimetres
            case .upper: area(planned.last) >= BrainCheck.cutTopSquareMillimetres
            }
        }
    }

    // MARK: Slices and slabs

    private func check(_ slice: StudySlice, _ plane: Plane) throws {
        let geometry = slice.geometry
        guard plane.rows == geometry.rows, plane.columns == geometry.columns else {
            throw ModelError(.slice, "the decoded image has another size than its header says")
        }
        if let other = slices.values.first(where: { $0.sopInstanceUID != slice.sopInstanceUID })?.geometry {
            guard other.rows == geometry.rows, other.columns == geometry.columns else {
                throw ModelError(.slice, "images of one series differ in size: analyse the largest group of equal size")
            }
        }
        guard slices.count < limits.slices || slices[slice.sopInstanceUID] != nil else {
            throw ModelError(.limit, "more than \(limits.slices) slices in a series")
        }
        let used = slabs.values.reduce(0) { $0 + $1.bytes }
        guard used + plane.values.count * MemoryLayout<Int32>.stride <= limits.pixelBytes else {
            throw ModelError(.limit, "a series with more than \(limits.pixelBytes) bytes of pixels")
        }
        guard slabs.count < limits.slabs || slabs[grid.key(of: slice)] != nil else {
            throw ModelError(.limit, "more than \(limits.slabs) slabs in a series")
        }
    }

    /// Drops the sum that a slice is in: it is made anew from the source of planes.
    private func forget(_ uid: UID) {
        for (key, slab) in slabs where slab.members[uid] != nil { slabs[key] = nil }
    }

    private var plan: SlabPlan {
        if let knownPlan { return knownPlan }
        let plan = SlabPlan(slices.values, grid: grid)
        knownPlan = plan
        return plan
    }

    /// Slabs keep their sum under another grid where they keep their members.
    private func regrid(isFinal: Bool) {
        knownPlan = nil
        let known = slices.values
        let spacing = isFinal ? SlabPlan.spacing(of: known) : SlabPlan.estimatedSpacing(of: known)
        let next = SlabPlan.Grid(spacing: spacing, thickness: package.slabThicknessMillimetres)
        guard next != grid else { return }
        grid = next
        var former: [Set<UID>: Slab] = [:]
        for slab in slabs.values { former[Set(slab.members.keys)] = slab }
        slabs = [:]
        for slab in plan.slabs {
            if let kept = former[Set(slab.members.map(\.sopInstanceUID))] { slabs[slab.key] = kept }
        }
    }

    /// Whether the sum of a slab holds its members, all of them, in their present version.
    private func isWhole(_ slab: SlabPlan.Slab) -> Bool {
        guard let state = slabs[slab.key], state.members.count == slab.members.count else { return false }
        return slab.members.allSatisfy { state.members[$0.sopInstanceUID] == $0.contentDigest }
    }

    /// Lays the final grid and sums again what does not fit it, until nothing more arrives meanwhile.
    private func rebuild() async throws {
        while true {
            regrid(isFinal: true)
            let broken = plan.slabs.filter { !isWhole($0) }
            guard plan.slabs.count <= limits.slabs else {
                throw ModelError(.limit, "more than \(limits.slabs) slabs in a series")
            }
            guard !broken.isEmpty else { break }
            for slab in broken { try await sumAgain(slab) }
        }
        await measure(plan.slabs)
    }

    private func sumAgain(_ slab: SlabPlan.Slab) async throws {
        var sum = Slab()
        revision += 1
        let revision = revision
        for start in stride(from: 0, to: slab.members.count, by: Self.mostRequested) {
            let wanted = slab.members[start..<min(start + Self.mostRequested, slab.members.count)]
            let planes = try await planeSource(wanted.map(\.sopInstanceUID))
            for slice in wanted {
                guard let plane = planes[slice.sopInstanceUID] else {
                    throw ModelError(.missingPlane, "a stored image could not be decoded again: see the decoder's log")
                }
                guard plane.rows == slice.geometry.rows, plane.columns == slice.geometry.columns else {
                    throw ModelError(.slice, "the decoded image has another size than its header says")
                }
                sum.add(slice, plane, revision: revision)
            }
        }
        slabs[slab.key] = sum
    }

    /// Looks for skull and brain where that has not been done; gives way between slabs.
    private func measure(_ slabs: [SlabPlan.Slab]) async {
        for slab in slabs {
            guard let state = self.slabs[slab.key], state.measures == nil, let geometry = slab.members.first?.geometry
            else {
                continue
            }
            let values = state.mean
            let skull = SkullBox.find(
                in: values, rows: geometry.rows, columns: geometry.columns, threshold: Float(package.boxThreshold))
            let area = BrainCheck.enclosedArea(
                values, rows: geometry.rows, columns: geometry.columns, pixelSpacing: geometry.pixelSpacingMillimetres)
            if self.slabs[slab.key]?.revision == state.revision {
                self.slabs[slab.key]?.set(Slab.Measures(skull: skull, brainArea: area))
            }
            await Task.yield()
        }
    }

    // MARK: Encoding

    /// From the slabs measured so far.
    private func currentBox() -> StudyBox {
        let geometry = slices.values.first?.geometry
        return StudyBox.of(
            slabs.values.compactMap { $0.measures?.skull }, rows: geometry?.rows ?? 1, columns: geometry?.columns ?? 1,
            margin: package.boxMargin)
    }

    @discardableResult
    private func encodeStale(_ phase: Phase) async throws -> Int {
        var count = 0
        while true {
            try Task.checkCancellation()
            // Slices may have come while the engine was busy.
            if plan.slabs.contains(where: { !isWhole($0) || slabs[$0.key]?.measures == nil }) { try await rebuild() }
            let box = currentBox()
            let stale = plan.slabs.filter { slabs[$0.key]?.encoding?.box != box }
            guard !stale.isEmpty else { return count }
            count += try await encode(stale, phase)
        }
    }

    /// One call for the first of the slabs.
    private func encode(_ wanted: [SlabPlan.Slab], _ phase: Phase) async throws -> Int {
        let box = currentBox()
        let batch = wanted.prefix(limits.batch)
        let revisions = batch.map { slabs[$0.key]?.revision }
        var planes: [Float] = []
        planes.reserveCapacity(batch.count * package.inputSize * package.inputSize)
        for slab in batch { planes += crop(slab, box) }
        let (started, clock) = (now(), ContinuousClock.now)
        let encoded = try await engine.encode(planes: planes, count: batch.count)
        record(
            EncoderCall(
                phase: phase, started: started, seconds: (ContinuousClock.now - clock) / .seconds(1),
                planeCount: batch.count))
        guard encoded.count == batch.count else {
            throw ModelError(.inference, "the engine answered for another number of planes")
        }
        for (index, slab) in batch.enumerated() where slabs[slab.key]?.revision == revisions[index] {
            slabs[slab.key]?.set(Slab.Encoding(box: box, plane: encoded[index]))
        }
        return batch.count
    }

    private func crop(_ slab: SlabPlan.Slab, _ box: StudyBox) -> [Float] {
        guard let state = slabs[slab.key], let geometry = slab.members.first?.geometry else { return [] }
        if resizer?.input != box.size { resizer = TriangleResize(from: box.size, to: package.inputSize) }
        return resizer?.resize(state.mean, rows: geometry.rows, columns: geometry.columns, box: box) ?? []
    }

    private func record(_ call: EncoderCall) {
        if calls.count == Self.mostCalls { calls.removeFirst() }
        calls.append(call)
    }
}
