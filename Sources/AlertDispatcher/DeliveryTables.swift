public import WorkerProtocol

/// What becomes of results, for docs/CONFORMANCE.md.
public enum DeliveryTables {
    public static var all: DocumentTables {
        [
            "delivery statuses": StoredStatus.table.map {
                [DocumentText.codes($0.codes), $0.meaning, "delivered"]
            }
                + StoreStatusTable.failures.map {
                    [DocumentText.codes($0.codes), $0.name, $0.isFinal ? "refused for good" : "tried again"]
                },
            "commitment failures": CommitmentFailureTable.reasons.sorted { $0.key < $1.key }.map {
                [
                    DocumentText.code($0.key), $0.value.text,
                    $0.value.isFinal ? "given up, shown to the operator" : "sent, and asked for, again",
                ]
            },
            "result limits": [
                ["Heatmaps of a study", "\(ReportComposer.mostCaptures)", ""],
                ["Slices in a summary", "\(SummaryRenderer.mostSlices)", ""],
            ],
        ]
    }

    /// Of a request for commitment.
    public static func deadline(of job: CommitJob) -> Duration { DICOMCommitment.deadline(of: job) }
}
