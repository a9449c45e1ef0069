import Foundation
import TestPrograms
import Testing
import WorkerProtocol

#if canImport(Glibc)
import Glibc
#endif

/// DCMTK's `storescp` on a free port, until the value goes away.
final class StorageServer: @unchecked Sendable {
    let port: UInt16
    let folder: TemporaryFolder
    private let program: TestProgram

    init(_ options: [String] = []) async throws {
        port = try Listener.freePort()
        folder = try TemporaryFolder()
        program = try TestProgram(
            try #require(Surroundings.tool("storescp")), options + ["-od", folder.path, "\(port)"])
        for _ in 0..<200 {
            if (try? RawPeer(port: port)) != nil { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw WorkerError(.deadline, "storescp does not listen")
    }

    deinit { program.end() }

    var peer: RemotePeer { RemotePeer(aeTitle: AETitle("PACS1")!, host: "127.0.0.1", port: Int(port)) }
}

@Suite(.serialized, .enabled(if: Surroundings.hasTools, "needs DCMTK's tools"))
struct SendTests {
    static let calling = AETitle("ICHNODE")!

    static func events(_ arguments: [String], _ request: SendRequest) async throws -> [SendEvent] {
        let tls = request.tls?.files.arguments ?? []
        let worker = try WorkerProcess(WorkerProgram(path: Surroundings.worker, arguments: arguments + tls))
        try await worker.start()
        try await worker.send(request)
        let events = try await worker.messages(SendEvent.self)
        #expect(await worker.ended() == .exited(code: 0))
        guard case .done? = events.last else {
            Issue.record("the last message is not done")
            return events
        }
        return Array(events.dropLast())
    }

    /// Files as a result folder holds them.
    static func results(_ folder: TemporaryFolder, _ count: Int) throws -> [ComposedObject] {
        try (1...count).map { number in
            let instance = "1.2.3.\(number)"
            let path = "\(folder.path)/\(instance).dcm"
            try StoredObject.write(instance: instance, to: path)
            return ComposedObject(
                path: path, sopClassUID: UID(RawPeer.ct)!, sopInstanceUID: UID(instance)!)
        }
    }

    static func store(_ objects: [ComposedObject], _ folder: TemporaryFolder, _ peer: RemotePeer) async throws
        -> [SendEvent]
    {
        try await events(
            ["send", "--results", folder.path],
            .store(
                StoreJob(
                    peer: peer, callingAETitle: calling, objects: objects, connectTimeoutSeconds: 2,
                    responseTimeoutSeconds: 2)))
    }

    @Test(arguments: [[], ["+xi"]]) func storesInOrder(options: [String]) async throws {
        let server = try await StorageServer(options)
        let folder = try TemporaryFolder()
        let objects = try Self.results(folder, 3)
        let events = try await Self.store(objects, folder, server.peer)
        let answered = events.compactMap { event -> UID? in
            guard case .response(let instance, 0, _) = event else { return nil }
            return instance
        }
        #expect(answered == objects.map(\.sopInstanceUID))
        #expect(try FileManager.default.contentsOfDirectory(atPath: server.folder.path).count == 3)
    }

    @Test func saysWhatWasRejected() async throws {
        let server = try await StorageServer(["--refuse"])
        let folder = try TemporaryFolder()
        let events = try await Self.store(try Self.results(folder, 1), folder, server.peer)
        guard case .failed(let failure)? = events.first else {
            Issue.record("not failed")
            return
        }
        #expect(failure.kind == .rejectedPermanently)
        #expect(!failure.reason.isEmpty)
    }

    @Test func saysThatAFileIsMissingAndSendsTheOthers() async throws {
        let server = try await StorageServer()
        let folder = try TemporaryFolder()
        let objects = try Self.results(folder, 2)
        try FileManager.default.removeItem(atPath: objects[0].path)
        let events = try await Self.store(objects, folder, server.peer)
        guard events.count == 2, case .failed(let failure) = events[0], case .response(_, 0, _) = events[1] else {
            Issue.record("\(events)")
            return
        }
        #expect(failure.kind == .localFile)
    }

    @Test func saysThatNobodyListens() async throws {
        let folder = try TemporaryFolder()
        let peer = RemotePeer(aeTitle: AETitle("PACS1")!, host: "127.0.0.1", port: Int(try Listener.freePort()))
        let events = try await Self.store(try Self.results(folder, 1), folder, peer)
        guard case .failed(let failure)? = events.first else {
            Issue.record("not failed")
            return
        }
        #expect(failure.kind == .connect)
    }

    @Test func givesUpOnASilentPeer() async throws {
        let folder = try TemporaryFolder()
        let listener = try Listener()
        let peer = RemotePeer(aeTitle: AETitle("PACS1")!, host: "127.0.0.1", port: Int(listener.port))
        let events = try await Self.store(try Self.results(folder, 1), folder, peer)
        guard case .failed(let failure)? = events.first else {
            Issue.record("not failed")
            return
        }
        #expect(failure.kind == .timeout)
    }

    /// The receiving worker is the peer: it refuses the title, and the context.
    @Test func saysWhichTitleToCheck() async throws {
        let folder = try TemporaryFolder()
        let objects = try Self.results(folder, 1)
        let (_, events) = try await ReceivingNode().serve { port in
            let peer = RemotePeer(aeTitle: AETitle("PACS1")!, host: "localhost", port: Int(port))
            return try await Self.store(objects, folder, peer)
        }
        guard case .failed(let failure)? = events.first else {
            Issue.record("not failed")
            return
        }
        #expect(failure.kind == .rejectedPermanently)
        #expect(failure.reason == "peer rejected called AE title \"PACS1\": check its AE table")
    }

    @Test func saysWhichSOPClassIsNotAccepted() async throws {
        let folder = try TemporaryFolder()
        var objects = try Self.results(folder, 2)
        objects[0].sopClassUID = UID(literal: "1.2.840.10008.5.1.4.1.2.2.1")
        let sent = objects
        let (_, events) = try await ReceivingNode().serve { port in
            let peer = RemotePeer(aeTitle: AETitle("ICHNODE")!, host: "127.0.0.1", port: Int(port))
            return try await Self.store(sent, folder, peer)
        }
        guard events.count == 2, case .noPresentationContext(let instance, _) = events[0],
            case .response(_, 0, _) = events[1]
        else {
            Issue.record("\(events)")
            return
        }
        #expect(instance == objects[0].sopInstanceUID)
    }

    @Test func echoes() async throws {
        let server = try await StorageServer()
        let events = try await Self.events(["echo"], .echo(EchoJob(peer: server.peer, callingAETitle: Self.calling)))
        guard case .echoed(let status, let milliseconds)? = events.first else {
            Issue.record("\(events)")
            return
        }
        #expect(status == 0)
        #expect(milliseconds > 0)
    }
}
