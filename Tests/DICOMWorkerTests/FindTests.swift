import Foundation
import Testing
import WorkerProtocol

#if canImport(Glibc)
import Glibc
#endif

/// An archive that stores and answers queries, until the value goes away.
private final class Archive: @unchecked Sendable {
    enum Kind: String, CaseIterable, CustomTestStringConvertible {
        case orthanc = "Orthanc"
        case dcmqrscp
        var testDescription: String { rawValue }
    }

    let port: UInt16
    private let folder: TemporaryFolder
    private let process = Process()

    init(_ kind: Kind) async throws {
        port = try Listener.freePort()
        folder = try TemporaryFolder()
        let storage = try folder.make("storage")
        let configuration = folder.path + "/configuration"
        process.executableURL = URL(fileURLWithPath: try #require(Surroundings.tool(kind.rawValue)))
        switch kind {
        case .orthanc:
            let settings: [String: Any] = [
                "DicomPort": Int(port), "DicomAet": "PACS1", "StorageDirectory": storage, "HttpServerEnabled": false,
                "DicomAlwaysAllowFind": true, "DicomAlwaysAllowStore": true,
                "DicomModalities": ["node": ["ICHNODE", "127.0.0.1", 104]],
            ]
            try JSONSerialization.data(withJSONObject: settings).write(to: URL(fileURLWithPath: configuration))
            process.arguments = [configuration]
        case .dcmqrscp:
            let text = """
                NetworkTCPPort = \(port)
                MaxPDUSize = 16384
                MaxAssociations = 4
                HostTable BEGIN
                HostTable END
                VendorTable BEGIN
                VendorTable END
                AETable BEGIN
                PACS1 \(storage) RW (200, 64mb) ANY
                AETable END

                """
            try text.write(toFile: configuration, atomically: false, encoding: .utf8)
            process.arguments = ["-c", configuration]
        }
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        for _ in 0..<500 {
            if (try? RawPeer(port: port)) != nil { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw WorkerError(.deadline, "\(kind.rawValue) does not listen")
    }

    // The test runner's children ignore SIGTERM.
    deinit { kill(process.processIdentifier, SIGKILL) }

    var peer: RemotePeer { RemotePeer(aeTitle: AETitle("PACS1")!, host: "127.0.0.1", port: Int(port)) }
}

@Suite(.serialized, .enabled(if: Surroundings.hasTools, "needs DCMTK's tools"))
struct FindTests {
    private func find(_ peer: RemotePeer, _ study: String) async throws -> [SendEvent] {
        try await SendTests.events(
            ["find"],
            .find(
                FindJob(
                    peer: peer, callingAETitle: SendTests.calling, studyInstanceUID: UID(study)!, timeoutSeconds: 5)))
    }

    @Test(arguments: Archive.Kind.allCases)
    private func countsTheImagesOfEachSeries(kind: Archive.Kind) async throws {
        guard Surroundings.tool(kind.rawValue) != nil else { return }
        let archive = try await Archive(kind)
        let folder = try TemporaryFolder()
        _ = try await SendTests.store(try SendTests.results(folder, 3), folder, archive.peer)
        let events = try await find(archive.peer, "1.2.3")
        guard case .found(let series, let images)? = events.first, events.count == 1 else {
            Issue.record("\(events)")
            return
        }
        #expect(series == UID("1.2.3.1"))
        #expect(images == 3)
        #expect(try await find(archive.peer, "1.2.4").isEmpty)
    }

    @Test func aPeerWithoutQueriesIsSaid() async throws {
        let server = try await StorageServer()
        let events = try await find(server.peer, "1.2.3")
        guard case .failed(let failure)? = events.first, events.count == 1 else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.reason.contains("the peer refuses queries (Study Root C-FIND)"))
    }

    @Test func nobodyThereIsSaid() async throws {
        let port = try Listener.freePort()
        let events = try await find(RemotePeer(aeTitle: AETitle("GONE")!, host: "127.0.0.1", port: Int(port)), "1.2.3")
        guard case .failed(let failure)? = events.first else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.kind == .connect)
    }
}
