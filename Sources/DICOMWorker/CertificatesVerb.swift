internal import ArgumentParser
internal import DICOM
internal import Foundation
internal import WorkerProtocol

/// Where the node's certificate, key and trusted issuers are.
struct TLSOptions: ParsableArguments {
    @Option(help: "The section of the configuration that names the files.")
    var tlsSection = "tls"

    @Option(help: "Our certificate, then the intermediate ones (PEM).")
    var tlsCertificate: String?

    @Option(help: "Its private key (PEM, unencrypted).")
    var tlsKey: String?

    @Option(name: .customLong("tls-ca"), help: "Issuers whose certificates peers have to show (PEM).")
    var tlsCA: String?

    /// nil without TLS.
    var files: TLSFiles? {
        guard tlsCertificate != nil || tlsCA != nil else { return nil }
        return TLSFiles(
            section: tlsSection, certificate: tlsCertificate ?? "", key: tlsKey ?? "", authorities: tlsCA)
    }

    /// Key material for the association that a job will ask for, which says what is wrong with it. Confined, a worker
    /// may not read the files any more.
    func requestorIdentity() -> Result<TLSIdentity, TLSFileProblem>? {
        files.map { files in
            Result { () throws(TLSFileProblem) -> TLSIdentity in try TLSIdentity(files, for: .requesting) }
        }
    }

    func validate() throws {
        guard (tlsCertificate == nil) == (tlsKey == nil) else {
            throw ValidationError("a certificate needs its key")
        }
    }
}

/// `ichnode-dicom certificates`: says what there is to say of the node's key material, then exits.
struct Certificates: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "certificates", abstract: "Check the node's certificate, key and trusted issuers.")

    @Flag(help: "They are for associations that the node opens, not for those that it accepts.")
    var forRequests = false

    @OptionGroup var tls: TLSOptions
    @OptionGroup var options: WorkerOptions

    static let confinement = Confinement(fileSizeBytes: 1 << 20, paths: [.init("/dev/null", .write)])

    func run() throws {
        let side = forRequests ? TLSSide.requesting : .accepting
        var report = CertificateReport(findings: [])
        Worker.run(
            "certificates", options,
            confinement: Self.confinement,
            prepare: {
                try Library.prepare()
                // The files may lie anywhere, and are the administrator's: they are read before confinement.
                if let files = tls.files { report = CertificateFindings.report(files, for: side) }
            },
            serve: { channel in try channel.send(report) })
    }
}
