import AlertDispatcher
import Foundation
import WorkerProtocol

/// What cannot be seen in a configuration file alone: the certificates, keys, issuers, secrets and programs that it
/// names, as this process may use them.
struct ConfigurationExamination {
    /// In words, without the file's name.
    private(set) var warnings: [String] = []
    private(set) var problems: [String] = []

    /// - Parameter more: key material beside that of the configuration.
    /// - Throws: `WorkerError` where a worker does not answer.
    init(_ configuration: NodeConfiguration, and more: [NodeConfiguration.KeyMaterial] = []) async throws {
        var materials = configuration.keyMaterials
        materials += more.filter { !materials.contains($0) }
        for finding in try await CertificateWatch.examine(materials).findings {
            switch finding.level {
            case .good: break
            case .warning: warnings.append(finding.text)
            case .bad, .unusable: problems.append(finding.text)
            }
        }
        problems += AlertDestinations.problems(configuration).map(\.text)
    }
}
