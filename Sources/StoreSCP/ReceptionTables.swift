public import WorkerProtocol

/// Limits of receiving and assembling, for docs/CONFORMANCE.md.
public enum ReceptionTables {
    public static var all: DocumentTables {
        [
            "assembly limits": [
                ["Versions of one SOP Instance UID", "\(Spool.mostVersions)", ""],
                ["C-MOVE requests until a study is concluded", "\(CompletionPolicy.mostRetrievals)", ""],
                ["C-MOVE requests at once", "\(StudyAssembler.mostRetrieving)", ""],
            ]
        ]
    }
}
