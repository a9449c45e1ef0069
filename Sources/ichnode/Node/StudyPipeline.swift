import AlertDispatcher
import Foundation
import ICHModel
import Ledger
import Logging
import Metrics
import ServiceLifecycle
import StoreSCP
import WorkerProtocol

/// From assembled studies to recorded results: encodes ahead, analyses, composes, and hands over to the outbox.
actor StudyPipeline: Service {
    /// Studies that are encoded ahead at once; further ones are decoded when they are complete.
    private static let mostAhead = 8
    /// All series of a study are judged anew with every batch of arrivals: not with every image.
    private static let batchPause: Duration = .milliseconds(200)
    /// After this long without an arrival the crop is settled.
    private static let settleAfter: Duration = .milliseconds(300)
    /// Tries of an analysis before the study is given up as *not analysed*, and the pauses between them.
    private static let retryPauses: [Duration] = [.seconds(1), .seconds(10)]
    /// Longest pause between tries to record a result: a full disk takes an operator a while.
    private static let mostPause: Duration = .seconds(300)

    /// Begun analyses of one study that never ended, after which its pixels are left alone.
    private static let mostBegun = 5
    /// Analyses of one study abandoned in a row because more had arrived: the next one is reported all the same.
    private static let mostOvertaken = 3

    private let turn = AsyncLock()
    private let tools: StudyAnalyzer.Tools
    private let assembler: StudyAssembler
    private let ledger: any Ledger
    private let composer: ReportComposer
    private let currentTerms: @Sendable () -> Terms
    private let findings: FindingFiles
    private var analyzers: [UID: StudyAnalyzer] = [:]
    private var arrived: [UID: [StoredInstance]] = [:]
    private var working: Set<UID> = []
    private var concluding: Set<UID> = []
    /// Assembled, and not begun.
    private var next: [UID: AssembledStudy] = [:]
    /// Analyses abandoned in a row.
    private var overtaken: [UID: Int] = [:]
    private let concluded = Dictionary(
        uniqueKeysWithValues: Outcome.allCases.map {
            ($0, Counter(label: "ichnode_studies_total", dimensions: [("outcome", $0.rawValue)]))
        })
    private let timeToComplete = Timer(label: "ichnode_time_to_complete_seconds")
    private let timeToReport = Timer(label: "ichnode_time_to_report_seconds")

    /// By what a study is judged and reported. One analysis is made on the same from its beginning to its end.
    struct Terms: Sendable {
        var rules: SelectionRules
        var routes: RouteTable
        var alerts: AlertDesk
    }

    /// - Parameter terms: asked for at each analysis: they may change.
    init(
        tools: StudyAnalyzer.Tools, assembler: StudyAssembler, ledger: any Ledger, composer: ReportComposer,
        terms: @escaping @autoclosure @Sendable () -> Terms, findings: FindingFiles
    ) {
        self.tools = tools
        self.assembler = assembler
        self.ledger = ledger
        self.composer = composer
        currentTerms = terms
        self.findings = findings
    }

    func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            await withDiscardingTaskGroup { group in
                for await event in assembler.events {
                    switch event {
                    case .arrived(let instance):
                        if let uid = await noteArrival(instance) { group.addTask { await self.workAhead(uid) } }
                    case .assembled(let study): group.addTask { await self.conclude(study) }
                    }
                }
            }
        }
    }

    /// Shows that it is not held up.
    func answer() {}

    // MARK: Ahead of completion

    private func analyzer(by rules: SelectionRules) -> StudyAnalyzer {
        var tools = tools
        tools.rules = rules
        return StudyAnalyzer(tools: tools)
    }

    /// - Returns: the study, where nobody works ahead for it yet.
    private func noteArrival(_ instance: StoredInstance) -> UID? {
        let uid = instance.record.studyInstanceUID
        if analyzers[uid] == nil {
            guard analyzers.count < Self.mostAhead else { return nil }
            analyzers[uid] = analyzer(by: currentTerms().rules)
        }
        arrived[uid, default: []].append(instance)
        return working.insert(uid).inserted ? uid : nil
    }

    /// Takes what has arrived, again and again, until nothing more comes for a while.
    private func workAhead(_ uid: UID) async {
        defer { working.remove(uid) }
        guard let analyzer = analyzers[uid] else { return }
        while !Task.isCancelled && analyzers[uid] === analyzer {
            do {
                while let batch = arrived.removeValue(forKey: uid) {
                    await analyzer.encodeAhead(batch)
                    try await tools.clock.sleep(Self.batchPause)
                }
                try await tools.clock.sleep(Self.settleAfter)
            } catch { return }
            guard arrived[uid] == nil else { continue }
            await analyzer.settle()
            if arrived[uid] == nil { return }
        }
    }

    // MARK: At completion

    /// One analysis of a study at a time: what is assembled meanwhile holds all that the earlier one did, and follows
    /// it.
    private func conclude(_ study: AssembledStudy) async {
        let uid = study.studyInstanceUID
        // What is analysed again has waited for an operator.
        if !study.isReprocessed { timeToComplete.recordInterval(since: study.lastArrival, to: tools.clock.now()) }
        let isReprocessed = study.isReprocessed || next[uid]?.isReprocessed == true
        next[uid] = study
        next[uid]?.isReprocessed = isReprocessed
        guard concluding.insert(uid).inserted else { return }
        while let study = next.removeValue(forKey: uid) { await concludeOne(study) }
        concluding.remove(uid)
    }

    private func concludeOne(_ study: AssembledStudy) async {
        let uid = study.studyInstanceUID
        let ahead = analyzers.removeValue(forKey: uid)
        arrived[uid] = nil
        var pause: Duration = .seconds(1)
        var begun: Int?
        while true {
            do {
                // One at a time: decoder and engine are one each, and memory is bounded.
                return try await turn.inTurn {
                    // Counted once, and not before its turn: only a study that is being analysed can be what ends the
                    // node.
                    let times = if let begun { begun } else { try await begin(study) }
                    begun = times
                    let terms = currentTerms()
                    // What was encoded by other rules may be of another series.
                    let isOfUse = ahead?.rules == terms.rules
                    let analyzer = if isOfUse, let ahead { ahead } else { analyzer(by: terms.rules) }
                    try await attempt(study, analyzer, terms, begun: times)
                }
            } catch {
                if Task.isCancelled { return await interrupt(uid, begun) }
                tools.logger.error(
                    "study cannot be concluded yet, tried again",
                    metadata: ["study.uid": "\(uid)", "error": "\(error)"])
                do { try await tools.clock.sleep(pause) } catch { return await interrupt(uid, begun) }
                pause = min(pause * 2, Self.mostPause)
            }
        }
    }

    private func begin(_ study: AssembledStudy) async throws -> Int {
        try await ledger.beginAnalysis(
            ofStudy: study.studyInstanceUID, seeing: study.instances.fileCount, because: study.decision.description)
    }

    /// The node stops in order: no study is what ends it.
    private func interrupt(_ uid: UID, _ begun: Int?) async {
        guard begun != nil else { return }
        // In a task of its own: for one that is cancelled the ledger does nothing.
        await Task { [ledger, tools] in
            do { try await ledger.interruptAnalysis(ofStudy: uid) } catch {
                tools.logger.error(
                    "an interrupted analysis is counted as if it had ended the node",
                    metadata: ["study.uid": "\(uid)", "error": "\(error)"])
            }
        }.value
    }

    private func attempt(
        _ study: AssembledStudy, _ analyzer: StudyAnalyzer, _ terms: Terms, begun: Int
    ) async throws {
        let uid = study.studyInstanceUID
        let times = overtaken.removeValue(forKey: uid) ?? 0
        // An earlier analysis may have ended since it was assembled.
        let history = try await ledger.history(ofStudy: uid)
        var study = study
        study.settledSeries = history.settledSeries
        let decision = try await ledger.decision(onStudy: uid)
        if decision == .ignored {
            return try await ledger.concludeUnchanged(study: uid, because: "ignored by an operator")
        }
        // A study that was never reported is, with what there is of it.
        if case .incomplete(_, let reasons) = study.decision, let purged = reasons.first(where: \.isPurged),
            history.predecessor != nil
        {
            return try await ledger.concludeUnchanged(
                study: uid, because: "not analysed again: \(purged); send the whole series again for that")
        }
        guard let route = terms.routes.route(for: study.origin) else {
            return try await concludeWithoutRoute(study, terms)
        }
        let threshold = try tools.package.operatingPoint(route.threshold)
        var analysis =
            begun > Self.mostBegun
            ? givenUp(study, threshold, terms, "the node ended \(begun - 1) times while it was analysed")
            : try await analyse(study, analyzer, threshold, terms, isReleased: decision == .released)
        // What was reported of it stands until another report supersedes it.
        if analysis.outcome == .notHeadCT, history.predecessor != nil {
            let verdicts = analysis.verdicts
            analysis = givenUp(study, threshold, terms, analysis.reason)
            analysis.verdicts = verdicts
        }
        if try await isHeldBack(analysis, of: study, analyzer) { return }
        // What is given up stays counted until that is reported.
        if begun <= Self.mostBegun, times < Self.mostOvertaken, try await isOvertaken(analysis, study, terms) {
            try await ledger.abandonAnalysis(
                ofStudy: uid, because: "analysis abandoned: more of what it rests on arrived meanwhile")
            overtaken[uid] = times + 1
            return
        }
        try await record(analysis, of: study, terms, route: route, threshold: threshold)
    }

    /// No finding, and the head goes on where the series ends: more may be on its way. A count or the quiet time
    /// settles that; a positive finding does not wait for it.
    private func isHeldBack(
        _ analysis: StudyAnalyzer.Analysis, of study: AssembledStudy, _ analyzer: StudyAnalyzer
    ) async throws -> Bool {
        guard case .complete(.grace, _) = study.decision, let finding = analysis.finding, !finding.isPositive,
            !finding.endsWithinBrain.isEmpty
        else { return false }
        let uid = study.studyInstanceUID
        let doubts = finding.endsWithinBrain.map { CompletionReason.cutOff(end: $0.rawValue) }
        let reason = doubts.map(\.description).joined(separator: ", ")
        try await ledger.abandonAnalysis(ofStudy: uid, because: reason)
        if analyzers.count < Self.mostAhead {
            analyzers[uid] = analyzer
            await analyzer.goOn()
        }
        // What follows holds all of this.
        if next[uid] == nil { await assembler.holdBack(study, because: doubts) }
        return true
    }

    /// Whether a later analysis, which is sure to come, will rest on other images.
    private func isOvertaken(
        _ analysis: StudyAnalyzer.Analysis, _ study: AssembledStudy, _ terms: Terms
    ) async throws -> Bool {
        let instances = try await ledger.instances(ofStudy: study.studyInstanceUID)
        guard instances.fileCount > study.instances.fileCount else { return false }
        let known = StudyAnalyzer.newest(instances)
        let selection = SeriesSelection(
            known.values.map(\.record), rules: terms.rules, settled: study.settledSeries,
            brainless: analysis.brainless)
        return StudyAnalyzer.basis(selection, known) != analysis.basis
    }

    /// A study that an analysis cannot get through is not silent: it is *not analysed*, and why.
    private func analyse(
        _ study: AssembledStudy, _ analyzer: StudyAnalyzer, _ threshold: ModelPackage.Threshold, _ terms: Terms,
        isReleased: Bool
    ) async throws -> StudyAnalyzer.Analysis {
        var failure = ""
        for pause in Self.retryPauses + [nil] {
            do {
                return try await analyzer.analyse(study, threshold: threshold, isReleased: isReleased)
            } catch is CancellationError {
                throw CancellationError()
            } catch let error as ModelError where error.code == .package {
                // No fault of the study: it waits for the node to be restarted.
                throw error
            } catch {
                try Task.checkCancellation()
                failure = "\(error)"
                tools.logger.error(
                    "analysis failed", metadata: ["study.uid": "\(study.studyInstanceUID)", "error": "\(error)"])
            }
            if let pause { try await tools.clock.sleep(pause) }
        }
        return givenUp(study, threshold, terms, "analysis failed: \(failure)")
    }

    private func givenUp(
        _ study: AssembledStudy, _ threshold: ModelPackage.Threshold, _ terms: Terms, _ reason: String
    ) -> StudyAnalyzer.Analysis {
        let known = StudyAnalyzer.newest(study.instances)
        return AnalysisDraft(
            study: study, known: known,
            selection: SeriesSelection(known.values.map(\.record), rules: terms.rules, settled: study.settledSeries),
            threshold: threshold, startedAt: tools.clock.now()
        ).undetermined(reason)
    }

    private func record(
        _ analysis: StudyAnalyzer.Analysis, of study: AssembledStudy, _ terms: Terms, route: Route,
        threshold: ModelPackage.Threshold
    ) async throws {
        let uid = study.studyInstanceUID
        try await ledger.recordVerdicts(analysis.verdicts, ofStudy: uid)
        let history = try await ledger.history(ofStudy: uid)
        let configurationDigest = SHA256Digest.hex(of: ["\(route)", "\(terms.rules)"])
        // Beside composing, which takes longer. Of a study that is analysed again, because none was kept before.
        async let isKept: Void = keepFinding(of: analysis, in: uid, configurationDigest)
        if let latest = history.latest, latest.revisionDigest == analysis.revisionDigest,
            !study.isReprocessed
                || (latest.modelDigest == tools.package.modelDigest
                    && latest.configurationDigest == configurationDigest)
        {
            await isKept
            return try await ledger.concludeUnchanged(
                study: uid, because: "what is there changes nothing that was analysed")
        }
        let startedAt = analysis.report?.startedAt ?? tools.clock.now()
        var report = analysis.report
        report?.revision = history.nextRevision
        report?.predecessor = history.predecessor
        var composed: ComposedResult?
        if let report { composed = try await composer.compose(report, route: route) }
        await isKept
        if composed?.identity.isTextGuessed == true {
            let text = "patient or study text is not of the character set that the images declare: see what sends them"
            try await ledger.recordEvent("text", text, ofStudy: uid)
        }
        if analysis.encoderCalls > 0 {
            let text = "\(analysis.earlyEncoderCalls) of \(analysis.encoderCalls) encoder calls ended before complete"
            try await ledger.recordEvent("trace", text, ofStudy: uid)
        }
        let entry = AnalysisEntry(
            studyInstanceUID: uid, revisionDigest: analysis.revisionDigest, modelDigest: tools.package.modelDigest,
            configurationDigest: configurationDigest, route: route.name, startedAt: startedAt,
            completedAt: tools.clock.now(), outcome: analysis.outcome, reason: analysis.reason,
            completion: study.decision.description, studyProbability: analysis.finding?.probability,
            threshold: threshold.value,
            flaggedSlices: analysis.finding?.flaggedSlices.count ?? 0, seriesInstanceUID: analysis.seriesInstanceUID,
            report: composed?.report, lastArrival: study.isReprocessed ? nil : study.lastArrival)
        let priority = analysis.outcome == .positive ? 0 : 1
        var deliveries: [NewDelivery] = []
        var leftOut: [String] = []
        if let report, let composed {
            deliveries = route.destinations.map {
                NewDelivery(
                    destination: $0, priority: priority, objects: composed.objects, alternatives: composed.alternatives)
            }
            let earlier = try await ledger.deliveries(ofStudy: uid)
            let alerts = try terms.alerts.deliveries(
                of: report, as: composed, received: received(study, wasReported: report.predecessor != nil),
                concludedAt: tools.clock.now(), by: route, priority: priority, after: earlier)
            deliveries += alerts.owed
            leftOut = alerts.leftOut
        }
        let objects = composed.map { $0.objects + $0.alternatives } ?? []
        guard try await ledger.conclude(entry, objects: objects, deliveries: deliveries) else { return }
        await assembler.concluded(uid, settling: StudyHistory(history.analyses + [entry]).settledSeries)
        if let text = terms.alerts.leavingOut(leftOut) { try await ledger.recordEvent("alert", text, ofStudy: uid) }
        if !study.isReprocessed { timeToReport.recordInterval(since: study.lastArrival, to: tools.clock.now()) }
        announce(analysis, uid)
    }

    /// When the images came that are there. A study that an operator has analysed once more, long after its result, is
    /// as old as it is then.
    private func received(_ study: AssembledStudy, wasReported: Bool) -> ClosedRange<Date> {
        let now = tools.clock.now()
        if study.isReprocessed && wasReported { return now...now }
        // Where the clock was set back, the last may be dated before the first.
        let first = study.instances.lazy.filter { !$0.isPurged }.map(\.receivedAt).min() ?? study.lastArrival
        return min(first, study.lastArrival)...study.lastArrival
    }

    private nonisolated func keepFinding(
        of analysis: StudyAnalyzer.Analysis, in study: UID, _ configurationDigest: String
    ) async {
        guard analysis.finding != nil else { return }
        await findings.keep(
            analysis.record, of: study,
            as: AnalysisEntry.findingName(
                revision: analysis.revisionDigest, model: tools.package.modelDigest, configuration: configurationDigest)
        )
    }

    private func concludeWithoutRoute(_ study: AssembledStudy, _ terms: Terms) async throws {
        let now = tools.clock.now()
        // What is none is nobody's to be told of, and goes like the rest.
        let selection = SeriesSelection(StudyAnalyzer.newest(study.instances).values.map(\.record), rules: terms.rules)
        var outcome = Outcome.undetermined
        if case .notHeadCT = selection.conclusion { outcome = .notHeadCT }
        let entry = AnalysisEntry(
            studyInstanceUID: study.studyInstanceUID, revisionDigest: "", modelDigest: tools.package.modelDigest,
            configurationDigest: "", route: "", startedAt: now, completedAt: now, outcome: outcome,
            reason: RouteText.noRoute(study.origin),
            completion: study.decision.description, studyProbability: nil, threshold: nil, flaggedSlices: 0)
        guard try await ledger.conclude(entry, objects: [], deliveries: []) else { return }
        await assembler.concluded(study.studyInstanceUID, settling: nil)
        tools.logger.error(
            "no route takes the study",
            metadata: ["study.uid": "\(study.studyInstanceUID)", "reason": "\(entry.reason)"])
    }

    private func announce(_ analysis: StudyAnalyzer.Analysis, _ uid: UID) {
        concluded[analysis.outcome]?.increment()
        let level: Logger.Level = analysis.outcome == .undetermined ? .warning : .notice
        tools.logger.log(
            level: level, "study concluded",
            metadata: [
                "study.uid": "\(uid)", "outcome": "\(analysis.outcome.rawValue)", "reason": "\(analysis.reason)",
                "probability": "\(analysis.finding.map { String(format: "%.3f", $0.probability) } ?? "-")",
                "flagged": "\(analysis.finding?.flaggedSlices.count ?? 0)",
                "encoder.calls.early": "\(analysis.earlyEncoderCalls) of \(analysis.encoderCalls)",
            ])
    }
}

extension Metrics.Timer {
    /// At most 30 years: whatever the dates are, an integer holds it.
    func recordInterval(since start: Date, to end: Date) {
        recordNanoseconds(Int64(min(max(0, end.timeIntervalSince(start)), 1e9) * 1e9))
    }
}

extension [StoredInstance] {
    /// With what was removed and came again it grows; the number of instances does not.
    fileprivate var fileCount: Int { count(where: { !$0.isPurged }) }
}

extension ModelPackage {
    /// A threshold by name, or a number from 0 to 1.
    func operatingPoint(_ text: String) throws -> Threshold {
        if let value = Double(text), (0...1).contains(value) { return Threshold(name: "set by route", value: value) }
        return try threshold(named: text)
    }
}
