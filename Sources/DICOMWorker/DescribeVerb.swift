internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

/// `ichnode-dicom describe`: says what reports of ours hold, until the daemon closes the channel.
struct Describe: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "describe", abstract: "Say what Structured Reports hold.")

    @Option(help: "The folder of result files; read only.")
    var results: String

    @OptionGroup var options: WorkerOptions

    static func confinement(results: String) -> Confinement {
        Confinement(fileSizeBytes: 1 << 20, paths: [.init(results, .read), .init("/dev/null", .write)], niceness: 5)
    }

    func run() throws {
        let folder = SubtreePath(results)
        Worker.run(
            "describe", options,
            confinement: Self.confinement(results: results),
            prepare: { try ResultWriting.prepare() },
            serve: { channel in
                while let (request, _) = try channel.receive(DescribeRequest.self) {
                    try channel.send(Self.answer(request, below: folder))
                }
            })
    }

    private static func answer(_ request: DescribeRequest, below folder: SubtreePath) throws -> DescribeEvent {
        do {
            return .described(try ReportReading.document(at: try folder.checked(request.path)))
        } catch let error as WorkerError where error.code == .failed {
            return .failed(reason: error.reason)
        }
    }
}
