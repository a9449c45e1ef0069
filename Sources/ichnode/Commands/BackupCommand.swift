import ArgumentParser
import CLinux
import Foundation
import Glibc
import Ledger
import StoreSCP
import WorkerProtocol

struct BackupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup", abstract: "Make a back-up of a node, which may be running, and check one.",
        subcommands: [Make.self, Verify.self], defaultSubcommand: Make.self)

    struct Make: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a back-up; the default.",
            discussion: """
                Ledger, results, audit trail and installation id, as they are at one moment, in a new folder of PLACE, \
                which is made if need be and holds nothing else. It holds patients' data: only who made it can read \
                it. The node need not be stopped. For the node's user, and for root, who becomes that user first.
                """)

        @OptionGroup var options: ConfigurationOptions

        @Argument(help: "Folder for back-ups, on another disk or machine.")
        var place: String

        @Flag(help: "The received images too.")
        var images = false

        @Option(help: "Remove all but the latest so many of this node afterwards.")
        var keep: Int?

        func validate() throws {
            if let keep, keep < 1 { throw ValidationError("--keep is 1 or more") }
        }

        func run() async throws {
            try await Terminal.run {
                let configuration = try options.load()
                let folders = NodeFolders(of: configuration)
                try NodeUser.become(ownerOf: folders.data.path, making: place)
                umask(0o077)
                clinux_step_back()
                let place = try BackupPlace(place, dataDirectory: folders.data.path)
                let lock = try place.lock()
                defer { close(lock) }
                let writer = BackupWriter(
                    folders: folders, place: place, withImages: images,
                    reserveBytes: configuration.watermarks.association)
                let made = try writer.make()
                Terminal.say("\(made.path): \(made.manifest.summary)")
                let missing = made.manifest.missingResults ?? 0
                guard missing == 0 else {
                    throw CommandFailure(
                        .failed,
                        "\(missing) result files that the ledger names are not in \(folders.results.path): is it "
                            + "mounted? Earlier back-ups may have them, and none is removed")
                }
                guard let keep else { return }
                let name = URL(fileURLWithPath: made.path).lastPathComponent
                for name in try place.removeAllBut(keep, and: name, ofInstallation: made.manifest.installation) {
                    Terminal.say("removed \(name)")
                }
            }
        }
    }

    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read a whole back-up and say whether it is as it was written.")

        @Argument(help: "The back-up.")
        var backup: String

        func run() async throws {
            try await Terminal.run {
                let backup = try Backup(backup)
                _ = try backup.verify()
                Terminal.say("\(backup.path) is whole: \(backup.manifest.summary)")
                if let lack = backup.manifest.lack { Terminal.say(lack) }
            }
        }
    }
}

struct RestoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore", abstract: "Make the data directory anew from a back-up.",
        discussion: """
            Into an empty data directory, of any path and on any machine; the node must not run. The whole back-up is \
            read before anything is changed. Root becomes the owner of the data directory first.
            """)

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: "The back-up: a folder named by its time.")
    var backup: String

    func run() async throws {
        try await Terminal.run {
            let folders = NodeFolders(of: try options.load())
            try NodeUser.become(ownerOf: folders.data.path)
            umask(0o077)
            let backup = try Backup(backup)
            let restore = BackupRestore(backup: backup, folders: folders)
            if let losses = try restore.finishEarlier() {
                Terminal.say(
                    "\(folders.data.path) is restored: an earlier restore had put all in its place, and is finished "
                        + "now; nothing was taken from \(backup.path)")
                for line in losses.report(since: "the back-up it is of") { Terminal.say(line) }
                return
            }
            let losses = try restore.restore()
            Terminal.say("\(folders.data.path) is restored: \(backup.manifest.summary)")
            if let lack = backup.manifest.lack { Terminal.say(lack) }
            for line in losses.report(since: backup.manifest.takenAtText) { Terminal.say(line) }
        }
    }
}

extension BackupManifest {
    var summary: String {
        "\(fileCount) files, \(byteCount >> 20) MiB, of \(takenAtText), version \(nodeVersion), "
            + "\(hasImages ? "with" : "without") images"
    }

    /// nil where nothing is known to lack.
    fileprivate var lack: String? {
        guard let missingResults, missingResults > 0 else { return nil }
        return "\(missingResults) result files that its ledger names were not there when it was made: look for them in "
            + "earlier back-ups"
    }
}

extension RestoredLedger.Losses {
    /// What an operator has to know, and to do.
    fileprivate func report(since moment: String) -> [String] {
        var lines: [String] = []
        if images > 0 { lines.append("\(images) images did not come with it; they count as removed") }
        if !open.isEmpty {
            lines.append("\(open.count) studies had no result yet; the node goes on with them at its start")
        }
        if !openWithoutImages.isEmpty {
            lines.append("of these, have the PACS send again, or they end as not analysed:")
            lines += openWithoutImages.map { "  \($0)" }
        }
        lines.append("the node knows nothing of what came after \(moment): have the PACS send that again too")
        return lines
    }
}
