import Foundation
import Ledger
import StoreSCP
import WorkerProtocol

/// Operators' commands.
struct OperatorCommands: Sendable {
    let ledger: any Ledger
    let assembler: StudyAssembler

    @Sendable func answer(_ request: ControlRequest) async -> ControlResponse {
        do {
            switch request {
            case .listStudies(let limit): return .studies(try await ledger.studies(limit: max(1, min(limit, 10_000))))
            case .showStudy(let uid):
                if let study = try await ledger.study(uid) { return .study(study) }
                return .failed("no study \(uid) is known")
            case .completeStudy(let uid):
                guard await assembler.force(uid) else { return .failed("study \(uid) is not waiting for anything") }
                try await ledger.recordEvent("operator", "completed by hand", ofStudy: uid)
                return .done("study \(uid) is analysed as it stands")
            }
        } catch { return .failed("the ledger cannot be read: \(error)") }
    }
}
