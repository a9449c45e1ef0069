internal import CDCMTK
internal import WorkerProtocol

/// What a peer proposes in one presentation context (PS3.8 §9.3.2.2), and what becomes of it.
struct PresentationContext: Sendable, Equatable {
    /// PS3.7 Annex D.3.3.4, as the peer states its own role.
    enum Role: Sendable { case unstated, scu, scp, both }

    enum Decision: Sendable, Equatable {
        case accept(TransferSyntax)
        /// Result/Reason of PS3.8 Table 9-18.
        case refuse(result: Int32)
    }

    static let verification = "1.2.840.10008.1.1"
    /// Storage Commitment Push Model (PS3.4 Annex J).
    static let storageCommitment = "1.2.840.10008.1.20.1"
    static let abstractSyntaxNotSupported: Int32 = 3
    static let transferSyntaxesNotSupported: Int32 = 4
    static let noReason: Int32 = 2
    /// When a context is refused.
    static let refusals: [(result: Int32, when: String)] = [
        (abstractSyntaxNotSupported, "abstract syntax not supported: none of those above"),
        (transferSyntaxesNotSupported, "transfer syntaxes not supported: none of those above for it"),
        (noReason, "no reason: the peer proposes itself as SCP alone, or for Storage Commitment as SCU alone"),
    ]

    var id: UInt8
    var abstractSyntax: String
    var transferSyntaxes: [String]
    var role: Role

    /// The one role that the proposer is granted. Reports of storage commitment come from their SCP (PS3.4 §J.3.3); a
    /// proposer that negotiates no role is taken for what its SOP class wants.
    var grantedRole: Role { abstractSyntax == Self.storageCommitment ? .scp : .scu }

    /// Takes the proposer's first transfer syntax that the node knows: what the object has already, with most senders,
    /// so that nothing is compressed again on its way.
    func decide(storageSOPClasses: Set<String>) -> Decision {
        let isReport = abstractSyntax == Self.storageCommitment
        guard isReport || abstractSyntax == Self.verification || storageSOPClasses.contains(abstractSyntax) else {
            return .refuse(result: Self.abstractSyntaxNotSupported)
        }
        guard [.unstated, .both, grantedRole].contains(role) else { return .refuse(result: Self.noReason) }
        let known = transferSyntaxes.lazy.compactMap { UID($0) }.compactMap { TransferSyntax($0) }
        guard let syntax = known.first(where: { !isReport || CommitmentReport.transferSyntaxes.contains($0) }) else {
            return .refuse(result: Self.transferSyntaxesNotSupported)
        }
        return .accept(syntax)
    }
}

extension PresentationContext {
    init(_ context: cdcmtk_context) {
        id = context.id
        abstractSyntax = text(context.abstract_syntax)
        let width = Int(CDCMTK_UID_BYTES)
        transferSyntaxes = withUnsafeBytes(of: context.transfer_syntaxes) { bytes in
            (0..<Int(context.transfer_syntax_count)).map { index in
                String(decoding: bytes[index * width..<(index + 1) * width].prefix { $0 != 0 }, as: UTF8.self)
            }
        }
        role =
            switch context.proposed_role {
            case CDCMTK_ROLE_SCU: .scu
            case CDCMTK_ROLE_SCP: .scp
            case CDCMTK_ROLE_BOTH: .both
            default: .unstated
            }
    }
}
