/// Final statuses of C-MOVE (PS3.4 Table C.4-2, PS3.7 Annex C) in words that say what to check.
public enum MoveStatus {
    static let failures: [(codes: ClosedRange<UInt16>, reason: String)] = [
        (0x0122...0x0122, "the peer does not support retrieval by Study Root C-MOVE"),
        (0x0124...0x0124, "the peer does not allow our AE title to retrieve: allow it in its AE table"),
        (0xA701...0xA701, "the peer is out of resources and could not count the images"),
        (0xA702...0xA702, "the peer could not send the images: \(connection)"),
        (0xA801...0xA801, "the peer does not know the move destination: \(table)"),
        (0xA900...0xA900, "the peer does not take study and series UID for a query: see its log"),
        (0xB000...0xB000, "the peer could not send all images: \(connection)"),
        (0xC000...0xCFFF, "the peer is unable to process the request: see its log; \(table), and admit it here"),
        (0xFE00...0xFE00, "it took too long and was cancelled"),
    ]

    private static let table = "add our AE title, host and port to the PACS"
    private static let connection = "check our host and port in the PACS, and that we admit it"

    /// - Returns: nil for success.
    public static func failure(_ response: Requestor.Response) -> String? {
        guard response.status != 0 else { return nil }
        let known = failures.first { $0.codes.contains(response.status) }
        return (known?.reason ?? "the peer failed to send the images: see its log")
            + " (0x\(String(response.status, radix: 16, uppercase: true)))"
            + (response.comment.isEmpty ? "" : ": \(response.comment)")
    }
}
