internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

/// `ichnode-dicom conformance`: tables that `make conformance` writes into docs/CONFORMANCE.md and docs/SECURITY.md.
struct Conformance: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conformance", abstract: "Print the tables of the conformance statement as JSON.",
        shouldDisplay: false)

    func run() throws {
        try Library.prepare()
        var tables = DICOMTables.all
        tables["confinement"] = Self.confinement
        FileHandle.standardOutput.write(try JSONEncoder().encode(tables))
    }

    private static var confinement: [[String]] {
        let resolution = Dictionary(uniqueKeysWithValues: NameResolution.paths.map { ($0.path, "name resolution") })
        return [
            Receive.confinement(incoming: "`incoming/`", studies: "`studies/`").row(of: "receive"),
            Decode.confinement(spool: "spool", niceness: Decode.defaultNiceness).row(of: "decode"),
            Compose.confinement(spool: "spool", output: "results").row(of: "compose"),
            RequestVerb.confinement(reading: ["results"]).row(of: "send", names: resolution),
            RequestVerb.confinement().row(of: "echo, reach, find, move, commit", names: resolution),
            Certificates.confinement.row(of: "certificates"),
            Describe.confinement(results: "results").row(of: "describe"),
        ]
    }
}
