import AlertDispatcher
import Foundation
import Logging
import WorkerProtocol

/// Examines the set-up: everything at once, since much of it is waiting, told in the order of its parts.
struct Doctor {
    /// For each of what is looked at on this machine.
    static let localSeconds = 10.0

    let configuration: NodeConfiguration
    let logger: Logger
    /// Whether it looks with the rights of the node's user; the folders are left out otherwise.
    let isNodeUser: Bool

    /// - Parameter running: nil where that is not known.
    func examine(running: RunningNode?) async -> [SetupFinding] {
        let configuration = configuration
        let isNodeUser = isNodeUser
        async let folders = local(.folderData, "the data directory") {
            isNodeUser ? FolderChecks(configuration).examine() : []
        }
        async let ledger = local(.ledger, "the ledger") {
            isNodeUser ? LedgerCheck(configuration).examine() : []
        }
        async let disk = local(.diskSpace, "free space") { [DiskChecks(configuration).examine()] }
        async let clock = local(.clockOrder, "the clock") { ClockChecks(configuration: configuration).examine() }
        async let system = local(.kernelVersion, "the kernel") {
            SystemChecks(configuration: configuration, runningProcess: running?.standing?.processID).examine()
        }
        async let ports = local(.portDICOM, "ports") {
            PortChecks(configuration: configuration, held: running?.ports).examine()
        }
        async let model = ModelCheck(configuration: configuration, logger: logger).examine()
        async let certificates = certificates()
        async let alertFiles = local(.webhookFiles, "the files of alerts") {
            AlertDestinations.problems(configuration).map { SetupFinding.bad($0.check, $0.subject, $0.text) }
        }
        async let others = endpoints()
        let near = await folders + ledger + disk + model + certificates + alertFiles
        return await near + others + clock + system + ports
    }

    private func local(
        _ check: Check, _ name: String, _ body: @escaping @Sendable () -> [SetupFinding]
    ) async -> [SetupFinding] {
        await bounded(seconds: Self.localSeconds, otherwise: [Self.tooLong(check, name)], body)
    }

    static func tooLong(_ check: Check, _ name: String) -> SetupFinding {
        .bad(
            check, name, "looking at \(name) takes longer than \(Int(localSeconds)) s",
            "does the disk, or a file system of the network, hang?")
    }

    /// Each thing once, though several ends may have the same files.
    private func certificates() async -> [SetupFinding] {
        var findings: [SetupFinding] = []
        for material in configuration.keyMaterials {
            let section = material.files.section
            do {
                for each in try await CertificateWatch.examine([material]).findings
                where !findings.contains(where: { $0.text == each.text }) {
                    let level: SetupFinding.Level =
                        switch each.level {
                        case .good: .good
                        case .warning: .warning
                        case .bad, .unusable: .bad
                        }
                    findings.append(SetupFinding(check: .certificate, subject: section, level: level, text: each.text))
                }
            } catch { findings.append(.bad(.certificate, section, "certificates cannot be checked: \(error)")) }
        }
        return findings
    }

    /// Peers and receivers in the order of the file.
    private func endpoints() async -> [SetupFinding] {
        // Said to be a folder, it is not looked at.
        let data = URL(fileURLWithPath: configuration.node.dataDirectory, isDirectory: true)
        let programs = WorkerPrograms(spool: data, results: data)
        let peers = PeerExamination(configuration, echo: programs.echo)
        let receivers = EndpointExamination(configuration: configuration, program: programs.reach)
        var examinations: [@Sendable () async -> [SetupFinding]] = []
        for peer in configuration.peers { examinations.append { await peers.examine(peer) } }
        for receiver in configuration.hl7 { examinations.append { await receivers.examine(receiver) } }
        for (index, webhook) in configuration.webhooks.enumerated() {
            examinations.append { await receivers.examine(webhook, index: index) }
        }
        return await withTaskGroup(of: (Int, [SetupFinding]).self) { group in
            for (index, examine) in examinations.enumerated() { group.addTask { (index, await examine()) } }
            let found = await group.reduce(into: [Int: [SetupFinding]]()) { $0[$1.0] = $1.1 }
            return examinations.indices.flatMap { found[$0] ?? [] }
        }
    }
}
