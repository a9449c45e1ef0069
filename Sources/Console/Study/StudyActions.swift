internal import Ledger
internal import WorkerProtocol

/// What an operator can do about the study, each with what will happen.
struct StudyActions {
    let study: ShownStudy

    private var entry: StudyEntry { study.detail.study }

    /// What makes sense now.
    var possible: [StudyAction] { StudyAction.allCases.filter(isPossible) }

    private func isPossible(_ action: StudyAction) -> Bool {
        let isIgnored = entry.decision == .ignored
        switch action {
        case .complete: return entry.state == .receiving && !isIgnored
        case .reprocess:
            return entry.state == .concluded && !isIgnored && !entry.isHeld && entry.purgedCount < entry.instanceCount
        case .release: return isIgnored || entry.isHeld
        case .resend: return !destinations.isEmpty
        case .ignore: return !isIgnored
        }
    }

    /// To which results of the study were owed.
    private var destinations: [String] {
        var names: [String] = []
        for delivery in study.detail.deliveries
        where delivery.message == nil && !names.contains(delivery.destination) {
            names.append(delivery.destination)
        }
        return names
    }

    var html: HTML? {
        guard study.visitor.mayAct, !possible.isEmpty else { return nil }
        return "<div class=\"buttons actions\">\n\(possible.map(form))</div>\n"
    }

    private func form(_ action: StudyAction) -> HTML {
        let kind = action == .ignore ? "danger" : ""
        return """
            <form method="post" action="/studies/\(study.uid.string)/\(action.rawValue)">\(study.visitor.csrfField)\
            <button class="\(kind)" data-confirm="\(question(action))">\(title(action))</button></form>

            """
    }

    private func title(_ action: StudyAction) -> String {
        switch action {
        case .complete: "Decide now"
        case .reprocess: "Analyse again"
        case .release: "Release"
        case .resend: "Send results again"
        case .ignore: "Ignore"
        }
    }

    private func question(_ action: StudyAction) -> String {
        switch action {
        case .complete:
            "Decide now, with the \(entry.instanceCount) images that are here? If slices are missing, the study is "
                + "reported as not analysed, never as negative. What comes later is still looked at."
        case .reprocess:
            "Analyse this study again, with the model and configuration of now? Where anything differs, a report that "
                + "supersedes the earlier one is sent."
        case .release where entry.decision == .ignored: "Analyse this study after all, and report it?"
        case .release:
            "Analyse this study although its identity is in conflict? Look at its images first: the report carries the "
                + "identity of the series that is analysed."
        case .resend:
            "Send the results of the latest analysis again to \(destinations.joined(separator: ", "))? They are the "
                + "same objects under the same UIDs. Alerts are not sent again."
        case .ignore:
            "Neither analyse nor report this study, whatever arrives of it? Nobody will be told of a haemorrhage in "
                + "it. What was reported stays, and what is owed is still sent."
        }
    }
}
