public import WorkerProtocol

/// UIDs of result objects, derived from what they say: the same analysis of the same revision gives the same UIDs for
/// ever, so that a result composed twice after a crash is one object to the PACS.
public struct ResultNaming: Sendable {
    /// Part of a result that has a UID of its own.
    public enum Role: String, Sendable {
        case report, reportSeries, capture, captureSeries, summary, summarySeries, keyObjects, keyObjectsSeries
        case studyTracking, sliceTracking
    }

    private let context: [String]

    /// - Parameters:
    ///   - installation: names this installation; no two have the same.
    ///   - revision: number of the report. What was found before a revision may be found again after it.
    ///   - configurationDigest: over the settings that change what results say.
    public init(
        installation: String, study: UID, revisionDigest: String, modelDigest: String, revision: Int = 1,
        configurationDigest: String
    ) {
        context =
            [installation, study.string, revisionDigest, modelDigest, configurationDigest]
            + (revision > 1 ? ["revision \(revision)"] : [])
    }

    public func uid(_ role: Role, sopClass: UID? = nil, source: UID? = nil) -> UID {
        UID(derivedFrom: context + [role.rawValue, sopClass?.string ?? "", source?.string ?? ""])
    }

    /// The UID of this installation as a device (0018,1002).
    public static func deviceUID(installation: String) -> UID {
        UID(derivedFrom: [installation, "device"])
    }
}
