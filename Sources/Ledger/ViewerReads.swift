internal import Dispatch
internal import GRDB
internal import Synchronization

/// Connections that only read. They see what is committed, as the others do.
final class ViewerReads: Sendable {
    static let connections = 3
    static let mostWaiting = 64

    private let database: DatabasePool
    private let underWay = Mutex(0)

    init(path: String) throws {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(10)
        configuration.qos = .default
        configuration.maximumReaderCount = Self.connections
        configuration.prepareDatabase(SQLiteLedger.keepCacheSmall)
        database = try DatabasePool(path: path, configuration: configuration)
    }

    func read<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        let hasRoom = underWay.withLock { count in
            guard count < Self.connections + Self.mostWaiting else { return false }
            count += 1
            return true
        }
        guard hasRoom else { throw LedgerBusy() }
        defer { underWay.withLock { $0 -= 1 } }
        return try await database.read(body)
    }
}

/// Too many look at the ledger at once.
public struct LedgerBusy: Error, CustomStringConvertible {
    public var description: String { "too many look at the ledger at once: try again in a moment" }
}
