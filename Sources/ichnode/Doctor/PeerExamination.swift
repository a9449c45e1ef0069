import AlertDispatcher
import Foundation
import WorkerProtocol

/// Asks a peer whether it is there, and whether it takes what the configuration wants of it.
struct PeerExamination: Sendable {
    private static let timeoutSeconds = 5.0
    /// For the connection, the handshake and the answer.
    private static let deadline: Duration = .seconds(20)

    private let configuration: NodeConfiguration
    private let echo: WorkerProgram

    init(_ configuration: NodeConfiguration, echo: WorkerProgram) {
        self.configuration = configuration
        self.echo = echo
    }

    /// What comes after the first that fails is left out.
    func examine(_ peer: NodeConfiguration.Peer) async -> [SetupFinding] {
        let remote = peer.remote
        let name = "peer \(peer.name) (\(remote.aeTitle) at \(remote.host) port \(remote.port))"
        let needs = configuration.needs(of: peer)
        let wanted = needs.map(\.sopClass)
        let others = Set(wanted).isDisjoint(with: Self.reports) ? [] : Self.reports.filter { !wanted.contains($0) }
        let job = EchoJob(
            peer: remote, callingAETitle: peer.callingAETitle, sopClasses: wanted + others,
            timeoutSeconds: Self.timeoutSeconds)
        var findings: [SetupFinding] = []
        do {
            for event in try await SendClient(program: echo, deadline: Self.deadline).run(.echo(job)) {
                switch event {
                case .reached(_, let session?):
                    let days = configuration.operatorAlerts.certificateDays
                    findings.append(session.finding(.peerTLS, peer.name, "peer \(peer.name)", warningDays: days))
                case .echoed(0, let milliseconds):
                    findings.append(
                        .good(.peerEcho, peer.name, "\(name) answers C-ECHO in \(Int(milliseconds)) ms"))
                case .echoed(let status, _):
                    findings.append(
                        .bad(
                            .peerEcho, peer.name,
                            "\(name) answers C-ECHO with status 0x\(String(status, radix: 16))", "see its log"))
                case .refused(let refused): findings += contexts(peer, needs, refused)
                case .failed(let failure):
                    let said = "\(name): the peer speaks TLS on this port: set tls: true for it"
                    findings.append(
                        await speaksTLS(peer, failure)
                            ? .bad(.peerTLS, peer.name, said) : Self.finding(failure, peer, name))
                default: break
                }
            }
        } catch { return [.bad(.peerAssociation, peer.name, "\(name): \(error)")] }
        guard !findings.isEmpty else {
            return [.bad(.peerEcho, peer.name, "\(name) gave no answer to C-ECHO", "see its log")]
        }
        let isAsked = configuration.routes.contains { $0.countsFrom == peer.name }
        guard isAsked, findings.allSatisfy({ $0.level != .bad }) else { return findings }
        return findings + [await query(peer, name)]
    }

    private static let reports = ReportClass.allCases.map(\.sopClassUID)

    private func contexts(_ peer: NodeConfiguration.Peer, _ needs: [NodeConfiguration.Need], _ refused: [UID])
        -> [SetupFinding]
    {
        let other = Self.reports.first { !refused.contains($0) }
        let missing = needs.filter { refused.contains($0.sopClass) }
        guard !missing.isEmpty else {
            let names = needs.map(\.name).joined(separator: ", ")
            return [.good(.peerContexts, peer.name, "peer \(peer.name) accepts \(names)")]
        }
        return missing.map { need in
            // The outbox sends the report in a class that is accepted.
            let isReplaced = Self.reports.contains(need.sopClass) && other != nil
            return SetupFinding(
                check: .peerContexts, subject: peer.name, level: isReplaced ? .warning : .bad,
                text: "peer \(peer.name) accepts no \(need.name)", advice: need.advice)
        }
    }

    private static func finding(
        _ failure: SendFailure, _ peer: NodeConfiguration.Peer, _ name: String
    ) -> SetupFinding {
        let text = "\(name): \(failure.reason)"
        switch failure.kind {
        case .name:
            return .bad(
                .peerName, peer.name, text, "correct host of this peer in the file, or this machine's DNS")
        case .connect:
            return .bad(
                .peerTCP, peer.name, text,
                "does the PACS run, and listen there? Check host and port of this peer in the file, and the firewall "
                    + "between")
        case .handshake, .needsTLS: return .bad(.peerTLS, peer.name, text)
        default: return .bad(.peerAssociation, peer.name, text, advice(failure, peer))
        }
    }

    private static func advice(_ failure: SendFailure, _ peer: NodeConfiguration.Peer) -> String? {
        switch failure.refusedTitle {
        case .called?:
            "write the PACS's own AE title, in upper and lower case as there, in ae_title of this peer in the file; "
                + "some archives say this also where they do not know ours: enter \(peer.callingAETitle) there"
        case .calling?:
            "enter \(peer.callingAETitle) with this machine's address at the PACS, or write the title by which it "
                + "knows the node in calling_ae_title of this peer"
        case nil: nil
        }
    }

    /// Some that speak TLS alone close without a word on what they take for a broken hello.
    private func speaksTLS(_ peer: NodeConfiguration.Peer, _ failure: SendFailure) async -> Bool {
        guard peer.remote.tls == nil, failure.kind == .aborted else { return false }
        // Whose certificate it is does not matter here.
        let tls = PeerTLS(files: EndpointExamination.systemFiles(section: "peers"), verifiesHost: false)
        let job = ReachJob(
            host: peer.remote.host, port: peer.remote.port, tls: tls, timeoutSeconds: Self.timeoutSeconds)
        let reach = WorkerProgram(path: echo.path, arguments: ["reach"])
        let events = try? await SendClient(program: reach, deadline: Self.deadline).run(.reach(job))
        return events?.contains { event in
            switch event {
            case .reached: true
            case .failed(let failure): failure.speaksTLS == true
            default: false
            }
        } ?? false
    }

    /// Asks for a study that nobody has: whether we may ask is all that the answer says.
    private func query(_ peer: NodeConfiguration.Peer, _ name: String) async -> SetupFinding {
        let advice = "allow \(peer.callingAETitle) to query there, or set counts_from: none in the routes that name it"
        let find = WorkerProgram(path: echo.path, arguments: ["find"])
        do {
            guard let nobodys = UID("2.25.\(UInt64.random(in: 1...UInt64.max))") else { preconditionFailure("a UID") }
            let job = FindJob(
                peer: peer.remote, callingAETitle: peer.callingAETitle, studyInstanceUID: nobodys,
                timeoutSeconds: Self.timeoutSeconds)
            for case .failed(let failure) in try await SendClient(program: find, deadline: Self.deadline)
                .run(.find(job))
            {
                return .bad(.peerQuery, peer.name, "\(name) does not answer C-FIND: \(failure.reason)", advice)
            }
            return .good(.peerQuery, peer.name, "peer \(peer.name) answers C-FIND")
        } catch { return .bad(.peerQuery, peer.name, "\(name) does not answer C-FIND: \(error)", advice) }
    }
}
