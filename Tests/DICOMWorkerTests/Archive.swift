import Foundation
import TestPrograms
import Testing
import WorkerProtocol

#if canImport(Glibc)
import Glibc
#endif

/// An archive that stores, answers queries and sends what it holds, until the value goes away.
final class Archive: @unchecked Sendable {
    enum Kind: String, CaseIterable, CustomTestStringConvertible {
        case orthanc = "Orthanc"
        case dcmqrscp
        var testDescription: String { rawValue }
        static let installed = allCases.filter { Surroundings.tool($0.rawValue) != nil }
    }

    let port: UInt16
    private let folder: TemporaryFolder
    private let program: TestProgram

    /// - Parameters:
    ///   - node: at which port it knows the AE title that tests call by; nil: it does not.
    ///   - tls: further settings of Orthanc.
    init(_ kind: Kind, node: UInt16? = nil, tls: [String: String] = [:]) async throws {
        port = try Listener.freePort()
        folder = try TemporaryFolder()
        let storage = try folder.make("storage")
        let title = SendTests.calling.string
        let configuration = folder.path + "/configuration"
        let arguments: [String]
        switch kind {
        case .orthanc:
            var settings: [String: Any] = [
                "DicomPort": Int(port), "DicomAet": "PACS1", "StorageDirectory": storage, "HttpServerEnabled": false,
                "DicomAlwaysAllowFind": true, "DicomAlwaysAllowStore": true,
                "DicomAlwaysAllowMove": true,
                "DicomModalities": node.map { ["node": [title, "127.0.0.1", Int($0)]] } ?? [:],
            ]
            settings.merge(tls) { $1 }
            settings["DicomTlsEnabled"] = !tls.isEmpty
            try JSONSerialization.data(withJSONObject: settings).write(to: URL(fileURLWithPath: configuration))
            arguments = [configuration]
        case .dcmqrscp:
            let text = """
                NetworkTCPPort = \(port)
                MaxPDUSize = 16384
                MaxAssociations = 4
                HostTable BEGIN
                \(node.map { "node = (\(title), 127.0.0.1, \($0))" } ?? "")
                HostTable END
                VendorTable BEGIN
                VendorTable END
                AETable BEGIN
                PACS1 \(storage) RW (200, 64mb) ANY
                AETable END

                """
            try text.write(toFile: configuration, atomically: false, encoding: .utf8)
            arguments = ["-c", configuration]
        }
        program = try TestProgram(try #require(Surroundings.tool(kind.rawValue)), arguments)
        for _ in 0..<500 {
            if (try? RawPeer(port: port)) != nil { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw WorkerError(.deadline, "\(kind.rawValue) does not listen")
    }

    deinit { program.end() }

    var peer: RemotePeer { RemotePeer(aeTitle: AETitle("PACS1")!, host: "127.0.0.1", port: Int(port)) }
}
