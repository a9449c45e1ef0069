import AlertDispatcher
import Console
import Foundation
import Testing
import WorkerProtocol

@testable import ichnode

@Suite struct CredentialTests {
    private func read(_ text: String) throws -> NodeConfiguration {
        let routes = "peers: [{name: p, ae_title: P, host: h}]\nroutes: [{name: r, destinations: [p]}]"
        return try ConfigurationReader.parse("\(text)\n\(routes)", file: "test.yaml")
    }

    @Test func standsForAFileThatSystemdHandsOver() throws {
        #expect(Credential.folder(["CREDENTIALS_DIRECTORY": "/run/credentials/a"]) == "/run/credentials/a")
        // As a shell has it: that of the unit while it runs.
        #expect(Credential.folder([:]) == "/run/credentials/ichnode.service")
        let read = try read(
            """
            tls: {certificate: /c.pem, key: "credential:tls-key", ca: "credential:tls-ca"}
            console: {tls: {certificate: /d.pem, key: "credential:console-key"}}
            webhooks: [{name: w, url: "https://h/", secret_file: "credential:paging", ca: "credential:web-ca"}]
            hl7: [{name: ris, host: h, tls: true, certificate: /e, key: "credential:ris-key", ca: "credential:ris-ca"}]
            """)
        let folder = Credential.folder
        #expect(read.tls?.files.paths == ["/c.pem", "\(folder)/tls-key", "\(folder)/tls-ca"])
        #expect(read.console.tls?.paths == ["/d.pem", "\(folder)/console-key"])
        #expect(read.webhooks[0].secretFile == "\(folder)/paging" && read.webhooks[0].authorities == "\(folder)/web-ca")
        #expect(read.hl7[0].tls?.files.paths == ["/e", "\(folder)/ris-key", "\(folder)/ris-ca"])
    }

    @Test(arguments: ["", "..", "a/b", "../key", "a:b", "tls key", String(repeating: "a", count: 256)])
    func refusesWhatSystemdTakesForNoName(_ name: String) {
        let error = #expect(throws: ConfigurationError.self) {
            try read("tls: {certificate: /c.pem, key: \"credential:\(name)\", ca: /a.pem}")
        }
        let told = "names no credential: write credential:NAME, with the name that LoadCredential= gives it"
        #expect(error?.description == "test.yaml:1: tls.key \(told)")
    }

    @Test func takesTheLongestName() throws {
        #expect(Credential.isName(String(repeating: "a", count: 255)) && Credential.isName("tls-key.pem_1"))
    }

    /// Whether the unit does not load it, or this is not the unit.
    @Test func saysHowToHandItOver() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let text = try #require(Credential.problem("\(folder)/tls-key", in: folder))
        #expect(text.hasPrefix("credential tls-key cannot be read (No such file or directory): the unit needs "))
        #expect(text.contains("LoadCredential=tls-key:FILE"))
        try Data("key".utf8).write(to: URL(fileURLWithPath: "\(folder)/tls-key"))
        #expect(Credential.problem("\(folder)/tls-key", in: folder) == nil)
        #expect(Credential.problem("\(folder)-other/tls-key", in: folder) == nil)
    }
}
