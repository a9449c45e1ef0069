internal import Foundation
public import Ledger
public import WorkerProtocol

/// A receiver of ORU^R01 messages over MLLP, such as a RIS or an interface engine: a destination, and the words for it.
public struct HL7Receiver: Destination, AlertChannel {
    private let settings: HL7ReceiverSettings
    private let client: MLLPClient

    public init(_ settings: HL7ReceiverSettings) {
        self.settings = settings
        client = MLLPClient(
            .init(
                host: settings.host, port: settings.port, tls: settings.tls, connectTimeout: settings.connectTimeout,
                answerTimeout: settings.acknowledgementTimeout))
    }

    public var name: String { settings.name }

    public func deliver(_ message: OutboundMessage) async throws -> MessageFate {
        do {
            return try await client.exchange(message.body) { try HL7Acknowledgement.fate($0, of: message.id) }
        } catch let failure as MLLPFailure {
            let reason = "receiver at \(settings.host):\(settings.port) \(failure.reason)"
            if failure.code == .connect { throw Unreachable(reason) }
            throw WorkerError(.failed, reason)
        }
    }

    // MARK: Words

    public func message(of alert: FindingAlert, after told: OutboundMessage?) -> OutboundMessage {
        let id = SHA256Digest.hex(of: ["HL7", name, alert.report.string]).prefix(20).uppercased()
        let fillerNumber = told.flatMap { HL7Message($0.body)?.field("ORC", 3) }.map { HL7Field(encoded: $0) }
        let message = HL7FindingMessage(
            convention: settings.convention, id: id, alert: alert,
            fillerNumber: fillerNumber ?? HL7FindingMessage.firstFillerNumber(of: alert))
        return OutboundMessage(id: id, body: message.text)
    }

    /// Patient, presence, probability.
    public func said(by message: OutboundMessage) -> [String?] {
        let message = HL7Message(message.body)
        return [message?.field("PID", 3), message?.field("OBX", 5, set: 2), message?.field("OBX", 5, set: 3)]
    }
}
