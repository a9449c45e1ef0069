internal import Foundation
internal import Ledger
internal import WorkerProtocol

/// One peer, as configured, and how the last contact with it was.
struct PeerCard {
    var peer: ConfiguredPeer
    var reach: DestinationReach
    /// nil: never.
    var lastDeliveredAt: Date?
    /// nil: not since the start.
    var verification: PeerVerification?
    var now: Date
    var visitor: Visitor

    var html: HTML {
        let remote = peer.remote
        return """
            <article class="card">
            <h2>\(peer.name) \(standing)</h2>
            <dl class="facts">
            <dt>AE title</dt><dd class="mono">\(remote.aeTitle.string)</dd>
            <dt>Address</dt><dd><span class="mono">\(remote.host)</span> port \(remote.port), \(tls)</dd>
            <dt>We call as</dt><dd class="mono">\(peer.callingAETitle.string)</dd>
            <dt>Commitment</dt><dd>\(peer.commits ? "required" : "not asked for")</dd>
            <dt>Fallback</dt><dd>\(fallback)</dd>
            <dt>Last delivered</dt><dd>\(lastDeliveredAt.map(Words.timeElement) ?? "never")</dd>
            <dt>Last contact</dt><dd>\(contact)</dd>
            \(verified)</dl>
            \(verify)
            </article>
            """
    }

    private var tls: String {
        guard let tls = peer.remote.tls else { return "without TLS" }
        return tls.verifiesHost ? "TLS" : "TLS, its host name is not verified"
    }

    private var fallback: String {
        peer.fallback.map { "\($0), after \(Words.span(peer.fallbackAfterSeconds))" } ?? "none"
    }

    private enum Contact {
        case failed(DestinationReach.Blockage)
        case answered(Date)
        case verified(PeerVerification)
        case none
    }

    /// Whichever was last.
    private var last: Contact {
        if let verification, verification.at > reach.lastAnswerAt ?? .distantPast {
            guard let blockage = reach.blockage, verification.at < blockage.since else {
                return .verified(verification)
            }
            return .failed(blockage)
        }
        if let blockage = reach.blockage { return .failed(blockage) }
        return reach.lastAnswerAt.map(Contact.answered) ?? .none
    }

    private var standing: HTML {
        switch last {
        case .failed: "<span class=\"tag positive\">out of reach</span>"
        case .answered: "<span class=\"tag good\">answers</span>"
        case .verified(let result) where result.isGood: "<span class=\"tag good\">answers</span>"
        case .verified: "<span class=\"tag warning\">see below</span>"
        case .none: "<span class=\"tag\">no contact since the start</span>"
        }
    }

    private var contact: HTML {
        switch last {
        case .failed(let blockage):
            return """
                failing since \(Words.timeElement(blockage.since)): \
                \(DestinationCard.error(blockage.reason, visitor)) Next attempt \
                \(DestinationCard.next(blockage.nextAttemptAt, now))
                """
        case .answered(let at): return "answered at \(Words.timeElement(at))"
        case .verified(let result): return "verified at \(Words.timeElement(result.at))"
        case .none: return "none since the start"
        }
    }

    private var verified: HTML? {
        guard let verification, visitor.maySeePatients else { return nil }
        let lines = verification.findings.map { finding -> HTML in
            let tone = finding.isWarning ? "warning" : finding.isGood ? "good" : "positive"
            let word = finding.isWarning ? "note" : finding.isGood ? "good" : "bad"
            return "<li><span class=\"tag \(tone)\">\(word)</span> \(Words.bounded(finding.text, 400))</li>"
        }
        return """
            <dt>Verified</dt><dd>\(Words.timeElement(verification.at)) by \(verification.user), in \
            \(Words.span(verification.seconds))<ul class="objects">\(lines)</ul></dd>

            """
    }

    private var verify: HTML? {
        guard visitor.mayAct else { return nil }
        return """
            <form method="post" action="/peers/verify">\(visitor.csrfField)\
            <input type="hidden" name="peer" value="\(peer.name)"><button>Verify now</button></form>
            """
    }
}
