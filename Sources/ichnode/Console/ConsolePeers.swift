import AlertDispatcher
import Console
import Foundation
import Ledger
import StoreSCP
import WorkerProtocol

/// What the console shows of those the node exchanges with.
actor ConsolePeers: NodePeers {
    private let live: LiveConfiguration
    private let ports: DICOMPorts
    private let echo: WorkerProgram
    private let outbox: Outbox
    private let book: AssociationBook
    private let clock: WallClock
    /// Of the peer as it was then.
    private var verified: [String: (peer: NodeConfiguration.Peer, result: PeerVerification)] = [:]
    /// The peer that is being asked.
    private var asked: String?

    /// - Parameter ports: as bound.
    init(
        _ live: LiveConfiguration, ports: DICOMPorts, outbox: Outbox, book: AssociationBook,
        echo: WorkerProgram, clock: WallClock
    ) {
        self.live = live
        self.ports = ports
        self.echo = echo
        self.outbox = outbox
        self.book = book
        self.clock = clock
    }

    nonisolated var peers: [ConfiguredPeer] {
        live.configuration.peers.map { peer in
            ConfiguredPeer(
                name: peer.name, remote: peer.remote, callingAETitle: peer.callingAETitle,
                commits: peer.commitment == .required, fallback: peer.fallback,
                fallbackAfterSeconds: peer.fallbackAfterSeconds)
        }
    }

    nonisolated var destinations: [ConfiguredDestination] { Self.destinations(live.configuration) }

    nonisolated var admission: Admission {
        let configuration = live.configuration
        let rules = configuration.admissionRules { true }
        return Admission(
            aeTitles: rules.calledAETitles, callingAETitles: rules.callingAETitles,
            networks: rules.allowedNetworks.map(\.description), addresses: configuration.dicom.bind,
            plainPort: ports.plain, tlsPort: ports.tls, asksForCertificate: configuration.tls?.clients == .required,
            mostAssociations: rules.mostAssociations, mostAssociationsPerPeer: rules.mostAssociationsPerPeer)
    }

    static func destinations(_ configuration: NodeConfiguration) -> [ConfiguredDestination] {
        func address(_ host: String, _ port: Int, _ tls: PeerTLS?) -> String {
            "\(host):\(port)\(tls == nil ? "" : " within TLS")"
        }
        let peers = configuration.peers.map { peer in
            ConfiguredDestination(
                name: peer.name, kind: .peer, address: address(peer.remote.host, peer.remote.port, peer.remote.tls),
                aeTitle: peer.remote.aeTitle)
        }
        let receivers = configuration.hl7.map { receiver in
            ConfiguredDestination(
                name: receiver.name, kind: .hl7, address: address(receiver.host, receiver.port, receiver.tls))
        }
        let webhooks = configuration.webhooks.map { webhook in
            ConfiguredDestination(name: webhook.name, kind: .webhook, address: origin(webhook.url))
        }
        let mail = configuration.operatorAlerts.mail.map { mail in
            [
                ConfiguredDestination(
                    name: MailDestination.name, kind: .mail, address: mail.to.joined(separator: ", "))
            ]
        }
        return peers + receivers + webhooks + (mail ?? [])
    }

    /// Who knows the rest of such an address may be taken for who it was given to.
    private static func origin(_ url: String) -> String {
        guard var parts = URLComponents(string: url) else { return "" }
        (parts.path, parts.query) = ("", nil)
        return parts.string ?? ""
    }

    func reach() async -> [String: DestinationReach] { await outbox.reach }

    func associations() -> AssociationOverview { book.overview }

    func verifications() -> [String: PeerVerification] {
        let peers = live.configuration.peers
        return verified.filter { peers.contains($0.value.peer) }.mapValues(\.result)
    }

    func verify(_ name: String, by user: String) async throws(ActionRefusal) -> PeerVerification {
        let configuration = live.configuration
        guard let peer = configuration.peers.first(where: { $0.name == name }) else {
            throw ActionRefusal(reason: "no peer has this name")
        }
        if let asked { throw ActionRefusal(reason: "peer \(asked) is being verified: try again in a few seconds") }
        asked = name
        defer { asked = nil }
        let began = ContinuousClock.now
        let findings = await PeerExamination(configuration, echo: echo).examine(peer).map {
            PeerVerification.Finding(
                isGood: $0.level != .bad, isWarning: $0.level == .warning, text: $0.sentence)
        }
        let result = PeerVerification(
            at: clock.now(), user: user, seconds: (ContinuousClock.now - began).inSeconds, findings: findings)
        verified[name] = (peer, result)
        return result
    }
}
