import Logging
import Synchronization

/// How much is logged: one level for the whole process, which may change while it runs.
enum LogLevel {
    private static let held = Mutex(Logger.Level.info)

    static var current: Logger.Level { held.withLock { $0 } }

    /// - Parameter name: as the configuration has it.
    static func change(to name: String) { held.withLock { $0 = Logger.Level(rawValue: name) ?? .info } }
}

/// Logs at `LogLevel`, whenever its logger was made; warnings and errors go to the ring too, whatever the level.
struct LevelledLogHandler: LogHandler {
    private var stream: any LogHandler
    private var ring: LogRing.Handler?

    init(_ stream: any LogHandler, ring: LogRing?) {
        self.stream = stream
        self.ring = ring.map { LogRing.Handler(ring: $0) }
    }

    var logLevel: Logger.Level {
        get { ring.map { min($0.logLevel, LogLevel.current) } ?? LogLevel.current }
        // No logger has a level of its own.
        set {}
    }

    var metadata: Logger.Metadata {
        get { stream.metadata }
        set {
            stream.metadata = newValue
            ring?.metadata = newValue
        }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { stream[metadataKey: key] }
        set {
            stream[metadataKey: key] = newValue
            ring?[metadataKey: key] = newValue
        }
    }

    func log(event: LogEvent) {
        if event.level >= LogLevel.current { stream.log(event: event) }
        if let ring, event.level >= ring.logLevel { ring.log(event: event) }
    }
}
