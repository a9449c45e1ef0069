import ArgumentParser
import Foundation

@main
struct ICHNodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ichnode",
        abstract: "DICOM node that finds intracranial haemorrhage on head CT and reports to the PACS.",
        discussion: """
            A PACS or scanner sends head CT studies by C-STORE; the node answers with a Structured Report and \
            heatmaps. Research use; not for diagnosis.

            Exit codes: 0 success, 1 the command failed, 64 wrong usage, 69 the node does not answer, \
            78 the configuration or set-up has to be changed.
            """,
        version: NodeVersion.string,
        subcommands: [
            ServeCommand.self, AnalyzeCommand.self, EvaluateCommand.self, ModelCommand.self, StudyCommand.self,
            OutboxCommand.self, RouteCommand.self, AlertsCommand.self, AuditCommand.self, ConfigCommand.self,
            ConsoleCommand.self, DoctorCommand.self, BackupCommand.self, RestoreCommand.self, InferCommand.self,
            ConformanceCommand.self,
        ])
}

enum NodeVersion {
    static let string = "0.1.0"
}

/// A command that cannot do what it was asked for, and the exit code that says so (sysexits.h).
struct CommandFailure: Error, CustomStringConvertible {
    enum Code: Int32 {
        case failed = 1
        case unavailable = 69
        case configuration = 78
    }
    let code: Code
    let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}

/// Output of commands.
enum Terminal {
    static func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }
    static func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

    /// Runs a command's work; what goes wrong is said in words and in the exit code.
    static func run(_ body: () async throws -> Void) async throws {
        do { try await body() } catch let wrongUsage as ValidationError {
            throw wrongUsage
        } catch let failure as CommandFailure {
            complain("ichnode: \(failure)")
            throw ExitCode(failure.code.rawValue)
        } catch let error as ConfigurationError {
            complain("\(error)")
            throw ExitCode(CommandFailure.Code.configuration.rawValue)
        } catch {
            complain("ichnode: \(error)")
            throw ExitCode(CommandFailure.Code.failed.rawValue)
        }
    }
}
