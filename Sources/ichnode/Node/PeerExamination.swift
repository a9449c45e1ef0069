import AlertDispatcher
import Foundation
import WorkerProtocol

/// Asks a peer whether it is there, and whether it takes what the configuration wants of it.
struct PeerExamination: Sendable {
    private let configuration: NodeConfiguration
    private let echo: WorkerProgram

    init(_ configuration: NodeConfiguration, echo: WorkerProgram) {
        self.configuration = configuration
        self.echo = echo
    }

    func examine(_ peer: NodeConfiguration.Peer) async -> [Doctor.Finding] {
        let remote = peer.remote
        let name = "peer \(peer.name) (\(remote.aeTitle) at \(remote.host) port \(remote.port))"
        let needs = configuration.needs(of: peer)
        let reports = ReportClass.allCases.map(\.sopClassUID)
        let wanted = needs.map(\.sopClass)
        let others = Set(wanted).isDisjoint(with: reports) ? [] : reports.filter { !wanted.contains($0) }
        let job = EchoJob(
            peer: remote, callingAETitle: peer.callingAETitle, sopClasses: wanted + others, timeoutSeconds: 5)
        var findings: [Doctor.Finding] = []
        do {
            for event in try await SendClient(program: echo, deadline: .seconds(15)).run(.echo(job)) {
                switch event {
                case .echoed(0, let milliseconds):
                    findings.append(
                        Doctor.Finding(isGood: true, text: "\(name) answers C-ECHO in \(Int(milliseconds)) ms"))
                case .echoed(let status, _):
                    findings.append(
                        Doctor.Finding(
                            isGood: false, text: "\(name) answers C-ECHO with status 0x\(String(status, radix: 16))"))
                case .refused(let refused):
                    let other = reports.first { !refused.contains($0) }
                    findings += needs.filter { refused.contains($0.sopClass) }.map { need in
                        // The outbox sends the report in a class that is accepted.
                        let isReplaced = reports.contains(need.sopClass) && other != nil
                        return Doctor.Finding(
                            isGood: isReplaced, isWarning: isReplaced,
                            text: "peer \(peer.name) accepts no \(need.name): \(need.advice)")
                    }
                case .failed(let failure):
                    findings.append(Doctor.Finding(isGood: false, text: "\(name): \(failure.reason)"))
                default: break
                }
            }
            guard findings.isEmpty else { return findings }
            return [Doctor.Finding(isGood: false, text: "\(name) gave no answer to C-ECHO")]
        } catch { return [Doctor.Finding(isGood: false, text: "\(name): \(error)")] }
    }
}

extension NodeConfiguration {
    /// A SOP class that a peer has to accept.
    struct Need: Equatable {
        var sopClass: UID
        var name: String
        /// What to change where it does not.
        var advice: String
    }

    /// What the configuration wants of a peer, each once.
    func needs(of peer: Peer) -> [Need] {
        let senders = peers.filter { $0.fallback == peer.name }.map(\.name) + [peer.name]
        var needs: [Need] = []
        for route in routes {
            if !Set(route.destinations).isDisjoint(with: senders) {
                needs.append(
                    Need(
                        sopClass: route.reportClass.sopClassUID, name: route.reportClass.title,
                        advice: "allow it there, or change sr_class of the route \(route.name)"))
                needs.append(
                    Need(
                        sopClass: UID(literal: "1.2.840.10008.5.1.4.1.1.7"), name: "Secondary Capture Image Storage",
                        advice: "allow it there; without it no heatmap arrives"))
                if route.keyObjects {
                    needs.append(
                        Need(
                            sopClass: UID(literal: "1.2.840.10008.5.1.4.1.1.88.59"),
                            name: "Key Object Selection Document Storage",
                            advice: "allow it there, or set key_objects: false in the route \(route.name)"))
                }
            }
            if route.countsFrom == peer.name {
                needs.append(
                    Need(
                        sopClass: UID(literal: "1.2.840.10008.5.1.4.1.2.2.1"), name: "Study Root query (C-FIND)",
                        advice: "allow it there, or set counts_from: none in the route \(route.name)"))
            }
            if route.retrieveFrom == peer.name {
                needs.append(
                    Need(
                        sopClass: UID(literal: "1.2.840.10008.5.1.4.1.2.2.2"), name: "Study Root retrieval (C-MOVE)",
                        advice: "allow it there, or set retrieve_from: none in the route \(route.name)"))
            }
        }
        if peer.commitment == .required {
            needs.append(
                Need(
                    sopClass: UID(literal: "1.2.840.10008.1.20.1"), name: "storage commitment",
                    advice: "switch it on there, or set commitment: none for this peer"))
        }
        return needs.reduce(into: []) { found, need in
            if !found.contains(where: { $0.sopClass == need.sopClass }) { found.append(need) }
        }
    }
}
