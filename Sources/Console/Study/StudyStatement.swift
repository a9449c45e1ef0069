internal import Ledger

/// Where a study stands, in sentences that a radiologist understands. Nothing here says that all is well: no finding is
/// no proof.
struct StudyStatement {
    /// Of the notice around it.
    var tone: String
    var headline: String
    var sentences: [String]

    private static let readAsEver = "Read the study as if there were no AI."

    init(_ study: ShownStudy) {
        let entry = study.detail.study
        if entry.decision == .ignored {
            self.init(
                tone: "warning", headline: "Ignored by an operator",
                sentences: [
                    "It is neither analysed nor reported, whatever arrives of it.",
                    entry.outcome.map { "Reported before: \($0.rawValue)." } ?? Self.readAsEver,
                ])
        } else if entry.state == .concluded, let outcome = entry.outcome {
            self = Self.result(outcome, study)
        } else if let outcome = entry.outcome {
            self = Self.result(outcome, study)
            headline = "So far: " + headline.prefix(1).lowercased() + headline.dropFirst()
            sentences.append("More images came. Where they change the result, a revised report follows.")
        } else {
            self.init(
                tone: "", headline: "No result yet",
                sentences: [
                    entry.state == .analysing ? "It is being analysed." : "More images are awaited.", Self.readAsEver,
                ])
        }
    }

    private init(tone: String, headline: String, sentences: [String]) {
        self.tone = tone
        self.headline = headline
        self.sentences = sentences
    }

    private static func result(_ outcome: Outcome, _ study: ShownStudy) -> StudyStatement {
        let reason = study.detail.study.reason ?? ""
        switch outcome {
        case .positive:
            let flagged = study.latest?.flaggedSlices ?? 0
            return StudyStatement(
                tone: "positive", headline: "Intracranial haemorrhage suspected",
                sentences: [
                    "\(flagged == 1 ? "1 slice is" : "\(flagged) slices are") flagged. Nobody has verified this: look "
                        + "at them first.",
                    reason.isEmpty ? "" : "What limits it: \(reason).",
                ])
        case .negative:
            return StudyStatement(
                tone: "", headline: "The model flagged nothing",
                sentences: ["This does not rule out a haemorrhage. \(readAsEver)"])
        case .undetermined:
            return StudyStatement(
                tone: "warning", headline: "Not analysed, or not completely: this is no negative result",
                sentences: ["Why: \(reason).", readAsEver, advice(study)])
        case .notHeadCT:
            return StudyStatement(
                tone: "", headline: "Not a head CT: not analysed",
                sentences: [
                    reason.isEmpty ? "" : "Why: \(reason).", "It is recorded here only; nothing is sent to anybody.",
                    "If it is one: look at Body Part Examined, series descriptions and protocol names.",
                ])
        }
    }

    /// What to do about a study without a result, by what its reason says.
    private static func advice(_ study: ShownStudy) -> String {
        let reason = study.detail.study.reason ?? ""
        if study.detail.study.isHeld {
            return "Nothing was sent. Somebody has to decide whose images these are: mend the study at the PACS and "
                + "send it again, or release it here where all is of one patient."
        }
        return advices.first { reason.contains($0.words) }?.advice
            ?? "The table of series says why each was left; `selection` in the configuration is about that."
    }

    private static let advices: [(words: String, advice: String)] = [
        (
            "no route takes",
            "Nobody is told of it: add a route for its sender to the configuration, then analyse it again."
        ),
        ("times while it was analysed", "Something in it ends the node: keep the study, and report that."),
        ("analysis failed", "The node's log says more. Mend that, then analyse it again."),
        ("can be decoded", "Its images are damaged, or of a kind that the node cannot decode: send them again."),
        ("incomplete", "Send the whole study again, or what is missing of it: it is then analysed anew."),
        ("shows brain", "The series ends within the head: look at it at the scanner, and send all of it."),
        ("not analysed", "Look at the series at the scanner: not all its images fit one stack."),
    ]
}
