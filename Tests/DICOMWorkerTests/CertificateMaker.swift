import Foundation
import Testing
import WorkerProtocol

/// Certificates made for one test by the openssl program. Nothing of them is in the repository.
final class CertificateMaker: Sendable {
    let folder: TemporaryFolder

    static let isThere = Surroundings.tool("openssl") != nil

    init() throws { folder = try TemporaryFolder() }

    func path(_ name: String) -> String { "\(folder.path)/\(name).pem" }

    private func openssl(_ arguments: String) async throws {
        let words = arguments.split(separator: " ").map(String.init)
        let (status, output) = try await run("openssl", words)
        try #require(status == 0, "openssl \(arguments): \(output)")
    }

    func authority(_ name: String) async throws {
        try await openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=\(name)"
                + " -keyout \(path(name + "-key")) -out \(path(name))")
    }

    /// - Parameter extensions: lines of an extension file.
    func certificate(
        _ name: String, by authority: String, days: Int = 30, key: String = "ec -pkeyopt ec_paramgen_curve:prime256v1",
        extensions: String = "subjectAltName=DNS:localhost"
    ) async throws {
        let (request, settings) = (path(name + "-request"), path(name + "-extensions"))
        try await openssl(
            "req -new -newkey \(key) -nodes -subj /CN=\(name) -keyout \(path(name + "-key")) -out \(request)")
        try extensions.write(toFile: settings, atomically: true, encoding: .utf8)
        try await openssl(
            "x509 -req -in \(request) -CA \(path(authority)) -CAkey \(path(authority + "-key")) -CAcreateserial"
                + " -days \(days) -extfile \(settings) -out \(path(name))")
    }

    /// An authority "ca" and certificates of it: "node" for the node, "peer" for its peer.
    static func site(nodeKey: String = "ec -pkeyopt ec_paramgen_curve:prime256v1") async throws -> CertificateMaker {
        let maker = try CertificateMaker()
        try await maker.authority("ca")
        try await maker.certificate("node", by: "ca", key: nodeKey)
        try await maker.certificate("peer", by: "ca")
        return maker
    }

    func files(_ name: String = "node", authorities: String? = "ca") -> TLSFiles {
        TLSFiles(certificate: path(name), key: path(name + "-key"), authorities: authorities.map { path($0) })
    }

    /// Options of DCMTK's programs.
    func options(_ name: String? = "peer", trusts: String = "ca") -> [String] {
        let identity = name.map { ["+tls", path($0 + "-key"), path($0)] } ?? ["+tla"]
        return identity + ["+cf", path(trusts)]
    }
}
