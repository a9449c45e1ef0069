/// Statuses of DIMSE responses that the node gives: the one table of them.
public struct StoreStatus: Hashable, Sendable {
    public let code: UInt16
    private init(_ code: UInt16) { self.code = code }

    /// PS3.7 Annex C.1.1.
    public static let success = StoreStatus(0x0000)

    // Failures of C-STORE, PS3.4 Table B.2-1. The last digits are ours within the ranges A7xx, A9xx, Cxxx.

    /// Refused: out of resources. The sender may try again.
    public static let outOfResources = StoreStatus(0xA700)
    /// Error: data set does not match SOP class; here also SOP instance.
    public static let doesNotMatch = StoreStatus(0xA900)
    /// Error: cannot understand.
    public static let cannotUnderstand = StoreStatus(0xC000)
    /// Cannot understand: an identifying UID is missing, or is no UID.
    public static let invalidUID = StoreStatus(0xC001)
    /// Cannot understand: sequences nested beyond the limit.
    public static let tooDeep = StoreStatus(0xC002)
    /// Cannot understand: a size beyond the limits.
    public static let overLimit = StoreStatus(0xC003)
    /// Cannot understand: no data set with the command.
    public static let noDataSet = StoreStatus(0xC004)

    // Failures of N-EVENT-REPORT, PS3.7 §10.1.1.1.8 and Annex C.5.

    /// Processing failure; here also a Transaction UID under which nothing was asked.
    public static let processingFailure = StoreStatus(0x0110)
    public static let noSuchInstance = StoreStatus(0x0112)
    public static let noSuchEventType = StoreStatus(0x0113)
    /// Resource limitation. The sender may try again.
    public static let resourceLimitation = StoreStatus(0x0213)

    /// Failure: unrecognized operation, PS3.7 Annex C.5.
    public static let unrecognizedOperation = StoreStatus(0x0211)

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
