public import WorkerProtocol

/// How a data set is encoded (PS3.5 §10): what the node accepts, and what its header reader has to know of it.
public struct TransferSyntax: Hashable, Sendable {
    public let uid: UID
    let isExplicitVR: Bool
    let isBigEndian: Bool
    let isDeflated: Bool

    private init(_ uid: StaticString, explicit: Bool = true, bigEndian: Bool = false, deflated: Bool = false) {
        self.uid = UID(literal: uid)
        isExplicitVR = explicit
        isBigEndian = bigEndian
        isDeflated = deflated
    }

    /// nil for what the node does not accept.
    public init?(_ uid: UID) {
        guard let known = Self.byUID[uid] else { return nil }
        self = known
    }

    public static let implicitLittleEndian = TransferSyntax("1.2.840.10008.1.2", explicit: false)
    public static let explicitLittleEndian = TransferSyntax("1.2.840.10008.1.2.1")
    public static let deflated = TransferSyntax("1.2.840.10008.1.2.1.99", deflated: true)
    public static let explicitBigEndian = TransferSyntax("1.2.840.10008.1.2.2", bigEndian: true)

    /// PS3.6 Table A-1.
    public static let accepted: [TransferSyntax] = [
        .implicitLittleEndian, .explicitLittleEndian, .explicitBigEndian, .deflated,
        TransferSyntax("1.2.840.10008.1.2.4.50"),  // JPEG Baseline (Process 1)
        TransferSyntax("1.2.840.10008.1.2.4.51"),  // JPEG Extended (Process 2 & 4)
        TransferSyntax("1.2.840.10008.1.2.4.53"),  // JPEG Spectral Selection (Process 6 & 8), retired
        TransferSyntax("1.2.840.10008.1.2.4.55"),  // JPEG Full Progression (Process 10 & 12), retired
        TransferSyntax("1.2.840.10008.1.2.4.57"),  // JPEG Lossless (Process 14)
        TransferSyntax("1.2.840.10008.1.2.4.70"),  // JPEG Lossless (Process 14, Selection Value 1)
        TransferSyntax("1.2.840.10008.1.2.4.80"),  // JPEG-LS Lossless
        TransferSyntax("1.2.840.10008.1.2.4.81"),  // JPEG-LS Near-Lossless
        TransferSyntax("1.2.840.10008.1.2.4.90"),  // JPEG 2000 Lossless Only
        TransferSyntax("1.2.840.10008.1.2.4.91"),  // JPEG 2000
        TransferSyntax("1.2.840.10008.1.2.5"),  // RLE Lossless
    ]

    private static let byUID = Dictionary(uniqueKeysWithValues: accepted.map { ($0.uid, $0) })
}
