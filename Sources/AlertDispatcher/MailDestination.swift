internal import CLinux
public import Foundation
public import Ledger
public import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// Mail to operators, through this machine's sendmail(8), which relays as the site has set it up.
public struct Mail: Sendable, Equatable {
    public var to: [String]
    public var from: String
    /// A program that takes `-t -i` and the message on its standard input.
    public var sendmail: String
    public var timeout: Duration
    public init(to: [String], from: String, sendmail: String, timeout: Duration) {
        self.to = to
        self.from = from
        self.sendmail = sendmail
        self.timeout = timeout
    }

    /// Whether a text is local@host (RFC 5321 §4.1.2, Dot-string) and nothing that a header could take for more.
    public static func isAddress(_ text: String) -> Bool {
        text.utf8.count <= 254 && text.wholeMatch(of: /[A-Za-z0-9.!#$%&'*+\/=?^_`{|}~-]+@[A-Za-z0-9.-]+/) != nil
    }
}

/// One message for all alerts that are raised or cleared at a time.
public struct MailDestination: Destination, OperatorAlertChannel {
    public static let name = "mail"
    /// Alerts that are written out; of the rest their number.
    private static let mostLines = 50

    public var name: String { Self.name }
    private let mail: Mail
    private let nodeAETitle: AETitle

    public init(_ mail: Mail, nodeAETitle: AETitle) {
        self.mail = mail
        self.nodeAETitle = nodeAETitle
    }

    // MARK: Words

    public func messages(of changes: [OperatorAlertEntry], at moment: Date) throws -> [OutboundMessage] {
        guard !changes.isEmpty else { return [] }
        let id = UUID().uuidString.lowercased()
        let raised = changes.count { $0.clearedAt == nil }
        let counts = [(raised, "raised"), (changes.count - raised, "cleared")].filter { $0.0 > 0 }
        let headers = [
            "From: \(mail.from)", "To: \(mail.to.joined(separator: ", "))",
            "Subject: [\(nodeAETitle)] alerts: \(counts.map { "\($0.0) \($0.1)" }.joined(separator: ", "))",
            "Date: \(Self.date(moment))", "Message-ID: <\(id)@\(mail.from.split(separator: "@").last ?? "localhost")>",
            "Auto-Submitted: auto-generated", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit",
        ]
        var lines = changes.prefix(Self.mostLines).map { change in
            let what = change.clearedAt == nil ? "RAISED" : "CLEARED"
            let again = change.occurrence > 1 ? ", for the \(change.occurrence). time" : ""
            return "\(what) \(change.kind.rawValue) (\(change.id)\(again))\n  \(change.text)\n"
        }
        if changes.count > Self.mostLines { lines.append("… and \(changes.count - Self.mostLines) more\n") }
        lines.append("`ichnode alerts` on the node lists what is active.\n")
        return [OutboundMessage(id: id, body: (headers + [""] + lines).joined(separator: "\n"))]
    }

    /// RFC 5322 §3.3.
    private static func date(_ moment: Date) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.dateFormat = "EEE, d MMM yyyy HH:mm:ss xx"
        return formatter.string(from: moment)
    }

    // MARK: Delivery

    /// Whatever the program complains of, somebody may be about to mend.
    public func deliver(_ message: OutboundMessage) async throws -> MessageFate {
        let process = try start(reading: message.body)
        let status = try await ended(process)
        guard status != 0 else { return .delivered }
        return .retry(reason: "\(mail.sendmail) ended with \(clinux_exit_code(status)): the node's log has its words")
    }

    /// No shell, no environment of the daemon's, no descriptor but the message and the log.
    private func start(reading text: String) throws -> pid_t {
        let bytes = Array(text.utf8)
        let input = clinux_memory_file(bytes, bytes.count)
        guard input >= 0 else { throw WorkerError(.system, "no memory file for a mail: \(Errno.text)") }
        defer { close(input) }
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup(mail.sendmail), strdup("-t"), strdup("-i"), nil]
        var environment: [UnsafeMutablePointer<CChar>?] = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil]
        defer { for text in arguments + environment { free(text) } }
        let process = clinux_spawn(mail.sendmail, &arguments, &environment, input, nil, 0)
        guard process > 0 else { throw Unreachable("cannot start \(mail.sendmail): \(Errno.text)") }
        return process
    }

    private func ended(_ process: pid_t) async throws -> Int32 {
        let deadline = ContinuousClock.now + mail.timeout
        var status: Int32 = 0
        while clinux_reap(process, &status) == 0 {
            if ContinuousClock.now < deadline {
                do { try await Task.sleep(for: .milliseconds(20)) } catch {
                    kill(process, status: &status)
                    throw error
                }
            } else {
                kill(process, status: &status)
                throw WorkerError(.deadline, "\(mail.sendmail) takes too long")
            }
        }
        return status
    }

    /// With what it has started.
    private func kill(_ process: pid_t, status: inout Int32) {
        Glibc.kill(-process, SIGKILL)
        while clinux_reap(process, &status) == 0 { usleep(1000) }
    }
}
