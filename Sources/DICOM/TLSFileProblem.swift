internal import CDCMTK
internal import WorkerProtocol

/// What is wrong with the node's certificate, key or list of issuers.
public struct TLSFileProblem: Error, Sendable, Equatable, CustomStringConvertible {
    enum File: String, Sendable {
        case certificate
        case key
        case authorities = "ca"
    }

    enum State: Sendable, Equatable {
        case unreadable(String)
        /// Its mode, octal.
        case tooOpen(String)
        case tooLarge
        case empty
        case damaged(String)
        case encrypted
        case mismatch
        case tooWeak(String)
        case failed(String)
    }

    var file: File
    var path: String
    var state: State
    /// The other one of the two that have to belong together.
    var certificatePath = ""
    /// Of the configuration.
    var section = "tls"

    public var description: String { "\(section).\(file.rawValue) \(path) \(fault)" }

    private var fault: String {
        switch state {
        case .unreadable(let why): "cannot be read (\(why)): name a file that the node's user may read"
        case .tooOpen(let mode):
            "is open to others (mode \(mode)): chmod 640, with the node's group, or 600, with the node's user"
        case .tooLarge: "is over 1 MiB: that is no \(file == .key ? "key" : "certificate") in PEM"
        case .empty:
            file == .key
                ? "holds no private key in PEM (-----BEGIN PRIVATE KEY-----): convert it with openssl pkey"
                : "holds no certificate in PEM (-----BEGIN CERTIFICATE-----): convert it with openssl x509"
        case .damaged(let why): "is damaged (\(why)): copy it again"
        case .encrypted:
            "is encrypted, and nobody is there to type a passphrase: decrypt it with openssl pkey -in … -out …"
        case .mismatch: "is not the key of \(section).certificate \(certificatePath): install both of one renewal"
        case .tooWeak(let why):
            "is too weak (\(why)): it needs RSA of 2048 bits or more, or an elliptic curve, and SHA-256"
        case .failed(let why): "is refused by OpenSSL: \(why)"
        }
    }
}

extension TLSFileProblem {
    init(_ problem: cdcmtk_tls_problem, _ files: TLSFiles) {
        let words = text(problem.text)
        (file, path) =
            switch problem.file {
            case CDCMTK_FILE_KEY: (.key, files.key)
            case CDCMTK_FILE_AUTHORITIES: (.authorities, files.authorities ?? "")
            default: (.certificate, files.certificate)
            }
        state =
            switch problem.state {
            case CDCMTK_FILE_UNREADABLE: .unreadable(words)
            case CDCMTK_FILE_TOO_OPEN: .tooOpen(words)
            case CDCMTK_FILE_TOO_LARGE: .tooLarge
            case CDCMTK_FILE_EMPTY: .empty
            case CDCMTK_FILE_DAMAGED: .damaged(words)
            case CDCMTK_FILE_ENCRYPTED: .encrypted
            case CDCMTK_FILE_MISMATCH: .mismatch
            case CDCMTK_FILE_TOO_WEAK: .tooWeak(words)
            default: .failed(words)
            }
        certificatePath = files.certificate
        section = files.section
    }
}
