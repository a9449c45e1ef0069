import Console
import Ledger
import WorkerProtocol

/// The console asks as the command line does.
extension OperatorCommands: NodeActions {
    func perform(_ action: NodeAction, by user: String) async throws(ActionRefusal) -> String {
        let request: ControlRequest =
            switch action {
            case .complete(let uid): .completeStudy(uid)
            case .reprocess(let uid): .reprocessStudy(uid)
            case .ignore(let uid): .ignoreStudy(uid)
            case .release(let uid): .releaseStudy(uid)
            case .resend(let uid): .resendStudy(uid)
            case .retry(let id): .retryDelivery(id)
            case .discard(let id): .discardDelivery(id)
            }
        switch await answer(request, by: user) {
        case .done(let text): return text
        case .failed(let reason): throw ActionRefusal(reason: reason)
        default: preconditionFailure("a command answers with what it did")
        }
    }

    func explanation(ofStudy uid: UID) async throws(ActionRefusal) -> StudyExplanation {
        switch await answer(.explainStudy(uid), by: "") {
        case .explanation(let explanation): return explanation
        case .failed(let reason): throw ActionRefusal(reason: reason)
        default: preconditionFailure("an explanation is asked for")
        }
    }
}
