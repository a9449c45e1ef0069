public import Foundation
public import WorkerProtocol

/// What the node remembers. An index over the spool: it can be mended and rebuilt from the files, except for the
/// history of analyses and deliveries. Every function is one transaction.
///
/// Errors are those of the store (disk full, corruption); a caller that cannot record must not go on as if it had.
public protocol Ledger: Sendable {
    // MARK: Receiving

    /// Adds instances that are durable in the spool. What is known already is left as it is; our own result objects,
    /// brought back by an auto-routing loop, are listed but change no study.
    /// - Parameter placed: paths that had no file before this one. What the ledger knows of such a file is of one that
    ///   has vanished, and it counts as new.
    /// - Returns: those that were new and not our own.
    @discardableResult
    func recordInstances(_ instances: [StoredInstance], placed: Set<String>) async throws -> [StoredInstance]
    /// All instances that others sent, in order of arrival.
    func instances(ofStudy uid: UID) async throws -> [StoredInstance]
    /// The first of them.
    func firstInstance(ofStudy uid: UID) async throws -> StoredInstance?
    /// For mending at start-up.
    func instancePaths(ofStudy uid: UID) async throws -> [String: FileStanding]

    /// Images did not arrive, or were refused; until they are recorded as instances. Of a study of which this was not
    /// known, and of which there is something, nothing is concluded any more. Only so many are kept, the latest.
    /// - Parameter images: SOP Instance UIDs; nil where nothing is known of one.
    /// - Returns: the studies of which it was not known.
    func recordLostImages(_ images: [(study: UID, instance: UID?)]) async throws -> Set<UID>
    /// What was recorded without a SOP Instance UID has come, as far as anybody knows.
    func forgetLostImages(ofStudy uid: UID) async throws
    func lostImages(ofStudy uid: UID) async throws -> LostImages

    // MARK: Studies

    /// Marks a study as being analysed; one that holds other files than the analysis sees stays `receiving`.
    /// - Parameters:
    ///   - count: of the instances that it sees, those whose files were not removed.
    ///   - decision: why it is put together; kept as an event.
    /// - Returns: how often its analysis was begun since it last ended: more than a few, and it ends the node.
    func beginAnalysis(ofStudy uid: UID, seeing count: Int, because decision: String) async throws -> Int
    /// Studies that arrived but have no outcome for what arrived.
    func unconcludedStudies() async throws -> [UID]
    func recordVerdicts(_ verdicts: [SeriesVerdictEntry], ofStudy uid: UID) async throws
    func recordEvent(_ kind: String, _ text: String, ofStudy uid: UID) async throws

    /// Writes the outcome, the result objects and the deliveries owed, all or nothing. A study in state `analysing` is
    /// concluded by it; one that received more meanwhile stays open. Its earlier deliveries that are still owed
    /// become as urgent as the new ones: a revision does not overtake what it revises.
    /// - Returns: false where an operator has the study ignored by now: it is concluded unchanged then.
    @discardableResult
    func conclude(_ analysis: AnalysisEntry, objects: [ComposedObject], deliveries: [NewDelivery]) async throws -> Bool
    /// Concludes a study without a new analysis.
    /// - Parameter reason: why there is none; kept as an event.
    func concludeUnchanged(study uid: UID, because reason: String) async throws
    /// Gives an analysis up that was begun, as if it had not been: the study is put together again.
    func abandonAnalysis(ofStudy uid: UID, because reason: String) async throws
    /// The node stops in order while a study is analysed: this time is not among those that its analysis was begun.
    func interruptAnalysis(ofStudy uid: UID) async throws
    /// All result objects of a study, in the order that they were made.
    func resultObjects(ofStudy uid: UID) async throws -> [ComposedObject]
    func history(ofStudy uid: UID) async throws -> StudyHistory
    func decision(onStudy uid: UID) async throws -> OperatorDecision?
    /// - Returns: false where no such study is known.
    func record(_ decision: OperatorDecision?, onStudy uid: UID) async throws -> Bool
    /// Opens a study for one more analysis: it is not concluded until that ends, and a restart takes it up.
    /// - Parameters:
    ///   - isReleased: one that is ignored is not any more, any other is analysed whatever its identity.
    ///   - event: kept as one of its own kind.
    /// - Returns: false where none of its images is left; then nothing is changed.
    func reopen(_ uid: UID, releasing isReleased: Bool, because event: String) async throws -> Bool
    /// Whether no analysis has ended since that began after an operator had the study opened again.
    func isReopened(_ uid: UID) async throws -> Bool

    // MARK: Forgetting

    /// Marks what retention may remove: of the study longest concluded whose instances all came before a moment, and of
    /// which nothing is owed to anybody. Never of a head CT that nobody was ever sent a report of, or that is held,
    /// unless it is ignored.
    /// - Returns: the paths of its files; nil where there is no such study. They are to be removed now, or at the next
    ///   start.
    func purgeOldestStudy(receivedBefore moment: Date) async throws -> (study: UID, paths: [String])?
    // MARK: Peers

    /// Pauses of each peer between two associations for one study, seconds, as last recorded.
    func associationGaps() async throws -> [String: [Double]]
    func recordAssociationGaps(_ gaps: [Double], ofPeer peer: String) async throws

    // MARK: Outbox

    /// Pending deliveries of a destination that are due, most urgent first.
    /// - Parameter latest: nothing is put off for longer. What seems to be was by a clock that has been set back since,
    ///   and is due.
    func dueDeliveries(
        to destination: String, at now: Date, latest: Date, limit: Int
    ) async throws -> [DeliveryEntry]
    /// What waits, by destination.
    /// - Parameter latest: as above.
    func pendingLanes(at now: Date, latest: Date) async throws -> [String: PendingLane]
    /// Where it, or its first object, is accepted, earlier ones of the study that the destination still has to take, or
    /// that were given up, are withdrawn.
    func updateDelivery(_ delivery: DeliveryEntry) async throws
    func pendingDeliveryCount() async throws -> Int
    func delivery(_ id: Int64) async throws -> DeliveryEntry?
    /// All that the study ever had, oldest first.
    func deliveries(ofStudy uid: UID) async throws -> [DeliveryEntry]
    func deliveries(_ query: DeliveryQuery) async throws -> LedgerPage<DeliveryEntry>
    /// Of the destinations named, and of all others that something is owed to, by name.
    /// - Parameter since: from when on what was delivered counts.
    func destinationFigures(of names: [String], since: Date) async throws -> [DestinationFigures]
    /// Has a delivery that waits or was given up tried again now, for all objects that the destination has not taken,
    /// or not committed.
    /// - Returns: nil where no such delivery is open.
    func retryDelivery(_ id: Int64) async throws -> DeliveryEntry?
    /// Withdraws a delivery that waits or was given up.
    /// - Returns: nil where no such delivery is open.
    func discardDelivery(_ id: Int64) async throws -> DeliveryEntry?
    /// Makes new deliveries of the objects of the study's latest report, as they are, to every destination that they
    /// were owed to. What is still open of the earlier ones is withdrawn; messages are not sent again.
    /// - Returns: the deliveries; none where the study has no report.
    func resendDeliveries(ofStudy uid: UID) async throws -> [DeliveryEntry]

    // MARK: Storage commitment

    /// Of each destination the first accepted delivery whose next attempt is due: to be asked for, or without a report
    /// for too long.
    /// - Parameter latest: no request is put off for longer, and none was made after it.
    func dueCommitments(at now: Date, latest: Date) async throws -> [DeliveryEntry]
    /// Before a destination is asked: its report may be here before its response.
    /// - Returns: false where the delivery is not accepted any more, and must not be asked for.
    func beginCommitment(ofDelivery id: Int64, under transaction: UID) async throws -> Bool
    /// Changes the delivery that was asked for last under a transaction, in one step; one that has gone on from
    /// accepted is left as it is.
    /// - Returns: the delivery, and whether it was changed; nil where there is none.
    func changeDelivery(
        under transaction: UID, _ change: @escaping @Sendable (inout DeliveryEntry) -> Void
    ) async throws -> (delivery: DeliveryEntry, isChanged: Bool)?
    func uncommittedDeliveryCount() async throws -> Int

    // MARK: Operators' alerts

    /// What is not done yet.
    /// - Parameter reason: begins the reason of studies that are held.
    func openWork(heldFor reason: String) async throws -> OpenWork
    /// The same in numbers.
    func backlog() async throws -> Backlog
    /// Raises the conditions that are not active, and clears what is active and not among them, together with the
    /// messages about both, all or nothing.
    /// - Parameter messages: of what was raised and cleared; not called where nothing was.
    /// - Returns: what was raised and cleared.
    func updateOperatorAlerts(
        to conditions: [OperatorCondition],
        messages: @escaping @Sendable ([OperatorAlertEntry]) throws -> [NewDelivery]
    ) async throws -> [OperatorAlertEntry]
    /// Newest first.
    func operatorAlerts(
        _ standing: OperatorAlertStanding, limit: Int, offset: Int
    ) async throws -> LedgerPage<OperatorAlertEntry>
    /// The latest alerts about one subject, newest first.
    func operatorAlerts(about subject: String, limit: Int) async throws -> [OperatorAlertEntry]

    // MARK: Figures

    /// What became of the studies whose last image came within one of the days, and how long it took.
    /// - Parameter days: each begins where the one before it ends.
    func figures(ofDays days: [DateInterval]) async throws -> StudyFigures
    func standing() async throws -> LedgerStanding
    /// Looks at each image that the spool has: not for every request.
    func spoolStanding(receivedSince moment: Date) async throws -> SpoolStanding

    // MARK: Looking

    func studies(limit: Int) async throws -> [StudyEntry]
    func studies(matching query: StudyQuery) async throws -> StudyListing
    /// How many studies each query finds, in one pass.
    func studyCounts(matching queries: [StudyQuery]) async throws -> [Int]
    func study(_ uid: UID) async throws -> StudyDetail?

    // MARK: Watching

    /// - Parameter onChange: called after every transaction that changed something of `LedgerChange`, while the next
    ///   waits: it must return at once.
    func observeChanges(_ onChange: @escaping @Sendable (Set<LedgerChange>) -> Void) -> any LedgerObservation
}

extension Ledger {
    /// Those of which it is not known whether their files were there before.
    @discardableResult
    public func recordInstances(_ instances: [StoredInstance]) async throws -> [StoredInstance] {
        try await recordInstances(instances, placed: [])
    }
}
