/// Statuses of DIMSE responses that the node gives: the one table of them.
public struct StoreStatus: Hashable, Sendable {
    public let code: UInt16
    /// What it says here.
    public let meaning: String
    private init(_ code: UInt16, _ meaning: String) {
        self.code = code
        self.meaning = meaning
    }

    public static func == (left: StoreStatus, right: StoreStatus) -> Bool { left.code == right.code }
    public func hash(into hasher: inout Hasher) { hasher.combine(code) }

    /// PS3.7 Annex C.1.1.
    public static let success = StoreStatus(0x0000, "done: on stable storage, now or since earlier")

    // Failures of C-STORE, PS3.4 Table B.2-1. The last digits are ours within the ranges A7xx, A9xx, Cxxx.

    public static let outOfResources = StoreStatus(
        0xA700, "out of resources: no room, or writing, syncing or comparing failed. The sender may try again")
    public static let doesNotMatch = StoreStatus(
        0xA900, "data set does not match: SOP Class or SOP Instance UID of command, context and data set differ")
    public static let cannotUnderstand = StoreStatus(
        0xC000, "cannot understand: the data set is damaged, or cut short before Pixel Data")
    public static let invalidUID = StoreStatus(0xC001, "an identifying UID is missing or is no UID")
    public static let tooDeep = StoreStatus(0xC002, "sequences nested beyond the limit")
    public static let overLimit = StoreStatus(0xC003, "a size beyond the limits")
    public static let noDataSet = StoreStatus(0xC004, "no data set with the command")

    // Failures of N-EVENT-REPORT, PS3.7 §10.1.1.1.8 and Annex C.5.

    public static let processingFailure = StoreStatus(
        0x0110,
        "nothing was asked under this Transaction UID, or something else since; Event Information cannot be read or is "
            + "over the limit")
    public static let noSuchInstance = StoreStatus(0x0112, "another SOP Instance than that of the Push Model")
    public static let noSuchEventType = StoreStatus(0x0113, "another Event Type ID than 1 and 2")
    public static let resourceLimitation = StoreStatus(0x0213, "cannot be recorded now. The sender may try again")

    /// PS3.7 Annex C.5.
    public static let unrecognizedOperation = StoreStatus(
        0x0211, "any operation other than C-STORE, C-ECHO, and N-EVENT-REPORT in a context of its SOP class")

    /// Of C-STORE.
    public static let ofStore: [StoreStatus] = [
        .success, .outOfResources, .doesNotMatch, .cannotUnderstand, .invalidUID, .tooDeep, .overLimit, .noDataSet,
    ]
    /// Of N-EVENT-REPORT.
    public static let ofEventReport: [StoreStatus] = [
        .success, .processingFailure, .noSuchInstance, .noSuchEventType, .resourceLimitation,
    ]

    public init(_ code: HeaderError.Code) {
        self =
            switch code {
            case .malformed, .truncated: .cannotUnderstand
            case .tooDeep: .tooDeep
            case .overLimit: .overLimit
            case .identity: .invalidUID
            }
    }
}
