import Foundation
import ICHModel
import Ledger
import WorkerProtocol

/// A labelled study and what the node says of it.
struct EvaluatedStudy: Sendable {
    let label: StudyLabels.Row
    let studyInstanceUID: UID
    /// Studies of one patient are drawn together. Never printed.
    let patient: String
    /// All images of the study, whatever series.
    let imageCount: Int
    let outcome: Outcome
    /// Why it was not analysed, or what keeps it from being negative; empty where all is well.
    let reason: String
    /// nil where it was not analysed.
    let finding: Finding?
    /// From files to result: reading headers, decoding, model.
    let seconds: Double
    /// Which frames the finding's images are, where they are frames of multi-frame objects.
    var frames: [UID: FrameReference] = [:]

    /// Analysed, but the node would say *undetermined* in place of *negative*.
    var hasDefects: Bool { finding != nil && !reason.isEmpty }

    func isFlagged(at threshold: ModelPackage.Threshold) -> Bool { (finding?.probability ?? 0) >= threshold.value }
}
