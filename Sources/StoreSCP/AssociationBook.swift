internal import Foundation
public import Ledger
internal import Synchronization
public import WorkerProtocol

/// Remembers the associations that are open, and the latest that ended or were refused: in memory and bounded, for
/// whoever connects a new sender.
public final class AssociationBook: Sendable {
    /// Lines of those that ended, and of those that were refused: neither drives the other out.
    static let mostLines = 200
    /// Studies of one line.
    static let mostStudies = 100
    /// What comes again within it, and went alike, is one line: a sender may open an association for each object, or
    /// try every few seconds all night.
    static let mergesWithin: TimeInterval = 600
    private static let mostTextCharacters = 400

    private struct State {
        var open: [String: AssociationEntry] = [:]
        /// Oldest first.
        var ended: [AssociationEntry] = []
        var refused: [AssociationEntry] = []
    }

    private let state = Mutex(State())
    private let clock: WallClock

    public init(clock: WallClock = .system) { self.clock = clock }

    public var overview: AssociationOverview {
        state.withLock { state in
            AssociationOverview(
                open: state.open.values.sorted { $0.began > $1.began }, ended: state.ended.reversed(),
                refused: state.refused.reversed())
        }
    }

    func opened(_ id: String, _ connection: AdmittedConnection) {
        let entry = AssociationEntry(
            peerAddress: connection.peerAddress, isSecure: connection.transport == .tls,
            callingAETitle: connection.callingAETitle, calledAETitle: connection.calledAETitle, began: clock.now())
        state.withLock { $0.open[id] = entry }
    }

    func change(_ id: String, _ change: (inout AssociationEntry) -> Void) {
        state.withLock { state in
            guard var entry = state.open[id] else { return }
            change(&entry)
            state.open[id] = entry
        }
    }

    func ended(_ id: String, _ ending: AssociationEntry.Ending) {
        let now = clock.now()
        state.withLock { state in
            guard var entry = state.open.removeValue(forKey: id) else { return }
            entry.ended = now
            entry.ending = Self.bounded(ending)
            if case .refused = ending { Self.add(entry, to: &state.refused) } else { Self.add(entry, to: &state.ended) }
        }
    }

    func refused(_ peer: String, _ transport: Transport, _ request: AssociationRequest?, _ reason: String) {
        let now = clock.now()
        var entry = AssociationEntry(
            peerAddress: peer, isSecure: transport == .tls, callingAETitle: request?.callingAETitle,
            calledAETitle: request?.calledAETitle, began: now)
        entry.ended = now
        entry.ending = Self.bounded(.refused(reason))
        state.withLock { Self.add(entry, to: &$0.refused) }
    }

    private static func add(_ entry: AssociationEntry, to lines: inout [AssociationEntry]) {
        var entry = entry
        let alike = lines.lastIndex { $0.isAlike(entry) }
        if let alike, let last = lines[alike].ended, entry.began.timeIntervalSince(last) < mergesWithin {
            entry.add(lines.remove(at: alike))
        }
        lines.append(entry)
        if lines.count > mostLines { lines.removeFirst() }
    }

    private static func bounded(_ ending: AssociationEntry.Ending) -> AssociationEntry.Ending {
        switch ending {
        case .released: .released
        case .broken(let text): .broken(String(text.prefix(mostTextCharacters)))
        case .refused(let text): .refused(String(text.prefix(mostTextCharacters)))
        }
    }
}

extension AssociationEntry {
    mutating func stored(_ record: InstanceRecord, isKnown: Bool) {
        if isKnown { known += 1 } else { objects += 1 }
        // Wrapped, for a worker that was taken over may tell any size.
        bytes &+= UInt64(max(0, record.fileSize))
        if studies.count < AssociationBook.mostStudies { studies.insert(record.studyInstanceUID) }
    }

    mutating func refusedObject(_ reason: String) {
        refusedObjects += 1
        objectRefusal = String(reason.prefix(200))
    }

    mutating func accepted(_ accepted: AssociationAccepted) {
        callingAETitle = accepted.callingAETitle.string
        calledAETitle = accepted.calledAETitle.string
        certificate = accepted.tls?.peerCertificate.map { String($0.prefix(200)) }
    }

    fileprivate func isAlike(_ other: AssociationEntry) -> Bool {
        ending == other.ending && peerAddress == other.peerAddress && isSecure == other.isSecure
            && callingAETitle == other.callingAETitle && calledAETitle == other.calledAETitle
            && certificate == other.certificate
    }

    fileprivate mutating func add(_ earlier: AssociationEntry) {
        began = min(began, earlier.began)
        count += earlier.count
        objects += earlier.objects
        known += earlier.known
        refusedObjects += earlier.refusedObjects
        objectRefusal = objectRefusal ?? earlier.objectRefusal
        bytes &+= earlier.bytes
        echoes += earlier.echoes
        for study in earlier.studies where studies.count < AssociationBook.mostStudies { studies.insert(study) }
    }
}
