import Foundation
import Testing
import WorkerProtocol

#if canImport(Glibc)
import Glibc
#endif

@Suite struct TemplateTests {
    private let folder: TemporaryFolder
    private let program: WorkerProgram

    init() throws {
        folder = try TemporaryFolder()
        program = WorkerProgram(
            path: Surroundings.worker,
            arguments: ["receive", "--incoming", try folder.make("incoming"), "--studies", try folder.make("studies")])
    }

    @Test func workersAreChildrenOfThisProcessEachInAGroupOfItsOwn() async throws {
        let template = try await WorkerTemplate(program)
        let workers = [try await template.makeWorker(), try await template.makeWorker()]
        #expect(workers[0].processID != workers[1].processID)
        for worker in workers {
            #expect(try await worker.start().processID == worker.processID)
            #expect(getpgid(worker.processID) == worker.processID)
            #expect(try status(worker.processID)["PPid"] == "\(getpid())")
            #expect(try status(worker.processID)["Name"] == "ichnode-dicom")
        }
        for worker in workers { #expect(await worker.stop() == .exited(code: 0)) }
    }

    /// fork(2) copies one thread: another would leave its locks held for good.
    @Test func aTemplateHasOneThread() async throws {
        let template = try await WorkerTemplate(program)
        _ = try await template.makeWorker()
        let process = template.processID
        #expect(try status(process)["Threads"] == "1")
        #expect(try status(process)["Name"] == "dicom-template")
    }

    @Test func aWorkerThatIsKilledIsToldAndTheTemplateGoesOn() async throws {
        let template = try await WorkerTemplate(program)
        let victim = try await template.makeWorker()
        try await victim.start()
        victim.kill()
        #expect(await victim.ended() == .signalled(SIGKILL))
        try await template.makeWorker().start()
    }

    @Test func workersOutliveTheirTemplate() async throws {
        let template = try await WorkerTemplate(program)
        let worker = try await template.makeWorker()
        await template.stop()
        #expect(!template.isRunning)
        try await worker.start()
        #expect(worker.isRunning)
        await #expect(throws: WorkerError.self) { _ = try await template.makeWorker() }
    }

    @Test func askedForManyAtOnceEachGetsItsOwn() async throws {
        let template = try await WorkerTemplate(program)
        let pids = try await withThrowingTaskGroup(of: Int32.self) { group in
            for _ in 0..<32 {
                group.addTask {
                    let worker = try await template.makeWorker()
                    let hello = try await worker.start()
                    #expect(hello.processID == worker.processID)
                    #expect(await worker.stop() == .exited(code: 0))
                    return worker.processID
                }
            }
            return try await group.reduce(into: Set<Int32>()) { $0.insert($1) }
        }
        #expect(pids.count == 32)
    }

    private func status(_ pid: Int32) throws -> [String: String] {
        let lines = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8).split(separator: "\n")
        return Dictionary(
            lines.map { line in
                let parts = line.split(separator: ":", maxSplits: 1)
                return (String(parts[0]), parts[1].trimmingCharacters(in: .whitespaces))
            }, uniquingKeysWith: { first, _ in first })
    }
}
