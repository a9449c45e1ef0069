public import Foundation

/// Which deliveries are asked for, newest first.
public struct DeliveryQuery: Sendable, Equatable {
    /// nil: all.
    public var destination: String?
    /// Empty: all.
    public var states: Set<DeliveryState>
    public var limit: Int
    /// How many are passed over.
    public var offset: Int

    public init(
        destination: String? = nil, states: Set<DeliveryState> = [], limit: Int, offset: Int = 0
    ) {
        self.destination = destination
        self.states = states
        self.limit = limit
        self.offset = offset
    }

    /// Those that an operator can do something about.
    public static let openStates = Set(DeliveryState.allCases.filter(\.isOpen))
}

/// A part of a longer list.
public struct LedgerPage<Entry: Sendable>: Sendable {
    public var entries: [Entry]
    /// Of the whole list.
    public var total: Int
    public init(_ entries: [Entry], of total: Int) {
        self.entries = entries
        self.total = total
    }
}

/// How a destination fares.
public struct DestinationFigures: Codable, Sendable, Equatable {
    public var destination: String
    /// Not accepted yet.
    public var waiting: Int
    /// When the first of these was made; nil where there is none.
    public var waitingSince: Date?
    /// Accepted, not committed.
    public var uncommitted: Int
    public var givenUp: Int
    /// Since the moment that was asked for.
    public var delivered: Int
    /// Of these, from the study's conclusion to the delivery's end, seconds; nil where there is none.
    public var medianSeconds: Double?
    /// nil: never.
    public var lastDeliveredAt: Date?
    /// Of those not accepted yet, the error of the one that was tried last; nil where none failed.
    public var lastError: String?

    public init(_ destination: String) {
        self.destination = destination
        (waiting, uncommitted, givenUp, delivered) = (0, 0, 0, 0)
    }
}

/// Whether a destination answers, as far as is known since the node's start.
public struct DestinationReach: Sendable, Equatable {
    /// When nothing gets through.
    public struct Blockage: Sendable, Equatable {
        public var since: Date
        public var attempts: Int
        public var nextAttemptAt: Date
        public var reason: String
        public init(since: Date, attempts: Int, nextAttemptAt: Date, reason: String) {
            self.since = since
            self.attempts = attempts
            self.nextAttemptAt = nextAttemptAt
            self.reason = reason
        }
    }

    public var lastAnswerAt: Date?
    /// nil while nothing is known to be in the way.
    public var blockage: Blockage?
    public init(lastAnswerAt: Date? = nil, blockage: Blockage? = nil) {
        self.lastAnswerAt = lastAnswerAt
        self.blockage = blockage
    }
}

extension Ledger {
    /// Pending deliveries of a destination that are due, most urgent first, however long others were put off for.
    public func dueDeliveries(to destination: String, at now: Date, limit: Int) async throws -> [DeliveryEntry] {
        try await dueDeliveries(to: destination, at: now, latest: .distantFuture, limit: limit)
    }

    /// The latest deliveries, newest first.
    /// - Parameter all: also those that are done or withdrawn.
    public func deliveries(all: Bool, limit: Int) async throws -> [DeliveryEntry] {
        let states = all ? [] : DeliveryQuery.openStates
        return try await deliveries(DeliveryQuery(states: states, limit: limit)).entries
    }

    /// The latest alerts, newest first.
    /// - Parameter all: also those that are over.
    public func operatorAlerts(all: Bool, limit: Int) async throws -> [OperatorAlertEntry] {
        try await operatorAlerts(all ? .all : .active, limit: limit, offset: 0).entries
    }
}
