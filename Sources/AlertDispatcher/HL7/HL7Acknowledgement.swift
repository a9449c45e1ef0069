internal import Foundation

/// What a receiver answered: ACK of original or enhanced mode (HL7 v2.5.1 §2.9).
enum HL7Acknowledgement {
    /// Of a receiver's text; it may be long, and whatever it says is shown to operators.
    private static let mostCharacters = 200

    /// - Parameter id: MSH-10 of the message that was sent.
    /// - Throws: `MLLPFailure` where this is no answer to it.
    static func fate(_ answer: String, of id: String) throws(MLLPFailure) -> MessageFate {
        guard let message = HL7Message(answer) else { throw MLLPFailure(.unexpected, "answers with no HL7 message") }
        guard let code = message.field("MSA", 1), let answered = message.field("MSA", 2) else {
            throw MLLPFailure(.unexpected, "answers without MSA")
        }
        guard answered == id else { throw MLLPFailure(.unexpected, "answers for another message") }
        switch code {
        // HL7 table 0008.
        case "AA", "CA": return .delivered
        case "AE", "AR", "CE", "CR": return .retry(reason: "receiver answered \(code)" + said(message))
        default: throw MLLPFailure(.unexpected, "answers with an unknown acknowledgement code")
        }
    }

    /// MSA-3, else the code and the text of the first ERR (ERR-3, ERR-8).
    private static func said(_ message: HL7Message) -> String {
        let texts = [message.field("MSA", 3), message.field("ERR", 3), message.field("ERR", 8)].compactMap { $0 }
        let said = texts.filter { !$0.isEmpty }.joined(separator: "; ").prefix(mostCharacters)
        return said.isEmpty ? "" : ": " + ReportText.clean(String(said))
    }
}
