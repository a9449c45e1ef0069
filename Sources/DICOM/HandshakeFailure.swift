internal import CDCMTK
internal import WorkerProtocol

/// Why a TLS handshake failed: which side gave up, and what to do about it.
struct HandshakeFailure: Sendable, Equatable {
    enum Cause: Sendable, Equatable {
        /// The peer ended it with this alert (RFC 8446 §6).
        case alert(UInt8, name: String)
        case noCertificate
        /// We refused the peer's certificate: OpenSSL's X509_V_ERR number, and its words.
        case badCertificate(Int32, words: String)
        /// No version in common; the highest that the peer offers, as on the wire.
        case version(offered: Int32)
        case cipher
        /// What the peer answers is no TLS.
        case noTLS
        case closed
        case timeout
        case other(words: String)
    }

    var cause: Cause
    /// Of the peer's certificate, as it says itself; empty where none was seen.
    var subject = ""
    var issuer = ""
    /// Its validity in seconds since 1970.
    var validFrom: Int64 = 0
    var validTo: Int64 = 0
    var side = TLSSide.accepting
    /// The section of the configuration that names our files.
    var section = "tls"
    /// Whether a message of TLS came from the peer.
    var peerHasSpoken = true

    /// - Parameter seconds: how long the peer had.
    func text(seconds: Double) -> String {
        switch cause {
        case .alert(let number, let name): alertText(number, name)
        case .noCertificate:
            "the peer sent no certificate: give it one from an issuer in \(section).ca, "
                + "or set \(section).client_certificates to none"
        case .badCertificate(let code, let words): "we refused the peer's certificate \(named): \(advice(code, words))"
        case .version(let offered):
            "no TLS version in common: the peer offers \(Self.versionName(offered)) at most, "
                + "the node takes 1.2 and 1.3: raise it at the peer"
        case .cipher:
            "no cipher suite, group or signature algorithm in common: "
                + "allow ECDHE with AES-GCM (BCP 195) at the peer"
        case .noTLS: "the peer answers without TLS: switch it on there and name its TLS port, or set tls: false for it"
        case .closed where side == .requesting && !peerHasSpoken:
            "the peer closed the connection without an answer to our hello: does it speak TLS on this port?"
        case .closed:
            "the peer closed the connection within the handshake, without a reason: "
                + "does it trust the issuer of our certificate?"
        case .timeout where side == .requesting && !peerHasSpoken:
            "no answer to our hello within \(Self.number(seconds)) s: does the peer speak TLS on this port?"
        case .timeout: "the peer stalled within the handshake: not through after \(Self.number(seconds)) s"
        case .other(let words): "the handshake failed: \(words)"
        }
    }

    private var named: String {
        subject.isEmpty ? "(without a name)" : "\"\(subject)\" issued by \"\(issuer)\""
    }

    // MARK: The peer's certificate

    /// X509_V_ERR numbers of OpenSSL's x509_vfy.h.
    private func advice(_ code: Int32, _ words: String) -> String {
        switch code {
        case 2, 18, 19, 20, 21:
            "its issuer is not in \(section).ca: add the issuer to that file, or give the peer another certificate"
        case 7:
            "its signature is not that of an issuer in \(section).ca, though the name is: "
                + "does that file hold an older CA?"
        case 9: "it is not valid yet, but from \(Day.text(validFrom)) on: compare the clocks of both machines"
        case 10: "it has expired (it is valid to \(Day.text(validTo))), or its issuer has: renew it at the peer"
        case 23: "it is revoked: give the peer another"
        case 26 where side == .accepting:
            "it is not made for TLS clients: its extended key usage has to include clientAuth"
        case 26: "it is not made for TLS servers: its extended key usage has to include serverAuth"
        case 62, 64:
            "it does not name the peer's host: give the host as the certificate names it, or set verify_host: false "
                + "for the peer"
        case 66, 67, 68: "\(words): it needs RSA of 2048 bits or more, or an elliptic curve, and SHA-256"
        default: "\(words): give the peer another"
        }
    }

    // MARK: Alerts

    /// RFC 8446 §6.2, and what peers of earlier versions send (RFC 5246 §7.2).
    private func alertText(_ number: UInt8, _ name: String) -> String {
        let alert = "alert \(number), \(name)"
        switch number {
        case 48:
            return "the peer refused our certificate (\(alert)): make it trust the issuer of ours, and see that "
                + "\(section).certificate holds the intermediate ones too"
        case 45:
            return "the peer refused our certificate (\(alert)): renew \(section).certificate, "
                + "or mend the peer's clock"
        case 44: return "the peer refused our certificate (\(alert)): it is revoked; install another"
        case 42, 43, 46:
            return "the peer refused our certificate (\(alert)): see its log for the reason; "
                + (side == .accepting
                    ? "the name in it has to be the one that it calls us by"
                    : "its extended key usage has to include clientAuth")
        case 40, 71:
            return "the peer finds nothing acceptable in what we offer (\(alert)): "
                + "allow ECDHE with AES-GCM (BCP 195) at the peer"
        case 70: return "the peer refuses TLS 1.2 and 1.3 (\(alert)): raise its version"
        default: return "the peer ended the handshake (\(alert)): see its log for the reason"
        }
    }

    private static func versionName(_ number: Int32) -> String {
        switch number {
        case 0x0300: "SSL 3.0"
        case 0x0301: "TLS 1.0"
        case 0x0302: "TLS 1.1"
        case 0x0303: "TLS 1.2"
        case 0x0304: "TLS 1.3"
        default: "version 0x\(String(number, radix: 16))"
        }
    }

    private static func number(_ seconds: Double) -> String {
        seconds == seconds.rounded() ? String(Int(seconds)) : String(seconds)
    }
}

extension HandshakeFailure {
    init(_ handshake: cdcmtk_handshake, _ side: TLSSide, _ files: TLSFiles) {
        let words = DICOM.text(handshake.text)
        cause =
            switch handshake.outcome {
            case CDCMTK_HANDSHAKE_ALERT: .alert(UInt8(truncatingIfNeeded: handshake.code), name: words)
            case CDCMTK_HANDSHAKE_NO_CERTIFICATE: .noCertificate
            case CDCMTK_HANDSHAKE_BAD_CERTIFICATE: .badCertificate(handshake.code, words: words)
            case CDCMTK_HANDSHAKE_VERSION: .version(offered: handshake.code)
            case CDCMTK_HANDSHAKE_CIPHER: .cipher
            case CDCMTK_HANDSHAKE_NO_TLS: .noTLS
            case CDCMTK_HANDSHAKE_CLOSED: .closed
            case CDCMTK_HANDSHAKE_TIMEOUT: .timeout
            default: .other(words: words)
            }
        subject = DICOM.text(handshake.peer_subject)
        issuer = DICOM.text(handshake.peer_issuer)
        validFrom = handshake.peer_not_before
        validTo = handshake.peer_not_after
        self.side = side
        section = files.section
        peerHasSpoken = handshake.peer_has_spoken != 0
    }
}
