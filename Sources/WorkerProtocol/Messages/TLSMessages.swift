/// Whose part of a TLS handshake is ours: the server's or the client's.
public enum TLSSide: Sendable { case accepting, requesting }

/// The node's key material. Paths are absolute; for DICOM the daemon never opens the files.
public struct TLSFiles: Codable, Sendable, Hashable {
    /// The section of the configuration that names them, for texts.
    public var section: String
    /// PEM: our certificate, then the intermediate ones. Empty, as the key: we show none.
    public var certificate: String
    /// PEM, unencrypted.
    public var key: String
    /// PEM: issuers whose certificates peers have to show; nil: none is asked for.
    public var authorities: String?

    public init(section: String = "tls", certificate: String, key: String, authorities: String?) {
        self.section = section
        self.certificate = certificate
        self.key = key
        self.authorities = authorities
    }

    /// For the command lines of `ichnode-dicom`, whose verbs read them before they confine themselves.
    public var arguments: [String] {
        ["--tls-section", section]
            + (certificate.isEmpty ? [] : ["--tls-certificate", certificate, "--tls-key", key])
            + (authorities.map { ["--tls-ca", $0] } ?? [])
    }

    /// All of them.
    public var paths: [String] { [certificate, key] + (authorities.map { [$0] } ?? []) }
}

/// `ichnode-dicom certificates` → daemon, its only message.
public struct CertificateReport: Codable, Sendable, Equatable {
    public struct Finding: Codable, Sendable, Equatable {
        public enum Level: String, Codable, Sendable {
            case good
            /// It works, and will not for long, or not with every peer.
            case warning
            /// Peers will refuse it.
            case bad
            /// No handshake is possible.
            case unusable
        }
        public var level: Level
        /// Lower-case phrase: which file, what is wrong, what to do.
        public var text: String
        public init(_ level: Level, _ text: String) {
            self.level = level
            self.text = text
        }
    }

    public var findings: [Finding]
    /// End of our certificate's validity, seconds since 1970; nil where it cannot be read.
    public var expires: Int64?

    public init(findings: [Finding], expires: Int64? = nil) {
        self.findings = findings
        self.expires = expires
    }

    /// Why no handshake is possible; nil where one is.
    public var obstacle: String? { findings.first { $0.level == .unusable }?.text }
}
