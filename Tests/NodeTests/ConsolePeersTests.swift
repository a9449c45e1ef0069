import Console
import Testing

@testable import ichnode

@Suite struct ConsolePeersTests {
    /// The path of a webhook may be all that keeps others from using it.
    @Test func destinationsAreShownWithoutWhatIsSecret() throws {
        let text = """
            peers: [{name: pacs, ae_title: PACS, host: 10.0.0.1, port: 104}]
            hl7: [{name: ris, host: ris.example, port: 2575}]
            webhooks: [{name: paging, url: "https://paging.example:8443/hooks/T0P?key=SECRET", secret_file: /s}]
            operator_alerts: {mail: {to: [pacs@hospital.example], from: ichnode@hospital.example}}
            routes: [{name: default, destinations: [pacs]}]
            """
        let found = ConsolePeers.destinations(try ConfigurationReader.parse(text, file: "test.yaml"))
        #expect(found.map(\.name) == ["pacs", "ris", "paging", "mail"])
        #expect(found.map(\.kind) == [.peer, .hl7, .webhook, .mail])
        #expect(
            found.map(\.address)
                == ["10.0.0.1:104", "ris.example:2575", "https://paging.example:8443", "pacs@hospital.example"])
    }
}
