import Foundation
import Ledger
import StoreSCP
import WorkerProtocol

/// Which row of the labels is which study of the folder.
struct LabelJoin {
    /// A study by everything that a row may name it by.
    struct Candidate {
        let studyInstanceUID: UID
        let accessionNumbers: Set<String>
        let patientIDs: Set<String>
        /// Paths of its files relative to the folder.
        let files: [String]

        init(_ study: AssembledStudy, below folder: String) {
            studyInstanceUID = study.studyInstanceUID
            accessionNumbers = Self.values(study.instances.compactMap(\.record.study.accessionNumber))
            patientIDs = Self.values(study.instances.compactMap(\.record.patient.id))
            let root = folder.hasSuffix("/") ? folder : folder + "/"
            files = study.instances.map { $0.path.hasPrefix(root) ? String($0.path.dropFirst(root.count)) : $0.path }
        }

        init(studyInstanceUID: UID, accessionNumber: String? = nil, patientID: String? = nil, files: [String] = []) {
            self.studyInstanceUID = studyInstanceUID
            accessionNumbers = Self.values([accessionNumber].compactMap { $0 })
            patientIDs = Self.values([patientID].compactMap { $0 })
            self.files = files
        }

        private static func values(_ texts: [String]) -> Set<String> {
            Set(texts.map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty })
        }

        /// - Parameter folder: relative; empty for the folder of all studies itself.
        func lies(below folder: String) -> Bool { folder.isEmpty || files.contains { $0.hasPrefix(folder + "/") } }
    }

    /// Row of each study that has one.
    private(set) var rows: [UID: StudyLabels.Row] = [:]
    /// Rows that no study of the folder matches.
    private(set) var unmatched: [StudyLabels.Row] = []
    /// Studies without a row.
    let unlabelled: [UID]

    /// - Throws: `CommandFailure` where a row means several studies, two rows mean one, or none means any.
    init(_ labels: StudyLabels, _ candidates: [Candidate]) throws {
        for row in labels.rows {
            guard let uid = try Self.match(row, candidates, labels.file) else {
                unmatched.append(row)
                continue
            }
            if let other = rows.updateValue(row, forKey: uid) {
                throw CommandFailure(
                    .configuration, "\(labels.file): lines \(other.line) and \(row.line) mean the same study: keep one")
            }
        }
        guard !rows.isEmpty else {
            throw CommandFailure(
                .configuration,
                "no row of \(labels.file) matches a study of the folder: \"study\" has to be its Study Instance UID, "
                    + "Accession Number, Patient ID, or folder below the folder of studies")
        }
        unlabelled = candidates.map(\.studyInstanceUID).filter { [rows] in rows[$0] == nil }
    }

    /// The first kind of name that means one study alone.
    private static func match(_ row: StudyLabels.Row, _ candidates: [Candidate], _ file: String) throws -> UID? {
        let folder = row.key.split(separator: "/").filter { $0 != "." }.joined(separator: "/")
        let kinds: [(name: String, isMeant: (Candidate) -> Bool)] = [
            ("Study Instance UID", { $0.studyInstanceUID.string == row.key }),
            ("Accession Number", { $0.accessionNumbers.contains(row.key) }),
            ("Patient ID", { $0.patientIDs.contains(row.key) }),
            ("folder", { $0.lies(below: folder) }),
        ]
        var several: (name: String, count: Int)?
        for kind in kinds {
            let meant = candidates.filter(kind.isMeant)
            if meant.count == 1 { return meant[0].studyInstanceUID }
            if meant.count > 1, several == nil { several = (kind.name, meant.count) }
        }
        guard let several else { return nil }
        throw CommandFailure(
            .configuration,
            "\(file):\(row.line): \(several.count) studies have this \(several.name): name the Study Instance UID")
    }
}
