import AlertDispatcher
import Foundation
import ICHModel
import Ledger
import Logging
import StoreSCP
import WorkerProtocol

/// Supplies the pixels of stored images: see `DecodeClient`.
protocol PlaneDecoder: Sendable {
    func planes(of frames: [FrameLocation]) async throws -> [FrameLocation: DecodeClient.Outcome]
}

extension DecodeClient: PlaneDecoder {}

/// Decodes and analyses one study, ahead of its completion where it can. One value for one study.
actor StudyAnalyzer {
    /// What came of it.
    struct Analysis: Sendable {
        var outcome: Outcome
        /// In words; for positive and negative studies empty.
        var reason: String
        var revisionDigest: String
        var verdicts: [SeriesVerdictEntry]
        var finding: Finding?
        /// What is kept of it; nil without a finding.
        var record: FindingRecord?
        /// nil where nothing is to be sent.
        var report: StudyReport?
        /// nil where none was analysed.
        var seriesInstanceUID: UID?
        /// What of the study it rests on: see `StudyAnalyzer.basis`.
        var basis: Set<String> = []
        /// Series that showed no brain before this one was chosen: see `SeriesSelection`.
        var brainless: [UID: Bool] = [:]
        /// Encoder calls, and how many of them had ended when the study was complete.
        var encoderCalls = 0
        var earlyEncoderCalls = 0
    }

    struct Tools: Sendable {
        var package: ModelPackage
        var engine: any InferenceEngine
        var decoder: any PlaneDecoder
        var rules = SelectionRules()
        var clock: WallClock
        var logger: Logger
    }

    /// Series encoded ahead at once while it is open which will be chosen.
    private static let mostCandidates = 2
    /// Series of no named region that are looked at after one that shows no brain.
    private static let mostBrainless = 4
    /// Files decoded between two encoder calls.
    private static let decodeBatch = 8

    private let tools: Tools
    private var known: [UID: StoredInstance] = [:]
    private var work: [UID: SeriesWork] = [:]
    /// From then on what arrives belongs to the next analysis.
    private var isConcluding = false

    /// A series on its way through decoder and encoder.
    private struct SeriesWork {
        let encoder: StudyEncoder
        /// What the encoder has taken, by SOP Instance UID.
        var fed: [UID: (path: String, digest: String)] = [:]
        /// What could not be decoded.
        var undecodable: Set<FrameLocation> = []
    }

    init(tools: Tools) { self.tools = tools }

    nonisolated var rules: SelectionRules { tools.rules }

    /// The images of a study, of several versions of one instance those of the newest whose file is there. A frame of a
    /// multi-frame instance is an image under a UID of its own, unless the study is too large to be analysed.
    static func newest(_ instances: [StoredInstance]) -> [UID: StoredInstance] {
        let newest = byUID(instances)
        guard newest.values.contains(where: { $0.record.multiFrame != nil }),
            SeriesSelection.imageCount(of: newest.values.lazy.map(\.record)) <= SeriesSelection.mostImages
        else { return newest }
        return byUID(newest.values.flatMap(\.images))
    }

    /// Files of the series that is chosen; of all series where none is. While they stay the same, another analysis says
    /// the same.
    static func basis(_ selection: SeriesSelection, _ known: [UID: StoredInstance]) -> Set<String> {
        var images = Array(known.values)
        if case .chosen(let uid) = selection.conclusion {
            images = selection.assessment(of: uid)?.instances.compactMap { known[$0] } ?? []
        }
        return Set(images.filter { !$0.isPurged }.map(\.path))
    }

    private static func byUID(_ instances: [StoredInstance]) -> [UID: StoredInstance] {
        Dictionary(instances.map { ($0.record.sopInstanceUID, $0) }) { first, second in
            if first.isPurged != second.isPurged { return first.isPurged ? second : first }
            return first.record.version < second.record.version ? second : first
        }
    }

    // MARK: Ahead of completion

    /// Decodes and encodes what has arrived of the series that may be chosen.
    func encodeAhead(_ instances: [StoredInstance]) async {
        guard !isConcluding else { return }
        for (uid, instance) in Self.newest(Array(known.values) + instances) { known[uid] = instance }
        let selection = SeriesSelection(known.values.map(\.record), rules: tools.rules)
        let candidates = Self.candidates(selection)
        for uid in work.keys where !candidates.contains(where: { $0.seriesInstanceUID == uid }) { work[uid] = nil }
        for series in candidates where !isConcluding {
            do { try await feed(series.instances, of: series.seriesInstanceUID) } catch {
                tools.logger.warning("encoding ahead failed, tried again later", metadata: ["error": "\(error)"])
            }
        }
    }

    /// Encodes again what the slices of the last moments have moved.
    func settle() async {
        for series in work.values {
            do { try await series.encoder.settle() } catch {
                tools.logger.debug("settling failed, done at completion", metadata: ["error": "\(error)"])
            }
        }
    }

    private static func candidates(_ selection: SeriesSelection) -> [SeriesSelection.Assessment] {
        if case .chosen(let uid) = selection.conclusion {
            return selection.series.filter { $0.seriesInstanceUID == uid }
        }
        return Array(selection.series.filter(\.mayBeChosen).prefix(mostCandidates))
    }

    /// Whether the encoder has the instance's present version, which has a path of its own.
    private func isFed(_ uid: UID, in series: UID) -> Bool {
        guard let path = known[uid]?.path else { return false }
        return work[series]?.fed[uid]?.path == path
    }

    /// Takes out of the encoder what is not of these, and what is of an earlier version: an encoder takes no image that
    /// differs in size from those it has.
    private func keep(only instances: [UID], of series: UID) async {
        let encoder = encoder(of: series)
        let wanted = Set(instances)
        let fed = work[series]?.fed ?? [:]
        let unwanted = fed.keys.filter { !wanted.contains($0) || !isFed($0, in: series) }
        await encoder.keep(only: wanted.subtracting(unwanted))
        for uid in unwanted { work[series]?.fed[uid] = nil }
    }

    private func feed(_ instances: [UID], of series: UID) async throws {
        await keep(only: instances, of: series)
        let encoder = encoder(of: series)
        let missing = instances.filter { uid in
            guard let location = known[uid]?.location, known[uid]?.isPurged == false else { return false }
            return !isFed(uid, in: series) && work[series]?.undecodable.contains(location) != true
        }
        for start in stride(from: 0, to: missing.count, by: Self.decodeBatch) {
            let batch = missing[start..<min(start + Self.decodeBatch, missing.count)].compactMap { known[$0] }
            let outcomes = try await tools.decoder.planes(of: batch.map(\.location))
            for instance in batch { try await take(instance, outcomes[instance.location], encoder, series) }
            try await encoder.encodePending()
        }
    }

    private func take(
        _ instance: StoredInstance, _ outcome: DecodeClient.Outcome?, _ encoder: StudyEncoder, _ series: UID
    ) async throws {
        let uid = instance.record.sopInstanceUID
        switch outcome {
        case .plane(let decoded):
            let plane = try Plane(rows: decoded.plane.rows, columns: decoded.plane.columns, values: decoded.hounsfield)
            let digest = decoded.plane.dataSetDigest
            try await encoder.add(StudySlice(instance.record, contentDigest: digest), plane: plane)
            work[series]?.fed[uid] = (instance.path, digest)
        case .failed(let reason):
            // An earlier version of it, if there was one, does not stand in for it.
            await encoder.remove(sopInstanceUID: uid)
            work[series]?.fed[uid] = nil
            work[series]?.undecodable.insert(instance.location)
            tools.logger.warning(
                "an image cannot be decoded",
                metadata: ["instance.uid": "\(instance.record.storedSOPInstanceUID)", "reason": "\(reason)"])
        case nil: throw WorkerError(.failed, "the decoder did not answer for an image")
        }
    }

    private func encoder(of series: UID) -> StudyEncoder {
        if let known = work[series] { return known.encoder }
        let decoder = tools.decoder
        let encoder = StudyEncoder(package: tools.package, engine: tools.engine, now: tools.clock.now) {
            [weak self] uids in
            let locations = await self?.locations(of: uids) ?? [:]
            let outcomes = try await decoder.planes(of: Array(locations.values))
            var planes: [UID: Plane] = [:]
            for (uid, location) in locations {
                if case .plane(let decoded) = outcomes[location] {
                    planes[uid] = try Plane(
                        rows: decoded.plane.rows, columns: decoded.plane.columns, values: decoded.hounsfield)
                }
            }
            return planes
        }
        work[series] = SeriesWork(encoder: encoder)
        return encoder
    }

    private func locations(of uids: [UID]) -> [UID: FrameLocation] {
        Dictionary(uids.compactMap { uid in known[uid].map { (uid, $0.location) } }) { first, _ in first }
    }

    // MARK: At completion

    /// Analyses the study as it stands.
    /// - Parameter isReleased: an operator let it through although its identity is in conflict.
    /// - Throws: what the inference engine throws; worth another try.
    func analyse(
        _ study: AssembledStudy, threshold: ModelPackage.Threshold, isReleased: Bool = false
    ) async throws -> Analysis {
        isConcluding = true
        let startedAt = tools.clock.now()
        known = Self.newest(study.instances)
        func draft(brainless: [UID: Bool] = [:]) -> AnalysisDraft {
            let selection = SeriesSelection(
                known.values.map(\.record), rules: tools.rules, settled: study.settledSeries, brainless: brainless)
            var draft = AnalysisDraft(
                study: study, known: known, selection: selection, threshold: threshold, startedAt: startedAt)
            draft.brainless = brainless
            return draft
        }
        var current = draft()
        if !isReleased,
            let conflict = IdentityConflict.find(in: study.instances.map(\.record), newest: known.values.map(\.record))
        {
            return current.held("\(IdentityConflict.reason): \(conflict)")
        }
        // Where no series is named, and the one that is chosen shows no brain, another may be the head.
        var brainless: [UID: Bool] = [:]
        var doubts: [String] = []
        while case .chosen(let uid) = current.selection.conclusion,
            let series = current.selection.assessment(of: uid)
        {
            current.defects += unsettled(uid, of: study).map(\.description)
            if let analysis = try await analyse(series, as: &current) { return analysis }
            guard series.region == .unspecified, brainless.count < Self.mostBrainless else {
                return current.refused(.notAnalysable(.noBrainTissue))
            }
            brainless[uid] = current.defects.isEmpty
            work[uid] = nil
            doubts += current.defects
            let next = draft(brainless: brainless)
            guard case .chosen = next.selection.conclusion else {
                current.defects = doubts
                return current.refused(next.selection.conclusion)
            }
            current = next
        }
        return current.refused(current.selection.conclusion)
    }

    /// What keeps a series from being complete that the study's decision is not about: it shows no brain, or by now it
    /// is another that is chosen. What was removed the draft says itself.
    private func unsettled(_ series: UID, of study: AssembledStudy) -> [CompletionReason] {
        guard series != study.decidedSeries else { return [] }
        let evidence = HeaderEvidence(rules: tools.rules).find(study.instances, settled: series)
        let missing = evidence.missing.filter { !$0.isPurged }
        guard case .complete(let rule, _) = study.decision, !evidence.isAsDeclared else { return missing }
        switch rule {
        // With a count of the other neither the end of associations was waited for nor what was lost on the way.
        case .declared, .held: return missing + evidence.doubts + [.countOfAnother]
        case .grace: return missing + evidence.doubts
        case .quiet, .deadline, .forced: return missing
        }
    }

    /// - Returns: nil where the series shows no brain.
    private func analyse(
        _ series: SeriesSelection.Assessment, as draft: inout AnalysisDraft
    ) async throws -> Analysis? {
        let uid = series.seriesInstanceUID
        try await feed(series.instances, of: uid)
        draft.analysed = series.instances.filter { isFed($0, in: uid) }
        draft.digests = work[uid]?.fed.mapValues(\.digest) ?? [:]
        let unreadable = series.instances.count { known[$0]?.isPurged == false } - draft.analysed.count
        if unreadable > 0 { draft.defects.append("\(unreadable) images cannot be decoded") }
        guard !draft.analysed.isEmpty else { return draft.undetermined("no image of the series can be decoded") }
        let encoder = encoder(of: uid)
        await keep(only: draft.analysed, of: uid)
        guard await encoder.progress.slices == draft.analysed.count else {
            // The next try decodes them all again.
            work[uid]?.fed = [:]
            throw ModelError(.missingPlane, "the encoder holds other slices than the series")
        }
        let before = await encoder.calls
        let outcome = try await encoder.finish(threshold: draft.threshold)
        let calls = await encoder.calls
        draft.encoderCalls = (calls.count, before.count)
        switch outcome {
        case .noBrainTissue: return nil
        case .finding(let finding): return draft.concluded(finding, flagged: try await flaggedSlices(of: finding))
        }
    }

    /// After an analysis that did not count: what arrives is encoded ahead again.
    func goOn() { isConcluding = false }

    /// What the captures of flagged slices show.
    private func flaggedSlices(of finding: Finding) async throws -> [StudyReport.Flagged] {
        let flagged = finding.flaggedSlices
        let outcomes = try await tools.decoder.planes(of: flagged.compactMap { known[$0.representative]?.location })
        return try flagged.compactMap { slice in
            guard let instance = known[slice.representative] else { return nil }
            var picture: HeatmapSlice?
            if case .plane(let plane) = outcomes[instance.location], let map = slice.lesionMap,
                plane.plane.rows == finding.rows, plane.plane.columns == finding.columns
            {
                picture = HeatmapSlice(
                    rows: plane.plane.rows, columns: plane.plane.columns, hounsfield: plane.hounsfield,
                    activation: try finding.heatmapGeometry.upsample(map), probability: slice.probability,
                    instanceNumber: instance.record.image.instanceNumber ?? 0)
            } else {
                tools.logger.error("a flagged image cannot be decoded again: reported without its picture")
            }
            return StudyReport.Flagged(
                instance: instance, probability: slice.probability, attention: slice.attention, slice: picture)
        }
    }
}

/// One Study Instance UID with two patients.
enum IdentityConflict {
    static let reason = StudyEntry.heldReason

    /// - Parameters:
    ///   - records: all versions.
    ///   - newest: of each instance the version that counts: a corrected Patient ID ends the conflict.
    static func find(in records: [InstanceRecord], newest: [InstanceRecord]) -> String? {
        let patients = Set(newest.compactMap { $0.patient.id }.filter { !$0.isEmpty })
        if patients.count > 1 { return "\(patients.count) patients under one Study Instance UID" }
        let series = Dictionary(grouping: records, by: \.sopInstanceUID).values
            .contains { Set($0.map(\.seriesInstanceUID)).count > 1 }
        return series ? "one SOP Instance UID in two series" : nil
    }
}
