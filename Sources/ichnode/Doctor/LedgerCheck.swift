import Foundation
import Glibc
import Ledger

/// Whether the node could open its ledger.
struct LedgerCheck {
    /// Of the time that looking at this machine may take.
    private static let soundnessSeconds = 5.0

    private let path: String

    init(_ configuration: NodeConfiguration) { path = NodeFolders(of: configuration).ledger.path }

    func examine() -> [SetupFinding] {
        // Where it cannot be read, the folder's checks say so.
        guard access(path, R_OK) == 0 else { return [] }
        do {
            let isWhole = try LedgerExamination.examine(path, seconds: Self.soundnessSeconds)
            let extent = isWhole ? "" : " as far as can be seen in \(Int(Self.soundnessSeconds)) s"
            return [.good(.ledger, path, "the ledger is sound\(extent)")]
        } catch {
            let reason = (error as? LedgerError)?.reason ?? "\(error)"
            return [.bad(.ledger, path, "the node cannot use its ledger: \(reason)")]
        }
    }
}
