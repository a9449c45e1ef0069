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
    }

    struct Outcome: Codable {
        var couldRead: Bool
        var couldCreate: Bool
        var couldConnect: Bool
        var couldListen: Bool
        var couldExecute: Bool
    }

    @Test(arguments: ["receive", "decode", "send", "echo"])
    func aWorkerIsConfined(verb: String) async throws {
        let folder = try TemporaryFolder()
        let allowed = try folder.make("allowed")
        let forbidden = try folder.make("forbidden")
        let listener = try Listener()
        let paths =
            switch verb {
            case "receive": ["--incoming", allowed, "--studies", allowed]
            case "decode": ["--spool", allowed]
            case "send": ["--results", allowed]
            default: [String]()
            }
        let worker = try WorkerProcess(
            WorkerProgram(path: Surroundings.worker, arguments: [verb] + paths + ["--probe-confinement"]))
        let hello = try await worker.start()
        try await worker.send(Request(forbiddenFile: "/etc/passwd", forbiddenFolder: forbidden, port: listener.port))
        let outcome = try #require(try await worker.messages(Outcome.self).first)
        #expect(await worker.ended() == .exited(code: 0))
        if hello.confinement.landlockVersion > 0 {
            #expect(!outcome.couldRead)
            #expect(!outcome.couldCreate)
        }
        if hello.confinement.seccomp {
            #expect(!outcome.couldExecute)
            #expect(outcome.couldConnect == ["send", "echo"].contains(verb))
        }
        if hello.confinement.landlockVersion >= 4 || !["send", "echo"].contains(verb) { #expect(!outcome.couldListen) }
    }

    @Test func helpSaysThatTheyAreInternal() async throws {
        let (status, output) = try await run(Surroundings.worker, ["--help"])
        #expect(status == 0)
        #expect(output.contains("internal workers"))
        #expect(!output.contains("probe"))
    }
}
