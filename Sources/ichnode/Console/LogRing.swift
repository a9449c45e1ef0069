import Console
import Foundation
import Logging
import Synchronization

/// The latest warnings and errors of the log, for whoever does not read the log. As the log has them: what can identify
/// a patient is in neither.
final class LogRing: Sendable {
    static let mostLines = 100
    /// A line that quotes a peer may be long.
    static let mostCharacters = 1000

    private let held = Mutex<[SystemFacts.LogLine]>([])

    /// Oldest first.
    var lines: [SystemFacts.LogLine] { held.withLock { $0 } }

    func add(_ line: SystemFacts.LogLine) {
        held.withLock { lines in
            if lines.count >= Self.mostLines { lines.removeFirst(lines.count - Self.mostLines + 1) }
            lines.append(line)
        }
    }

    struct Handler: LogHandler {
        let ring: LogRing
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.warning

        init(ring: LogRing) { self.ring = ring }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let all = metadata.merging(event.metadata ?? [:]) { $1 }
            let details = all.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
            let text = (["\(event.message)"] + details).joined(separator: " ")
            ring.add(.init(at: Date(), level: event.level.rawValue, text: String(text.prefix(LogRing.mostCharacters))))
        }
    }
}
