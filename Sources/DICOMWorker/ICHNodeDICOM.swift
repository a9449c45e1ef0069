internal import ArgumentParser

@main
struct ICHNodeDICOM: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ichnode-dicom",
        abstract: "Everything that touches DICOM bytes, one confined process a job.",
        discussion: """
            These are internal workers of ichnode, which starts them and talks to them over descriptor 3; they are of \
            no use from a shell. Each gives up, before its first job, all files and calls it does not need.
            """,
        subcommands: [
            Receive.self, Decode.self, Compose.self, Send.self, Echo.self, Reach.self, Find.self, Move.self,
            Commit.self, Certificates.self, Describe.self, Conformance.self,
        ])
}
