import AlertDispatcher
import ArgumentParser
import Foundation
import ICHModel
import StoreSCP
import WorkerProtocol

/// `ichnode conformance`: tables that `make conformance` writes into docs/CONFORMANCE.md and docs/SECURITY.md.
struct ConformanceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conformance", abstract: "Print the tables of the conformance statement as JSON.",
        shouldDisplay: false)

    func run() throws {
        var tables = DeliveryTables.all.merging(ReceptionTables.all) { first, _ in first }
        let (configuration, parameters) = try Self.defaults()
        tables["parameters"] = parameters
        tables["timeouts"] = Self.timeouts(configuration)
        tables["deadlines"] = Self.deadlines(configuration)
        tables["confinement"] = [Self.confinement]
        tables["audit codes"] = Self.auditCodes
        FileHandle.standardOutput.write(try JSONEncoder().encode(tables))
    }

    /// What has to be given, and what is off unless its section is there.
    private static let leastConfiguration = """
        peers: [{name: pacs, ae_title: PACS, host: 10.1.2.3}]
        routes: [{name: default, destinations: [pacs]}]
        tls: {certificate: /certificate.pem, key: /key.pem, ca: /ca.pem}
        """

    /// - Returns: also section, key and default of each parameter; an empty default where there is none.
    private static func defaults() throws -> (NodeConfiguration, parameters: [[String]]) {
        let problems = ConfigurationProblems()
        let configuration = try ConfigurationReader.parse(leastConfiguration, file: "defaults", problems: problems)
        return (configuration, problems.asked.map { [$0.section, $0.key, $0.fallback ?? ""] })
    }

    private static func timeouts(_ configuration: NodeConfiguration) -> [[String]] {
        let (peer, title) = (configuration.peers[0].remote, configuration.node.aeTitle)
        let store = StoreJob(peer: peer, callingAETitle: title, objects: [])
        let commit = commitJob(configuration)
        return [
            ["Connection, and again the TLS handshake", DocumentText.seconds(store.connectTimeoutSeconds)],
            ["Response to a C-STORE", DocumentText.seconds(store.responseTimeoutSeconds)],
            ["All objects of a delivery", DocumentText.seconds(DICOMDestination.defaultDeadline)],
            ["C-FIND: connection, each response", DocumentText.seconds(QueryRetrieve.answerSeconds)],
            ["C-MOVE: connection, each response", DocumentText.seconds(QueryRetrieve.responseSeconds)],
            ["C-MOVE in all, then C-CANCEL", DocumentText.seconds(QueryRetrieve.mostSeconds)],
            ["N-ACTION: connection, response", DocumentText.seconds(commit.timeoutSeconds)],
            ["N-EVENT-REPORT on the same association", DocumentText.seconds(commit.reportSeconds)],
        ]
    }

    private static func deadlines(_ configuration: NodeConfiguration) -> [[String]] {
        let all: [(String, Duration)] = [
            ("an association", .seconds(configuration.dicom.associationDeadlineSeconds)),
            ("a decode request", DecodeClient.defaultDeadline), ("composing", ReportComposer.deadline),
            ("a delivery", DICOMDestination.defaultDeadline), ("a query", QueryRetrieve.findDeadline),
            ("a retrieval", QueryRetrieve.moveDeadline),
            ("a request for commitment", DeliveryTables.deadline(of: commitJob(configuration))),
            ("an inference call", InferenceChild.Deadlines().encode),
        ]
        return all.map { [$0, DocumentText.seconds($1)] }
    }

    private static func commitJob(_ configuration: NodeConfiguration) -> CommitJob {
        CommitJob(
            peer: configuration.peers[0].remote, callingAETitle: configuration.node.aeTitle,
            transactionUID: UID(literal: "2.25.1"), objects: [])
    }

    private static var confinement: [String] {
        let libraries = InferenceServer.libraries.map { ($0, "libraries") }
        let machine = InferenceServer.machine.map { ($0, "processor's topology") }
        return InferenceServer.confinement(modelDirectory: "model").row(
            of: "infer", names: Dictionary(libraries + machine) { first, _ in first })
    }

    private static var auditCodes: [[String]] {
        let kinds: [(String, [AuditCode])] = [
            ("Event ID", AuditCode.events), ("Event Type Code", AuditCode.types), ("Role ID Code", AuditCode.roles),
            ("Participant Object ID Type Code", AuditCode.objectIDTypes),
        ]
        return kinds.flatMap { kind, codes in codes.map { [kind, $0.value, $0.system, $0.meaning] } }
    }
}
