internal import CLinux
public import Foundation
public import Ledger
public import Logging
internal import Metrics
public import WorkerProtocol

/// The durable objects of a result.
public struct ComposedResult: Sendable {
    /// The report first.
    public var objects: [ComposedObject]
    /// The report in other SOP classes, for a destination that refuses its own; in order.
    public var alternatives: [ComposedObject]
    public var report: ImageReference
    /// What all of them carry.
    public var identity: CarriedIdentity
    /// Who made them.
    public var deviceUID: UID
    public var algorithm: ReportComposer.Algorithm
}

/// What an analysis has to say of one study, in the words of a report.
public struct StudyReport: Sendable {
    /// A slice that the model flags, with what its capture shows.
    public struct Flagged: Sendable {
        public var instance: StoredInstance
        public var probability: Double
        public var attention: Double
        /// nil where there is nothing to draw on: the slice is reported all the same.
        public var slice: HeatmapSlice?
        /// 0 where the image has none that an IS can hold (PS3.5 §6.2).
        public var instanceNumber: Int {
            instance.record.image.instanceNumber.flatMap { Int32(exactly: $0) }.map(Int.init) ?? 0
        }

        public init(instance: StoredInstance, probability: Double, attention: Double, slice: HeatmapSlice?) {
            self.instance = instance
            self.probability = probability
            self.attention = attention
            self.slice = slice
        }
    }

    public var studyInstanceUID: UID
    public var revisionDigest: String
    /// 1 for the first report on the study.
    public var revision: Int
    /// The report that this one supersedes.
    public var predecessor: ImageReference?
    public var presence: Presence
    /// One sentence: why, where the presence alone does not say it.
    public var reason: String
    public var studyProbability: Double?
    public var thresholdName: String
    public var threshold: Double
    /// Instances that the analysis saw, or looked at in vain; never empty. The first gives the patient's identity.
    public var images: [StoredInstance]
    public var flagged: [Flagged]
    /// Which series was taken and why, and how completeness was decided.
    public var seriesText: String
    public var completionText: String
    public var startedAt: Date

    public init(
        studyInstanceUID: UID, revisionDigest: String, revision: Int = 1, predecessor: ImageReference? = nil,
        presence: Presence, reason: String, studyProbability: Double?, thresholdName: String, threshold: Double,
        images: [StoredInstance], flagged: [Flagged], seriesText: String,
        completionText: String, startedAt: Date
    ) {
        self.studyInstanceUID = studyInstanceUID
        self.revisionDigest = revisionDigest
        self.revision = revision
        self.predecessor = predecessor
        self.presence = presence
        self.reason = reason
        self.studyProbability = studyProbability
        self.thresholdName = thresholdName
        self.threshold = threshold
        self.images = images
        self.flagged = flagged
        self.seriesText = seriesText
        self.completionText = completionText
        self.startedAt = startedAt
    }
}

/// Turns reports into DICOM objects: one Structured Report, for a positive study one secondary capture for each flagged
/// slice, by route a summary of them and key objects; written once by a confined worker and sent unchanged ever after.
public struct ReportComposer: Sendable {
    /// What made the result.
    public struct Algorithm: Sendable {
        public var name: String
        public var version: String
        public var digest: String
        public init(name: String, version: String, digest: String) {
            self.name = name
            self.version = version
            self.digest = digest
        }
    }

    /// Captures of one study; the most suspicious slices come first.
    public static let mostCaptures = 64
    public static let deadline: Duration = .seconds(120)

    private let program: WorkerProgram
    private let crashes = Counter(label: "ichnode_worker_crashes_total", dimensions: [("verb", "compose")])
    private let results: URL
    private let installation: String
    private let device: Device
    private let algorithm: Algorithm
    private let hasAlternatives: Bool
    private let renderer = HeatmapRenderer()
    private let summaryRenderer = SummaryRenderer()
    private let logger: Logger

    /// - Parameters:
    ///   - results: folder below which every study gets a folder of its own.
    ///   - hasAlternatives: whether reports are written in all SR classes.
    public init(
        program: WorkerProgram, results: URL, installation: String, stationName: String, softwareVersion: String,
        algorithm: Algorithm, hasAlternatives: Bool = true, logger: Logger
    ) {
        self.hasAlternatives = hasAlternatives
        self.logger = logger
        self.program = program
        self.results = results
        self.installation = installation
        self.algorithm = algorithm
        device = Device(
            manufacturer: "ICHNode", modelName: "ICH-Detector", serialNumber: installation,
            softwareVersion: softwareVersion, deviceUID: ResultNaming.deviceUID(installation: installation),
            stationName: stationName)
    }

    /// A report that cannot be composed with its pictures is composed without; one that cannot be composed with its
    /// slices still says what was found. No finding stays silent for the sake of a picture.
    ///
    /// - Throws: `WorkerError` when nothing can be composed, and with code `system` when the disk takes no file, which
    ///   costs the report nothing: it is to be composed again later. Nothing is left half-written then.
    public func compose(_ report: StudyReport, route: Route) async throws -> ComposedResult {
        var plainer = report
        if !report.flagged.isEmpty {
            do { return try await composeTwice(report, route) } catch let error as WorkerError
                where Self.mayBeOfTheReport(error)
            {
                logger.error("report cannot be composed with its pictures", metadata: ["error": "\(error)"])
                for index in plainer.flagged.indices { plainer.flagged[index].slice = nil }
            }
        }
        do { return try await composeTwice(plainer, route) } catch let error as WorkerError
            where Self.mayBeOfTheReport(error)
        {
            logger.error("report cannot be composed with its slices", metadata: ["error": "\(error)"])
            plainer.flagged = []
            plainer.images = Array(report.images.prefix(1))
        }
        return try await composeTwice(plainer, route)
    }

    /// Whether a plainer report may get through: a worker that cannot be started, and a disk that takes no file, say
    /// nothing of what was to be written.
    private static func mayBeOfTheReport(_ error: WorkerError) -> Bool {
        let codes: [WorkerError.Code] = [.failed, .closed, .deadline]
        return !Task.isCancelled && codes.contains(error.code)
    }

    /// A worker that was killed from outside, or had a slow disk, costs the report nothing: only what ends a second one
    /// is of the report.
    private func composeTwice(_ report: StudyReport, _ route: Route) async throws -> ComposedResult {
        do { return try await composeOnce(report, route) } catch let error as WorkerError
            where [.closed, .deadline].contains(error.code) && !Task.isCancelled
        {
            logger.warning("compose worker gave no answer, trying once more", metadata: ["error": "\(error)"])
            return try await composeOnce(report, route)
        }
    }

    private func composeOnce(_ report: StudyReport, _ route: Route) async throws -> ComposedResult {
        let naming = ResultNaming(
            installation: installation, study: report.studyInstanceUID, revisionDigest: report.revisionDigest,
            modelDigest: algorithm.digest, revision: report.revision,
            configurationDigest: SHA256Digest.hex(of: [route.name, route.reportClass.rawValue, "\(report.threshold)"]))
        let study = results.appendingPathComponent(report.studyInstanceUID.string)
        let folder = study.appendingPathComponent(
            naming.uid(.report, sopClass: route.reportClass.sopClassUID).string)
        // What stands there was never recorded, or we would not compose again.
        if FileManager.default.fileExists(atPath: folder.path) { try FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for name in [results.path, study.path] where clinux_sync_directory(name) != 0 {
            throw WorkerError(.system, "fsync \(name): \(Errno.text)")
        }
        let shown = Self.mostSuspicious(Self.mostCaptures, of: report.flagged)
        var captures = heatmaps(report, shown, naming)
        let isPositive = report.presence == .present
        let keyObjects =
            isPositive && route.keyObjects ? keyObjects(report, shown, captures.map(\.content), naming) : nil
        if isPositive, route.summary, let summary = summary(report, naming) { captures.insert(summary, at: 0) }
        let request = ComposeRequest(
            identitySourcePath: report.images[0].path, report: content(report, shown, route, naming),
            captures: captures.map(\.content), keyObjects: keyObjects, outputDirectory: folder.path)
        let (objects, identity) = try await run(request, pictures: captures.map(\.pixels))
        let count = objects.count - request.report.alternatives.count
        return ComposedResult(
            objects: Array(objects.prefix(count)), alternatives: Array(objects.dropFirst(count)),
            report: ImageReference(
                sopClassUID: route.reportClass.sopClassUID, sopInstanceUID: request.report.sopInstanceUID,
                seriesInstanceUID: request.report.seriesInstanceUID),
            identity: identity, deviceUID: device.deviceUID, algorithm: algorithm)
    }

    /// In order of the slices.
    static func mostSuspicious(_ most: Int, of flagged: [StudyReport.Flagged]) -> [StudyReport.Flagged] {
        let bySuspicion = flagged.indices.sorted {
            (flagged[$1].probability, $0) < (flagged[$0].probability, $1)
        }
        return bySuspicion.prefix(most).sorted().map { flagged[$0] }
    }

    private func run(
        _ request: ComposeRequest, pictures: [Data]
    ) async throws -> (objects: [ComposedObject], identity: CarriedIdentity) {
        let worker = try WorkerProcess(program)
        var hasBegun = false
        do {
            try await worker.start()
            hasBegun = true
            let event = try await withDeadline(Self.deadline, "composing took too long") {
                try await worker.send(request, bulk: pictures)
                for try await frame in worker.frames { return try frame.message(ComposeEvent.self) }
                throw WorkerError(.closed, "compose worker ended without an answer")
            } onDeadline: {
                worker.kill()
            }
            await worker.stop()
            guard case .composed(let objects, let identity) = event else {
                if case .failed(let code, let reason) = event { throw WorkerError(code, reason) }
                throw WorkerError(.protocolViolation, "unknown answer")
            }
            try check(objects, against: request)
            return (objects, identity)
        } catch {
            if !Task.isCancelled && (error as? WorkerError)?.code == .closed { crashes.increment() }
            await worker.stop(patience: .milliseconds(200))
            guard hasBegun else { throw WorkerError(.start, "compose worker did not begin: \(error)") }
            throw error
        }
    }

    private func check(_ objects: [ComposedObject], against request: ComposeRequest) throws {
        let expected =
            [(request.report.fileName, request.report.sopInstanceUID)]
            + request.captures.map { ($0.fileName, $0.sopInstanceUID) }
            + (request.keyObjects.map { [($0.fileName, $0.sopInstanceUID)] } ?? [])
            + request.report.alternatives.map { ($0.fileName, $0.sopInstanceUID) }
        let agree =
            objects.count == expected.count
            && zip(objects, expected).allSatisfy { object, wanted in
                object.path == "\(request.outputDirectory)/\(wanted.0)" && object.sopInstanceUID == wanted.1
                    && FileManager.default.fileExists(atPath: object.path)
            }
        guard agree else { throw WorkerError(.protocolViolation, "compose worker wrote other objects than asked for") }
    }

    // MARK: Content

    private func content(
        _ report: StudyReport, _ shown: [StudyReport.Flagged], _ route: Route, _ naming: ResultNaming
    ) -> ReportContent {
        let moment = DICOMMoment(report.startedAt)
        let others = hasAlternatives ? route.reportClass.alternatives : []
        let names = ([route.reportClass] + others).map { Self.name($0, naming) }
        return ReportContent(
            fileName: names[0].fileName, reportClass: route.reportClass, sopInstanceUID: names[0].sopInstanceUID,
            seriesInstanceUID: names[0].seriesInstanceUID, contentDate: moment.date,
            contentTime: moment.time, timezoneOffset: moment.offset, revision: report.revision,
            predecessor: report.predecessor, device: device, algorithmName: algorithm.name,
            algorithmVersion: algorithm.version, algorithmParameters: parameters(report), presence: report.presence,
            studyProbability: report.studyProbability, studyTrackingUID: naming.uid(.studyTracking),
            imageLibrary: Self.library(report.images),
            flaggedSlices: shown.map { flagged in
                FlaggedSlice(
                    image: Self.reference(flagged.instance),
                    instanceNumber: flagged.instanceNumber,
                    trackingUID: naming.uid(.sliceTracking, source: flagged.instance.record.sopInstanceUID),
                    probability: min(max(flagged.probability, 0), 1), attention: min(max(flagged.attention, 0), 1))
            },
            comment: ReportText.comment(report, algorithm: algorithm, shown: shown.count),
            alternatives: Array(names.dropFirst()))
    }

    private static func name(_ reportClass: ReportClass, _ naming: ResultNaming) -> ReportAlternative {
        let sopClass = reportClass.sopClassUID
        let uid = naming.uid(.report, sopClass: sopClass)
        return ReportAlternative(
            reportClass: reportClass, fileName: "\(uid).dcm", sopInstanceUID: uid,
            seriesInstanceUID: naming.uid(.reportSeries, sopClass: sopClass))
    }

    private typealias Capture = (content: CaptureContent, pixels: Data)

    private func heatmaps(
        _ report: StudyReport, _ shown: [StudyReport.Flagged], _ naming: ResultNaming
    ) -> [Capture] {
        shown.compactMap { flagged in
            guard let slice = flagged.slice else { return nil }
            var content = capture(
                of: [flagged], rows: slice.rows, columns: slice.columns, report,
                sopInstanceUID: naming.uid(
                    .capture, sopClass: Self.captureClass, source: flagged.instance.record.sopInstanceUID),
                seriesInstanceUID: naming.uid(.captureSeries))
            content.instanceNumber = flagged.instanceNumber
            content.imageComments =
                "Slice probability of intracranial hemorrhage \(ReportText.number(flagged.probability))"
            return (content, Data(renderer.render(slice)))
        }
    }

    /// nil where there is nothing to show.
    private func summary(_ report: StudyReport, _ naming: ResultNaming) -> Capture? {
        let shown = Self.mostSuspicious(SummaryRenderer.mostSlices, of: report.flagged.filter { $0.slice != nil })
        guard !shown.isEmpty else { return nil }
        let text = ReportText.summary(report, algorithm: algorithm, shown: shown.count)
        let picture = summaryRenderer.render(shown.compactMap(\.slice), text: text)
        var content = capture(
            of: shown, rows: picture.rows, columns: picture.columns, report,
            sopInstanceUID: naming.uid(.summary, sopClass: Self.captureClass),
            seriesInstanceUID: naming.uid(.summarySeries))
        content.kind = .summary
        content.imageComments = text.lines.joined(separator: ". ")
        return (content, Data(picture.pixels))
    }

    private static let captureClass = UID(literal: "1.2.840.10008.5.1.4.1.1.7")

    private func capture(
        of shown: [StudyReport.Flagged], rows: Int, columns: Int, _ report: StudyReport, sopInstanceUID: UID,
        seriesInstanceUID: UID
    ) -> CaptureContent {
        let moment = DICOMMoment(report.startedAt)
        return CaptureContent(
            fileName: "\(sopInstanceUID).dcm", sopInstanceUID: sopInstanceUID, seriesInstanceUID: seriesInstanceUID,
            instanceNumber: 1, rows: rows, columns: columns,
            sources: shown.map { CaptureSource(path: $0.instance.path, image: Self.reference($0.instance)) },
            contentDate: moment.date, contentTime: moment.time, timezoneOffset: moment.offset,
            revision: report.revision, device: device,
            derivationDescription: "AI class activation heatmap over source CT (W80 L40). Not for diagnostic use.",
            imageComments: "")
    }

    /// The slices, then their heatmaps; nil where there are none.
    private func keyObjects(
        _ report: StudyReport, _ shown: [StudyReport.Flagged], _ heatmaps: [CaptureContent], _ naming: ResultNaming
    ) -> KeyObjectContent? {
        guard !shown.isEmpty else { return nil }
        let moment = DICOMMoment(report.startedAt)
        let uid = naming.uid(.keyObjects, sopClass: UID(literal: "1.2.840.10008.5.1.4.1.1.88.59"))
        let pictures = heatmaps.map {
            ImageReference(
                sopClassUID: Self.captureClass, sopInstanceUID: $0.sopInstanceUID,
                seriesInstanceUID: $0.seriesInstanceUID)
        }
        return KeyObjectContent(
            fileName: "\(uid).dcm", sopInstanceUID: uid, seriesInstanceUID: naming.uid(.keyObjectsSeries),
            contentDate: moment.date, contentTime: moment.time, timezoneOffset: moment.offset,
            revision: report.revision, device: device,
            description: "Slices with suspected intracranial hemorrhage, and their heatmaps. "
                + "AI triage output for research use. Not for diagnostic use.",
            images: shown.map { Self.reference($0.instance) } + pictures)
    }

    private func parameters(_ report: StudyReport) -> String {
        "operating point = \(ReportText.number(report.threshold)) (\(report.thresholdName)); "
            + "saliency = share of the sequence model's attention"
    }

    private static func reference(_ instance: StoredInstance) -> ImageReference {
        ImageReference(
            sopClassUID: instance.record.sopClassUID, sopInstanceUID: instance.record.storedSOPInstanceUID,
            seriesInstanceUID: instance.record.seriesInstanceUID, frames: frames([instance]))
    }

    /// Each object once.
    private static func library(_ images: [StoredInstance]) -> [ImageReference] {
        let frames = Dictionary(grouping: images, by: \.record.storedSOPInstanceUID).mapValues(Self.frames)
        var listed: Set<UID> = []
        return images.map(reference).compactMap { reference in
            guard listed.insert(reference.sopInstanceUID).inserted else { return nil }
            var reference = reference
            reference.frames = frames[reference.sopInstanceUID] ?? []
            return reference
        }
    }

    /// Numbers of frames of one object: none where all are meant (PS3.3 Table 10-3: type 1C).
    private static func frames(_ images: [StoredInstance]) -> [Int] {
        let numbers = images.compactMap(\.record.frame?.number).sorted()
        return numbers.count == images.first?.record.image.numberOfFrames ?? 1 ? [] : numbers
    }
}

/// A moment as DA, TM and Timezone Offset From UTC (PS3.5 §6.2, PS3.3 C.12.1.1.8), local time.
struct DICOMMoment {
    let date: String
    let time: String
    let offset: String

    init(_ moment: Date, timeZone: TimeZone = .current) {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = timeZone
        func text(_ format: String) -> String {
            formatter.dateFormat = format
            return formatter.string(from: moment)
        }
        (date, time, offset) = (text("yyyyMMdd"), text("HHmmss"), text("xx"))
    }
}
