import AlertDispatcher
import Ledger
import StoreSCP
import WorkerProtocol

/// The parts of a node without which images or results would wait unnoticed.
struct VitalParts {
    let ledger: SQLiteLedger
    let intake: StudyIntake
    let assembler: StudyAssembler
    let pipeline: StudyPipeline
    let outbox: Outbox
    let watch: OperatorAlertWatch
    let disk: DiskWatch
    let reception: Reception

    var all: [VitalSigns.Part] {
        [
            .answering("task pool") {},
            .init(name: "listener", pulse: reception.acceptingPulse),
            .init(name: "receive workers", pulse: reception.workersPulse),
            .init(name: "intake", pulse: intake.pulse) { [intake] in await intake.nudge() },
            .init(name: "assembler", pulse: assembler.pulse),
            .answering("pipeline") { [pipeline] in await pipeline.answer() },
            .init(name: "outbox", pulse: outbox.pulse),
            .init(name: "operator alerts", pulse: watch.pulse),
            .init(name: "disk watch", pulse: disk.pulse),
            // One that refuses answers too: a full disk is not mended by a restart.
            .answering("ledger") { [ledger] in try? await ledger.waitForWriter() },
        ]
    }

    /// For `systemctl status`.
    func status() async -> String {
        var told = ["\(reception.openAssociations) associations open"]
        do {
            let backlog = try await ledger.backlog()
            let open = backlog.studies.filter { $0.key != .concluded }.values.reduce(0, +)
            told.append("\(open) studies under way")
            told.append("\(backlog.lanes.map(\.owed).reduce(0, +)) deliveries owed")
        } catch { told.append("the ledger cannot be read") }
        switch disk.state {
        case .roomy: break
        case .low: told.append("disk nearly full: nothing is stored")
        case .full: told.append("disk full")
        }
        return told.joined(separator: ", ")
    }
}
