/// Statuses of N-ACTION in answer to a request for storage commitment (PS3.7 §10.1.4.1.10, Annex C), in words that say
/// what to check.
public enum CommitmentStatus {
    static let failures: [UInt16: String] = [
        0x0112: "the peer does not know the instance of the Push Model",
        0x0118: "the peer does not support storage commitment: switch it on there, or off for this peer",
        0x0122: "the peer does not support storage commitment: switch it on there, or off for this peer",
        0x0123: "the peer does not know the action of the Push Model",
        0x0124: "the peer does not allow our AE title to ask for commitment: allow it in its AE table",
        0x0131: "the peer has had this Transaction UID before",
        0x0213: "the peer is out of resources",
    ]

    /// - Returns: nil for success.
    public static func failure(_ response: Requestor.Response) -> String? {
        guard response.status != 0 else { return nil }
        return (failures[response.status] ?? "the peer failed to take the request: see its log")
            + " (0x\(String(response.status, radix: 16, uppercase: true)))"
            + (response.comment.isEmpty ? "" : ": \(response.comment)")
    }
}
