/// What a peer answered about an object, in words: C-STORE statuses (PS3.4 Table B.2-1, PS3.7 Annex C), and Failure
/// Reasons of storage commitment (PS3.3 Table C.14-1), which have their numbers from the same tables.
enum PeerStatus {
    static func words(_ status: UInt16) -> String {
        let code = String(status, radix: 16, uppercase: true)
        let number = "0x\(String(repeating: "0", count: 4 - code.count))\(code)"
        return "\(number), \(exact[status] ?? range(status))"
    }

    private static let exact: [UInt16: String] = [
        0x0000: "success",
        0x0106: "an attribute has an invalid value",
        0x0107: "taken, an attribute was left out",
        0x0110: "failure while it was processed",
        0x0111: "it is there already",
        0x0112: "it is not there",
        0x0116: "taken, an attribute was out of range",
        0x0117: "invalid SOP instance UID",
        0x0119: "another SOP class than it is there",
        0x0122: "SOP class not supported",
        0x0124: "not authorised",
        0x0131: "transaction UID used before",
        0x0210: "duplicate invocation",
        0x0211: "unknown operation",
        0x0212: "mistyped argument",
        0x0213: "out of resources",
        0xB000: "taken, with values changed to fit",
        0xB006: "taken, elements discarded",
        0xB007: "taken, though it does not match its SOP class",
        0xFE00: "cancelled",
    ]

    private static func range(_ status: UInt16) -> String {
        switch status {
        case 0xA700...0xA7FF: "out of resources"
        case 0xA900...0xA9FF: "it does not match its SOP class"
        case 0xB000...0xBFFF: "taken, with a warning"
        case 0xC000...0xCFFF: "the peer cannot understand it"
        default: "a status that the standard does not name"
        }
    }
}
