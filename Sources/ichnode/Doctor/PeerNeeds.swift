import AlertDispatcher
import WorkerProtocol

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
        let senders = peers.filter { $0.fallback == peer.name } + [peer]
        var needs: [Need] = []
        for route in routes {
            if senders.contains(where: { route.maySend(to: $0) }) {
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

extension Route {
    /// Also where it answers to the sender, which may be this peer.
    fileprivate func maySend(to peer: NodeConfiguration.Peer) -> Bool {
        let isSender = callingAETitles.isEmpty || callingAETitles.contains(peer.remote.aeTitle)
        return destinations.contains(peer.name) || isSender && destinations.contains(Self.sender)
    }
}
