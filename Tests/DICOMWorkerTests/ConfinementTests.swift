import Foundation
import Testing
import WorkerProtocol

#if canImport(Glibc)
import Glibc
#endif

@Suite(.serialized) struct ConfinementTests {
    struct Request: Codable {
        var forbiddenFile: String
        var forbiddenFolder: String
        var port: UInt16
        var localSocket: String
    }

    struct Outcome: Codable {
        var couldRead: Bool
        var couldCreate: Bool
        var couldConnect: Bool
        var couldListen: Bool
        var couldExecute: Bool
        var couldConnectLocally: Bool
        var couldSignalParent: Bool
        var couldLimitParent: Bool
        var couldSignalItself: Bool
        var couldResolve: Bool
    }

    private static let connecting: Set = ["send", "echo", "reach", "find", "move", "commit"]

    @Test(arguments: ["receive", "decode", "certificates", "describe"] + connecting.sorted())
    func aWorkerIsConfined(verb: String) async throws {
        try await probe(verb) { try WorkerProcess($0) }
    }

    /// Key material is read before, and not again.
    @Test(.enabled(if: CertificateMaker.isThere), arguments: ["send", "echo", "reach", "find", "move"])
    func aWorkerThatHasReadItsKeyIsConfined(verb: String) async throws {
        let maker = try await CertificateMaker.site()
        let files = maker.files()
        try await probe(verb, forbiddenFile: files.key) { program in
            var program = program
            program.arguments += files.arguments
            return try WorkerProcess(program)
        }
    }

    @Test func aWorkerOfATemplateIsConfined() async throws {
        try await probe("receive") { program in
            let template = try await WorkerTemplate(program)
            return try await template.makeWorker()
        }
    }

    private func probe(
        _ verb: String, forbiddenFile: String = "/etc/passwd", start: (WorkerProgram) async throws -> WorkerProcess
    ) async throws {
        let folder = try TemporaryFolder()
        let allowed = try folder.make("allowed")
        let forbidden = try folder.make("forbidden")
        let listener = try Listener()
        let local = try LocalListener(folder.path + "/socket")
        let paths =
            switch verb {
            case "receive": ["--incoming", allowed, "--studies", allowed]
            case "decode": ["--spool", allowed]
            case "send", "describe": ["--results", allowed]
            default: [String]()
            }
        let worker = try await start(
            WorkerProgram(path: Surroundings.worker, arguments: [verb] + paths + ["--probe-confinement"]))
        let hello = try await worker.start()
        try await worker.send(
            Request(
                forbiddenFile: forbiddenFile, forbiddenFolder: forbidden, port: listener.port, localSocket: local.path))
        let outcome = try #require(try await worker.messages(Outcome.self).first)
        #expect(await worker.ended() == .exited(code: 0))
        if hello.confinement.landlockVersion > 0 {
            #expect(!outcome.couldRead)
            #expect(!outcome.couldCreate)
        }
        if hello.confinement.seccomp {
            #expect(!outcome.couldExecute)
            #expect(outcome.couldConnect == Self.connecting.contains(verb))
            #expect(!outcome.couldConnectLocally)
            #expect(!outcome.couldSignalParent)
            #expect(!outcome.couldLimitParent)
            #expect(outcome.couldSignalItself)
            if Self.connecting.contains(verb) { #expect(outcome.couldResolve) }
        }
        if hello.confinement.landlockVersion >= 4 || !Self.connecting.contains(verb) { #expect(!outcome.couldListen) }
    }

    @Test func helpSaysThatTheyAreInternal() async throws {
        let (status, output) = try await run(Surroundings.worker, ["--help"])
        #expect(status == 0)
        #expect(output.contains("internal workers"))
        #expect(!output.contains("probe"))
    }
}

/// A listening Unix socket.
private final class LocalListener {
    let path: String
    private let descriptor: Int32

    init(_ path: String) throws {
        self.path = path
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        self.descriptor = descriptor
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            for (index, byte) in path.utf8.prefix(bytes.count - 1).enumerated() { bytes[index] = byte }
        }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0 && listen(descriptor, 1) == 0
            }
        }
        guard bound else { throw WorkerError(.system, "cannot listen: \(Errno.text)") }
    }

    deinit { close(descriptor) }
}
