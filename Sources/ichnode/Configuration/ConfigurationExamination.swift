import AlertDispatcher
import Foundation
import WorkerProtocol

/// What cannot be seen in a configuration file alone: the certificates, keys, issuers, secrets and programs that it
/// names, as this process may use them.
struct ConfigurationExamination {
    /// In words, without the file's name.
    private(set) var warnings: [String] = []
    private(set) var problems: [String] = []

    /// - Parameters:
    ///   - more: key material beside that of the configuration.
    ///   - held: what is in force: what is wrong with it too is a warning, since it keeps nothing from working.
    /// - Throws: `WorkerError` where a worker does not answer.
    init(
        _ configuration: NodeConfiguration, and more: [NodeConfiguration.KeyMaterial] = [],
        inForce held: NodeConfiguration? = nil
    ) async throws {
        var materials = configuration.keyMaterials
        materials += more.filter { !materials.contains($0) }
        // Peers are numbered: their sections say where in the file they are.
        let heldMaterials = held?.keyMaterials ?? []
        func isHeld(_ material: NodeConfiguration.KeyMaterial) -> Bool {
            heldMaterials.contains { $0.side == material.side && $0.files.paths == material.files.paths }
        }
        for material in materials {
            for finding in try await CertificateWatch.examine([material]).findings {
                switch finding.level {
                case .good: break
                case .warning: note(finding.text, asWarning: true)
                case .bad, .unusable: note(finding.text, asWarning: isHeld(material))
                }
            }
        }
        let heldProblems = held.map { AlertDestinations.problems($0).map(\.text) } ?? []
        for problem in AlertDestinations.problems(configuration) {
            note(problem.text, asWarning: heldProblems.contains(problem.text))
        }
    }

    /// Each thing once, though several ends may have the same files.
    private mutating func note(_ text: String, asWarning isWarning: Bool) {
        if isWarning {
            if !warnings.contains(text) { warnings.append(text) }
        } else if !problems.contains(text) {
            problems.append(text)
        }
    }
}
