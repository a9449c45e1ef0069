/// Where a study comes from, as far as its instances say: what routes go by.
public struct StudyOrigin: Sendable, Hashable {
    public var callingAETitle: AETitle?
    public var calledAETitle: AETitle?
    /// Institution Name (0008,0080).
    public var institutionName: String?

    /// The institution for a line of text: a header may hold line breaks, and more than the 64 characters of an LO.
    public var institutionText: String {
        guard let institutionName else { return "unknown" }
        let shown = institutionName.unicodeScalars.prefix(64).map {
            $0.properties.generalCategory == .control ? "?" : $0
        }
        return "\"\(String(String.UnicodeScalarView(shown)))\""
    }

    public init(callingAETitle: AETitle? = nil, calledAETitle: AETitle? = nil, institutionName: String? = nil) {
        self.callingAETitle = callingAETitle
        self.calledAETitle = calledAETitle
        self.institutionName = institutionName
    }

    /// Both AE titles are those of the first instance that has them, the institution that of the first that names one:
    /// what comes later does not move a study to another route.
    public init(_ records: some Sequence<InstanceRecord>) {
        for record in records {
            if callingAETitle == nil, let calling = record.callingAETitle {
                (callingAETitle, calledAETitle) = (calling, record.calledAETitle)
            }
            institutionName = institutionName ?? record.study.institutionName
            if callingAETitle != nil && institutionName != nil { return }
        }
    }
}
