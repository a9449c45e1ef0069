internal import CDCMTK
public import WorkerProtocol

/// The tables of the DICOM side, for docs/CONFORMANCE.md.
public enum DICOMTables {
    public static var all: DocumentTables {
        [
            "implementation": [
                ["Implementation Class UID", Implementation.classUID.string],
                ["Implementation Version Name", Implementation.versionName],
                ["Application Context Name", AcceptedAssociation.applicationContext],
            ],
            "storage classes": Library.storageSOPClasses.sorted().map { [$0] },
            "other classes": [
                [PresentationContext.verification, names(of: TransferSyntax.accepted)],
                [PresentationContext.storageCommitment, names(of: TransferSyntax.accepted.filter(isOfReports))],
            ],
            "transfer syntaxes": TransferSyntax.accepted.map { [$0.uid.string] },
            "context refusals": PresentationContext.refusals.map { ["\($0.result)", $0.when] },
            "rejections": Rejection.all.map { ["\($0.result) / \($0.source) / \($0.reason)", $0.name, $0.text] },
            "store statuses": StoreStatus.ofStore.map(row),
            "report statuses": StoreStatus.ofEventReport.map(row),
            "other statuses": [row(.unrecognizedOperation)],
            "requested contexts": requested,
            "move statuses": MoveStatus.failures.map { [DocumentText.codes($0.codes), $0.reason] },
            "commitment statuses": CommitmentStatus.failures.sorted { $0.key < $1.key }.map {
                [DocumentText.code($0.key), $0.value]
            },
            "attributes read": Tag.recorded.sorted { ($0.group, $0.element) < ($1.group, $1.element) }.map {
                [DocumentText.code($0.group), DocumentText.code($0.element)]
            },
            "reception limits": receptionLimits,
            "image limits": imageLimits,
            "requestor limits": [
                ["Maximum PDU length received as SCU", DocumentText.bytes(cdcmtk_requestor_most_pdu_bytes()), ""]
            ],
            "character sets": lines(cdcmtk_character_sets).map { [$0] },
            "cipher suites": lines(cdcmtk_tls_suites).map { line in
                line.split(separator: " ").map(String.init)
            },
        ]
    }

    private static var requested: [[String]] {
        let reports = ReportClass.allCases.map(\.sopClassUID)
        let results = reports + [CaptureWriter.sopClassUID, KeyObjectWriter.sopClassUID]
        let others: [Requestor.Proposal] = [.verification, .studyRootFind, .studyRootMove, .storageCommitment]
        return (results.map { .init(uncompressed: $0.string) } + others).map {
            [$0.abstractSyntax] + $0.transferSyntaxes
        }
    }

    /// What it is, how much, and the key of the configuration that sets it.
    private static var receptionLimits: [[String]] {
        let limits = ObjectLimits()
        return [
            ["A-ASSOCIATE-RQ", DocumentText.bytes(AssociationRequest.mostBytes), ""],
            ["Command set", DocumentText.bytes(CommandSet.mostBytes), ""],
            ["Object", DocumentText.bytes(limits.objectBytes), "dicom.most_object_mebibytes"],
            ["All before Pixel Data", DocumentText.bytes(limits.headerBytes), ""],
            ["An element before Pixel Data", DocumentText.bytes(limits.elementBytes), ""],
            ["Depth of sequences", "\(limits.sequenceDepth)", "dicom.sequence_depth"],
            ["Inflation of Deflated Explicit VR Little Endian", "\(limits.deflateRatio) to 1", ""],
            [
                "Event Information of an N-EVENT-REPORT", DocumentText.bytes(CommitmentReport.mostBytes), "",
            ],
        ]
    }

    private static var imageLimits: [[String]] {
        [
            ["Rows, columns", "\(DecodeLimits.rowsOrColumns)", ""],
            ["Frames", "\(MultiFrame.mostFrames)", ""],
            ["All decoded frames of an object", DocumentText.bytes(DecodeLimits.decodedBytes), ""],
            ["A value within functional groups", DocumentText.bytes(FunctionalGroups.mostValueBytes), ""],
            ["Values within functional groups together", DocumentText.bytes(FunctionalGroups.mostBytes), ""],
            ["Another value that is kept of a header", DocumentText.bytes(ElementScanner.mostKeptBytes), ""],
        ]
    }

    private static func isOfReports(_ syntax: TransferSyntax) -> Bool {
        CommitmentReport.transferSyntaxes.contains(syntax)
    }

    private static func names(of syntaxes: [TransferSyntax]) -> String {
        syntaxes.map(\.uid.string).joined(separator: " ")
    }

    private static func row(_ status: StoreStatus) -> [String] { [DocumentText.code(status.code), status.meaning] }

    /// What a function of the shim writes.
    private static func lines(_ write: (UnsafeMutablePointer<CChar>, Int) -> Void) -> [String] {
        let text = [CChar](unsafeUninitializedCapacity: 4096) { buffer, count in
            guard let start = buffer.baseAddress else { return }
            buffer.initialize(repeating: 0)
            write(start, buffer.count)
            count = buffer.count
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            .split(separator: "\n").map(String.init)
    }
}
