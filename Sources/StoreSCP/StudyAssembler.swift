public import Foundation
public import Ledger
public import Logging
public import ServiceLifecycle
public import WorkerProtocol

/// A study that may be analysed now.
public struct AssembledStudy: Sendable {
    public var studyInstanceUID: UID
    public var instances: [StoredInstance]
    /// Decides the route.
    public var origin: StudyOrigin
    public var decision: CompletionPolicy.Decision
    public var lastArrival: Date
    /// When the last association ended that brought instances; nil where one stayed open.
    public var associationsEnded: Date?
    /// The series that an earlier analysis settled; no other takes its place.
    public var settledSeries: UID?
    /// The series that the decision is about; nil where there was none, or it is not known.
    public var decidedSeries: UID?
    /// An operator wants it analysed again, whether something changed or not.
    public var isReprocessed: Bool

    public init(
        studyInstanceUID: UID, instances: [StoredInstance], origin: StudyOrigin,
        decision: CompletionPolicy.Decision, lastArrival: Date, associationsEnded: Date? = nil,
        settledSeries: UID? = nil, decidedSeries: UID? = nil, isReprocessed: Bool = false
    ) {
        self.studyInstanceUID = studyInstanceUID
        self.instances = instances
        self.origin = origin
        self.decision = decision
        self.lastArrival = lastArrival
        self.associationsEnded = associationsEnded
        self.settledSeries = settledSeries
        self.decidedSeries = decidedSeries
        self.isReprocessed = isReprocessed
    }
}

/// How an association ended, as far as it says something of what is still to come.
enum AssociationConclusion: Sendable, Equatable {
    case released
    /// Aborted, cut or silent for too long, between two objects.
    case brokeOff
    /// An image may have been under way, of which nothing is known.
    case imageLost
}

/// What the assembler tells the pipeline.
public enum AssemblyEvent: Sendable {
    /// An instance arrived; it may be decoded and encoded ahead.
    case arrived(StoredInstance)
    /// Complete, or given up waiting.
    case assembled(AssembledStudy)
}

/// Puts instances together by Study Instance UID, across associations, and says when a study is complete.
public actor StudyAssembler: Service {
    /// What the headers say of the series that would be analysed. Pure; supplied by who knows about series.
    public typealias FindEvidence = @Sendable (_ instances: [StoredInstance], _ settled: UID?) -> SeriesEvidence

    /// Asks a PACS how many images of each series of a study it holds; nil where there is nobody to ask.
    public typealias AskCounts =
        @Sendable (_ study: UID, _ origin: StudyOrigin) async throws -> [UID: Int]?

    /// Has a PACS send a series to the node, and says what came of it.
    public typealias RetrieveSeries = @Sendable (_ series: UID, _ study: UID) async throws -> String

    /// By whom what a sender sent is asked for; nil where there is nobody to ask.
    public typealias FindRetrieval = @Sendable (_ origin: StudyOrigin) -> RetrieveSeries?

    private struct Study {
        private(set) var instances: [StoredInstance] = []
        private var paths: Set<String> = []
        var lastArrival = Date.distantPast
        /// Addresses that instances came from.
        var peers: Set<String> = []
        /// When the last association ended that brought instances, or might have.
        var lastEnd: Date?
        /// The association that brought the latest instances broke off: the sender will try again, so that its end says
        /// nothing.
        var brokeOff = false
        /// Images that did not arrive or were refused, by SOP Instance UID; until they come.
        private(set) var lost: Set<UID> = []
        /// When an association lost an image of which nothing is known; until another brings one.
        var imageLost: Date?
        var forced = false
        var isReprocessed = false
        /// See `AssembledStudy`.
        var settledSeries: UID?
        /// What an analysis of the same instances saw in their pixels.
        var pixelDoubts: [CompletionReason] = []
        /// When the latest association of each peer ended that brought instances.
        var ends: [String: Date] = [:]
        /// Known so far; found anew when instances came.
        var evidence: SeriesEvidence?
        var held: CompletionPolicy.HeldCount?
        /// A question is under way, or nobody is there to ask.
        var mayAsk = true
        var retrievals: CompletionPolicy.Retrievals?

        init(instances: [StoredInstance], settledSeries: UID?) {
            self.instances = instances
            self.settledSeries = settledSeries
            paths = Set(instances.map(\.path))
        }

        var origin: StudyOrigin { StudyOrigin(instances.lazy.map(\.record)) }

        var lacksImages: Bool { imageLost != nil || !lost.isEmpty }

        /// - Parameter images: by SOP Instance UID; what is here none the less is not lost.
        mutating func lose(_ images: Set<UID>) {
            let here = instances.lazy.filter { !$0.isPurged }.map(\.record.sopInstanceUID).filter(images.contains)
            lost.formUnion(images.subtracting(here))
            evidence = nil
        }

        mutating func loseImage(at now: Date) {
            imageLost = now
            evidence = nil
        }

        mutating func changeMoments(_ change: (Date) -> Date) {
            lastArrival = change(lastArrival)
            lastEnd = lastEnd.map(change)
            imageLost = imageLost.map(change)
            ends = ends.mapValues(change)
            held = held.map { .init(images: $0.images, since: change($0.since), latest: change($0.latest)) }
            retrievals = retrievals.map { .init(count: $0.count, lastArrival: change($0.lastArrival)) }
        }

        mutating func take(_ instance: StoredInstance, from peer: String?) {
            if paths.insert(instance.path).inserted {
                instances.append(instance)
            } else if let index = instances.firstIndex(where: { $0.path == instance.path }) {
                // Purged, and sent again.
                instances[index] = instance
            }
            lost.remove(instance.record.sopInstanceUID)
            pixelDoubts = []
            lastArrival = max(lastArrival, instance.receivedAt)
            brokeOff = false
            mayAsk = true
            evidence = nil
            held = nil
            if let peer { peers.insert(peer) }
        }
    }

    private struct Association {
        var peer: String
        var openedAt: Date
        var studies: Set<UID> = []
        /// An image was refused, and nobody knows of which study.
        var hasLost = false

        mutating func moveOpening(by step: TimeInterval, atMost now: Date) { openedAt = min(openedAt + step, now) }
    }

    private let currentPolicy: @Sendable () -> CompletionPolicy
    /// As of now: it may change.
    private var policy: CompletionPolicy { currentPolicy() }
    private let ledger: any Ledger
    private let clock: WallClock
    private var clockSteps: ClockSteps
    private let findEvidence: FindEvidence
    private let askCounts: AskCounts
    private let findRetrieval: FindRetrieval
    private let logger: Logger
    private var open: [String: Association] = [:]
    private var studies: [UID: Study] = [:]
    private var gaps: [String: AssociationGaps] = [:]
    private var unsavedGaps: Set<String> = []
    private var gapsSaved = Date.distantPast
    /// Counts `reconsider`: what was asked before it is no answer after it.
    private var generation = 0
    /// Studies that images are being sent of.
    private var retrieving: Set<UID> = []
    private let emit: AsyncStream<AssemblyEvent>.Continuation
    public nonisolated let events: AsyncStream<AssemblyEvent>
    public nonisolated let pulse = Pulse()

    /// Peers whose gaps are remembered at most: any address may send.
    private static let mostPeers = 1024
    /// Studies for which a PACS is asked to send images at once.
    static let mostRetrieving = 4
    /// Seconds between two transactions for what was learned of peers.
    private static let savePause = 10.0
    /// No other evidence completes a study sooner.
    private static let mostFavourable = SeriesEvidence(isAsDeclared: true)
    /// How often decisions are looked at.
    private static let tick: Duration = .milliseconds(50)
    /// Seconds. More than the clocks differ by that are compared, and little of what studies wait.
    private static let leastStep: TimeInterval = 3

    public init(
        policy: @escaping @autoclosure @Sendable () -> CompletionPolicy, ledger: any Ledger, clock: WallClock,
        logger: Logger, evidence findEvidence: @escaping FindEvidence,
        counts askCounts: @escaping AskCounts = { _, _ in nil },
        retrieval findRetrieval: @escaping FindRetrieval = { _ in nil }
    ) {
        currentPolicy = policy
        self.ledger = ledger
        self.clock = clock
        clockSteps = ClockSteps(clock, least: Self.leastStep)
        self.logger = logger
        self.findEvidence = findEvidence
        self.askCounts = askCounts
        self.findRetrieval = findRetrieval
        (events, emit) = AsyncStream.makeStream()
    }

    public func run() async throws {
        defer { emit.finish() }
        await cancelWhenGracefulShutdown { [self] in
            while !Task.isCancelled {
                await decide()
                await saveGaps()
                pulse.beat()
                do { try await clock.sleep(Self.tick) } catch { return }
            }
        }
    }

    /// Takes up a study that an earlier run left without an outcome. Its associations are gone.
    /// - Parameters:
    ///   - wasAssembled: it was complete then; otherwise its sender may have been cut off, and has the quiet time to
    ///     come again.
    ///   - lost: images of it that did not arrive.
    ///   - isReprocessed: see `AssembledStudy`.
    public func resume(
        _ uid: UID, instances: [StoredInstance], settledSeries: UID? = nil, wasAssembled: Bool,
        lost: LostImages = LostImages(), isReprocessed: Bool = false
    ) {
        guard !instances.isEmpty else { return }
        var study = Study(instances: instances, settledSeries: settledSeries)
        study.lose(lost.known)
        if lost.hasOthers { study.imageLost = clock.now() }
        study.lastArrival = wasAssembled ? instances.map(\.receivedAt).max() ?? clock.now() : clock.now()
        study.lastEnd = clock.now()
        study.brokeOff = !wasAssembled
        study.isReprocessed = isReprocessed
        studies[uid] = study
        for instance in instances where !instance.isPurged { emit.yield(.arrived(instance)) }
    }

    /// Rules, routes or peers have changed: what was found out by the earlier ones is found out anew.
    public func reconsider() {
        generation += 1
        for uid in studies.keys {
            studies[uid]?.evidence = nil
            studies[uid]?.held = nil
        }
        askAgain()
    }

    /// How peers are reached has changed: whoever did not answer may now.
    public func askAgain() {
        for uid in studies.keys where studies[uid]?.held == nil { studies[uid]?.mayAsk = true }
    }

    /// An operator says that nothing more will come.
    /// - Returns: false where no such study waits.
    public func force(_ uid: UID) -> Bool {
        guard studies[uid] != nil else { return false }
        studies[uid]?.forced = true
        return true
    }

    /// An operator wants a study analysed now, whether something arrived or not.
    /// - Returns: false where the node holds nothing of it.
    public func reprocess(_ uid: UID) async -> Bool {
        if studies[uid] == nil {
            let study = await load(uid)
            guard !study.instances.isEmpty else { return false }
            if studies[uid] == nil {
                studies[uid] = study
                studies[uid]?.lastArrival = clock.now()
            }
        }
        studies[uid]?.forced = true
        studies[uid]?.isReprocessed = true
        return true
    }

    /// The analysis of a study saw in its pixels why it may be less than all: it waits for more, or for what settles
    /// that.
    public func holdBack(_ assembled: AssembledStudy, because doubts: [CompletionReason]) async {
        let uid = assembled.studyInstanceUID
        // What has arrived meanwhile is judged with all the rest.
        guard studies[uid] == nil else { return }
        // And may have been assembled too, for an analysis that is to come.
        var study = await load(uid)
        guard studies[uid] == nil, !study.instances.isEmpty else { return }
        if study.instances.count == assembled.instances.count {
            study.pixelDoubts = doubts
            study.lastArrival = assembled.lastArrival
        } else {
            study.lastArrival = clock.now()
        }
        study.lastEnd = assembled.associationsEnded
        study.isReprocessed = assembled.isReprocessed
        studies[uid] = study
    }

    /// An analysis of a study has ended while more of it may have come: what comes is judged by what it settled.
    /// - Parameter series: see `AssembledStudy`.
    public func concluded(_ uid: UID, settling series: UID?) {
        guard studies[uid] != nil else { return }
        studies[uid]?.settledSeries = series
        studies[uid]?.evidence = nil
    }

    /// What `waiting` says while images come: what their headers say changes with each, and receiving goes first.
    public static let arriving = "images are arriving"
    private static let arrivalPause: TimeInterval = 0.5

    /// What a study waits for, for operators; nil where it does not.
    public func waiting(_ uid: UID) -> String? {
        guard let study = studies[uid] else { return nil }
        guard study.evidence != nil || clock.now().timeIntervalSince(study.lastArrival) >= Self.arrivalPause else {
            return Self.arriving
        }
        let series = study.evidence ?? find(study)
        studies[uid]?.evidence = series
        let evidence = evidence(study, uid, series: series)
        guard case .wait(let until) = policy.decide(evidence, at: clock.now()) else { return nil }
        let reasons = (evidence.series.missing + evidence.series.doubts).map(\.description)
        let why =
            !reasons.isEmpty
            ? reasons.joined(separator: ", ") : evidence.associationsEnded == nil ? "an association is open" : "grace"
        return "waits until \(Int(max(0, until.timeIntervalSince(clock.now())).rounded(.up))) s from now: \(why)"
    }

    func opened(_ id: String, peer: String, at now: Date) {
        open[id] = Association(peer: peer, openedAt: now)
    }

    /// - Parameter pulse: of whoever waits for it: beats while the ledger is tried.
    func arrived(_ instance: StoredInstance, association id: String, beating pulse: Pulse? = nil) async {
        let uid = instance.record.studyInstanceUID
        if studies[uid] == nil {
            let loaded = await load(uid, beating: pulse)
            // An operator may have had it loaded meanwhile.
            if studies[uid] == nil { studies[uid] = loaded }
        }
        // In place: a perfusion study has ten thousand instances.
        studies[uid]?.take(instance, from: open[id]?.peer)
        if open[id]?.studies.insert(uid).inserted == true { learnGap(uid, association: id) }
        if let lost = studies[uid]?.imageLost, let association = open[id], association.openedAt >= lost {
            studies[uid]?.imageLost = nil
            do { try await ledger.forgetLostImages(ofStudy: uid) } catch {
                logger.error("a restart takes an image for lost that came", metadata: ["error": "\(error)"])
            }
        }
        emit.yield(.arrived(instance))
    }

    /// An association brings the first instance of a study that an earlier one of the same peer has brought others of.
    private func learnGap(_ uid: UID, association id: String) {
        guard let association = open[id], let end = studies[uid]?.ends[association.peer] else { return }
        // Later than that it is another delivery, not the next association of one.
        let gap = association.openedAt.timeIntervalSince(end)
        guard gap >= 0, gap <= policy.quietTime.inSeconds else { return }
        if gaps[association.peer] == nil && gaps.count >= Self.mostPeers { gaps.removeAll() }
        gaps[association.peer, default: AssociationGaps()].add(gap)
        unsavedGaps.insert(association.peer)
    }

    /// What earlier runs learned of the peers.
    public func recallGaps() async throws {
        for (peer, learned) in try await ledger.associationGaps().prefix(Self.mostPeers) {
            for gap in learned { gaps[peer, default: AssociationGaps()].add(gap) }
        }
    }

    private func saveGaps() async {
        guard !unsavedGaps.isEmpty, clock.now().timeIntervalSince(gapsSaved) >= Self.savePause else { return }
        gapsSaved = clock.now()
        for peer in unsavedGaps {
            do { try await ledger.recordAssociationGaps(gaps[peer]?.gaps ?? [], ofPeer: peer) } catch {
                // Learned again, or written with the next.
                return logger.warning("a peer's pauses cannot be recorded", metadata: ["error": "\(error)"])
            }
            unsavedGaps.remove(peer)
        }
    }

    /// The longest of its peers' gaps.
    private func associationGap(_ study: Study) -> Duration? {
        study.peers.compactMap { gaps[$0]?.percentile99 }.max().map { .seconds($0) }
    }

    /// Instances of a study that the node knew already come back with it.
    private func load(_ uid: UID, beating waiting: Pulse? = nil) async -> Study {
        while true {
            do {
                var study = Study(
                    instances: try await ledger.instances(ofStudy: uid),
                    settledSeries: try await ledger.history(ofStudy: uid).settledSeries)
                let lost = try await ledger.lostImages(ofStudy: uid)
                study.lose(lost.known)
                // Before whatever brings an image now.
                if lost.hasOthers { study.imageLost = .distantPast }
                return study
            } catch {
                // Without them the latest instances would be judged as if they were all.
                logger.error("cannot read a study back from the ledger, tried again", metadata: ["error": "\(error)"])
                // Where it is this study alone nothing else goes on behind it: then the watchdog has to see that.
                if (try? await ledger.backlog()) == nil { waiting?.beat() }
                do { try await clock.sleep(.seconds(1)) } catch {
                    return Study(instances: [], settledSeries: nil)
                }
            }
        }
    }

    /// An image did not arrive, or was refused: its study lacks it until it comes.
    /// - Parameter isNew: whether the ledger has learnt of it just now; nil where it takes nothing.
    func lost(_ object: LostObject, association id: String, at now: Date, isNew: Bool?) async {
        guard let uid = object.studyInstanceUID, let instance = object.sopInstanceUID else {
            open[id]?.hasLost = true
            return
        }
        studies[uid]?.lose([instance])
        guard studies[uid] == nil else { return }
        guard let isNew else {
            open[id]?.hasLost = true
            return
        }
        // Who tries again and again opens nothing again.
        guard isNew else { return }
        // Of what is assembled, and may have been reported, less is there than it seemed.
        var study = await load(uid)
        guard studies[uid] == nil, study.lacksImages, !study.instances.isEmpty else { return }
        (study.lastArrival, study.lastEnd) = (now, now)
        studies[uid] = study
    }

    func ended(_ id: String, at now: Date, _ conclusion: AssociationConclusion = .released) async {
        guard let association = open.removeValue(forKey: id) else { return }
        for uid in association.studies { studies[uid]?.ends[association.peer] = now }
        let hasLost = conclusion == .imageLost || association.hasLost
        for (uid, study) in studies where Self.mayBring(association, study, uid) {
            // One that has brought nothing says nothing, unless it lost an image.
            let isProper = association.studies.isEmpty ? !hasLost : conclusion != .brokeOff
            if !isProper { studies[uid]?.brokeOff = true }
            if isProper || !association.studies.isEmpty { studies[uid]?.lastEnd = now }
        }
        guard hasLost else { return }
        for uid in association.studies { studies[uid]?.loseImage(at: now) }
        do { _ = try await ledger.recordLostImages(association.studies.map { ($0, nil) }) } catch {
            logger.error("a lost image is not recorded: a restart forgets it", metadata: ["error": "\(error)"])
        }
    }

    /// Whether an association brought instances of the study, or is of the same peer and has brought nothing yet.
    private static func mayBring(_ association: Association, _ study: Study, _ uid: UID) -> Bool {
        association.studies.contains(uid)
            || (association.studies.isEmpty && study.peers.contains(association.peer))
    }

    /// When the associations ended that could bring more; nil while one may, or broke off.
    private func associationsEnded(_ study: Study, _ uid: UID) -> Date? {
        if study.brokeOff || open.values.contains(where: { Self.mayBring($0, study, uid) }) { return nil }
        return study.lastEnd ?? study.lastArrival
    }

    /// What waits is to wait as long as it would have if nobody had set the clock, and never for a moment that has yet
    /// to come: of a study that is known from the ledger too.
    /// - Returns: what the clock says.
    private func followClock() -> Date {
        let (now, step) = clockSteps.take()
        if step != 0 {
            logger.warning("the clock was set; studies wait on", metadata: ["seconds": "\(Int(step))"])
        }
        // In place: a copy of all studies at each tick is dear.
        for uid in Array(studies.keys) { studies[uid]?.changeMoments { min($0 + step, now) } }
        for id in Array(open.keys) { open[id]?.moveOpening(by: step, atMost: now) }
        return now
    }

    private func decide() async {
        let (now, policy) = (followClock(), policy)
        for (uid, study) in studies {
            var evidence = evidence(study, uid, series: study.evidence ?? Self.mostFavourable)
            // Headers are looked at only when nothing else keeps it waiting.
            if study.evidence == nil, case .wait = policy.decide(evidence, at: now) { continue }
            evidence.series = study.evidence ?? find(study)
            studies[uid]?.evidence = evidence.series
            let decision = policy.decide(evidence, at: now)
            guard case .wait = decision else {
                conclude(uid, study, decision, about: evidence.series.seriesInstanceUID)
                continue
            }
            if study.mayAsk, let question = policy.nextQuestion(evidence), question <= now { ask(uid, study) }
            if let retrieval = policy.nextRetrieval(evidence), retrieval <= now,
                let series = evidence.series.seriesInstanceUID
            {
                retrieve(series, uid, study)
            }
        }
    }

    private func evidence(_ study: Study, _ uid: UID, series: SeriesEvidence) -> CompletionPolicy.Evidence {
        CompletionPolicy.Evidence(
            lastArrival: study.lastArrival, associationsEnded: associationsEnded(study, uid),
            associationGap: associationGap(study), series: series, held: study.held, retrievals: study.retrievals,
            forced: study.forced)
    }

    private func find(_ study: Study) -> SeriesEvidence {
        var series = findEvidence(study.instances, study.settledSeries)
        series.doubts += study.pixelDoubts
        // Where nothing can be analysed yet there is a reason to wait in any case.
        if study.lacksImages, series.seriesInstanceUID != nil { series.missing.append(.imageLost) }
        return series
    }

    private func ask(_ uid: UID, _ study: Study) {
        studies[uid]?.mayAsk = false
        let (origin, asked) = (study.origin, generation)
        Task {
            do {
                guard let counts = try await askCounts(uid, origin), asked == generation else { return }
                answered(uid, counts, about: study.lastArrival)
            } catch {
                logger.warning(
                    "the PACS was asked for its counts and did not answer",
                    metadata: ["study.uid": "\(uid)", "error": "\(error)"])
                // Time decides then, as where there is nobody to ask; asked again when more has come.
            }
        }
    }

    /// - Parameter lastArrival: when it was asked. What came meanwhile may be in the answer or not.
    private func answered(_ uid: UID, _ counts: [UID: Int], about lastArrival: Date) {
        guard let study = studies[uid] else { return }
        studies[uid]?.mayAsk = true
        guard study.lastArrival == lastArrival, let series = study.evidence?.seriesInstanceUID else { return }
        let (images, now) = (counts[series] ?? 0, clock.now())
        studies[uid]?.held =
            study.held?.adding(images, at: now) ?? CompletionPolicy.HeldCount(images: images, since: now, latest: now)
    }

    /// What is sent arrives over an association like anything else.
    private func retrieve(_ series: UID, _ uid: UID, _ study: Study) {
        guard !retrieving.contains(uid), retrieving.count < Self.mostRetrieving else { return }
        guard let retrieveSeries = findRetrieval(study.origin) else { return }
        retrieving.insert(uid)
        studies[uid]?.retrievals = .init(count: (study.retrievals?.count ?? 0) + 1, lastArrival: study.lastArrival)
        // An association that is asked for tells nothing of its peer's pauses.
        studies[uid]?.ends = [:]
        Task {
            defer { retrieving.remove(uid) }
            let text: String
            do { text = try await retrieveSeries(series, uid) } catch {
                text = (error as? WorkerError)?.reason ?? "\(error)"
                logger.warning("missing images did not come", metadata: ["study.uid": "\(uid)", "error": "\(text)"])
            }
            do { try await ledger.recordEvent("retrieve", text, ofStudy: uid) } catch {
                logger.error("a study's event is not recorded", metadata: ["study.uid": "\(uid)", "error": "\(error)"])
            }
        }
    }

    private func conclude(
        _ uid: UID, _ study: Study, _ decision: CompletionPolicy.Decision, about series: UID?
    ) {
        studies[uid] = nil
        for id in open.keys { open[id]?.studies.remove(uid) }
        logger.notice(
            "study assembled",
            metadata: ["study.uid": "\(uid)", "instances": "\(study.instances.count)", "decision": "\(decision)"])
        emit.yield(
            .assembled(
                AssembledStudy(
                    studyInstanceUID: uid, instances: study.instances, origin: study.origin, decision: decision,
                    lastArrival: study.lastArrival,
                    associationsEnded: associationsEnded(study, uid), settledSeries: study.settledSeries,
                    decidedSeries: series, isReprocessed: study.isReprocessed)))
    }
}

/// The pauses of a peer between two associations for one study.
struct AssociationGaps {
    /// The latest so many count.
    static let most = 256
    /// With fewer nothing is known: a slice that came late once makes no peer that sends each image for itself.
    static let least = 8
    /// Seconds, oldest first.
    private(set) var gaps: [Double] = []
    /// What 99 of 100 stay below; nil where none is known.
    private(set) var percentile99: Double?

    mutating func add(_ gap: Double) {
        if gaps.count == Self.most { gaps.removeFirst() }
        gaps.append(gap)
        guard gaps.count >= Self.least else { return }
        let sorted = gaps.sorted()
        percentile99 = sorted[Int((Double(sorted.count - 1) * 0.99).rounded(.up))]
    }
}
