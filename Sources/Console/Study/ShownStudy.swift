internal import Ledger
internal import WorkerProtocol

/// What a page says of one study, read at one moment.
struct ShownStudy: Sendable {
    /// A page names so many of them.
    static let mostAlerts = 50

    var detail: StudyDetail
    /// Of the first image; nil where the visitor may not see it.
    var identity: InstanceRecord?
    /// What it waits for, and its series as they stand; nil where the study is concluded, or the node cannot say.
    var explanation: StudyExplanation?
    /// Why the node cannot say it.
    var unexplained: String?
    /// Result objects, in the order they were made.
    var objects: [ComposedObject]
    var alerts: [OperatorAlertEntry]
    var visitor: Visitor

    var uid: UID { detail.study.studyInstanceUID }
    var latest: AnalysisEntry? { detail.analyses.last }
    /// Analyses that made a report: the n-th is revision n.
    var reported: [AnalysisEntry] { detail.analyses.filter { $0.report != nil } }

    /// - Returns: nil where the node does not know the study.
    init?(_ uid: UID, _ parts: ConsoleServer.Parts, _ visitor: Visitor) async throws {
        guard let detail = try await parts.ledger.study(uid) else { return nil }
        self.detail = detail
        self.visitor = visitor
        objects = try await parts.ledger.resultObjects(ofStudy: uid)
        alerts = try await parts.ledger.operatorAlerts(about: uid.string, limit: Self.mostAlerts)
        identity = visitor.maySeePatients ? try await parts.ledger.firstInstance(ofStudy: uid)?.record : nil
        // Costs a look at all its headers: only while there is something to wait for.
        guard detail.study.state != .concluded else { return }
        do { explanation = try await parts.actions.explanation(ofStudy: uid) } catch { unexplained = error.reason }
    }

    /// Objects of one report: they lie in one folder.
    func objects(ofReport uid: UID) -> [ComposedObject] {
        guard let folder = objects.first(where: { $0.sopInstanceUID == uid })?.folder else { return [] }
        return objects.filter { $0.folder == folder }
    }
}

extension AnalysisEntry {
    /// An undetermined study has none that anybody could take for a negative.
    var shownProbability: Double? { outcome == .undetermined ? nil : studyProbability }
}

extension ComposedObject {
    /// Path of the folder that it lies in.
    var folder: Substring { path.lastIndex(of: "/").map { path[..<$0] } ?? "" }

    /// What it is, in words.
    var kind: String {
        if let report = ReportClass.allCases.first(where: { $0.sopClassUID == sopClassUID }) {
            return "Structured Report (\(report.title.replacing(" SR Storage", with: "")))"
        }
        return switch sopClassUID.string {
        case "1.2.840.10008.5.1.4.1.1.88.59": "Key Object Selection"
        case "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture (heatmap or summary)"
        default: sopClassUID.string
        }
    }

    /// Of the file that a browser saves.
    var downloadName: String {
        let isReport = ReportClass.allCases.contains { $0.sopClassUID == sopClassUID }
        let name = isReport ? "report" : sopClassUID.string.hasSuffix(".88.59") ? "key-objects" : "capture"
        return "ich-\(name)-\(sopInstanceUID).dcm"
    }
}
