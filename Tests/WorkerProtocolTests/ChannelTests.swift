import CLinux
import Foundation
import Glibc
import Testing

@testable import WorkerProtocol

@Suite struct ChannelTests {
    private func pair(_ limits: Frame.Limits = .init()) -> (Channel, Channel) {
        var sockets: [Int32] = [-1, -1]
        #expect(clinux_socket_pair(&sockets) == 0)
        return (
            Channel(takingOwnershipOf: sockets[0], limits: limits),
            Channel(takingOwnershipOf: sockets[1], limits: limits)
        )
    }

    @Test func carriesMessagesAndBulkBytes() throws {
        let (one, other) = pair()
        try one.send(EchoJob(peer: peer, callingAETitle: title))
        try one.send(.bulk(Data([1, 2, 3])))
        #expect(try other.receive(EchoJob.self)?.message.peer == peer)
        #expect(try other.receiveBulk() == Data([1, 2, 3]))
        one.close()
        #expect(try other.receive() == nil)
    }

    @Test func carriesADescriptor() throws {
        let (one, other) = pair()
        let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try Data("x".utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let descriptor = open(file.path, O_RDONLY)
        try one.send(.message(Data()), descriptor: descriptor)
        close(descriptor)
        let received = try #require(try other.receive()?.descriptor)
        var byte: UInt8 = 0
        #expect(read(received, &byte, 1) == 1)
        #expect(byte == UInt8(ascii: "x"))
        close(received)
    }

    @Test(arguments: [2, 3])
    func aFrameWithMoreThanOneDescriptorIsRefusedAndNoneStaysOpen(count: Int) throws {
        let (one, other) = pair()
        let end = try pass([0, 0, 0, 2, 1, 0], descriptors: count, over: one)
        defer { close(end) }
        #expect(throws: WorkerError(.closed, "")) { try other.receive() }
        #expect(isClosedElsewhere(end))
    }

    @Test(
        arguments: [
            // Unknown kind, end within the frame, bulk bytes where a message is due, another message.
            [0, 0, 0, 2, 9, 0], [0, 0, 0, 9, 1, 0], [0, 0, 0, 2, 2, 0], [0, 0, 0, 2, 1, 0],
        ] as [[UInt8]])
    func aFrameThatIsNoneLeavesNoDescriptorOpen(bytes: [UInt8]) throws {
        let (one, other) = pair()
        let end = try pass(bytes, descriptors: 1, over: one)
        defer { close(end) }
        one.close()
        #expect(throws: WorkerError.self) { try other.receive(EchoJob.self) }
        #expect(isClosedElsewhere(end))
    }

    /// Sends the bytes with so many descriptors of one end of a socket pair, as sendmsg(2) lets a child do it.
    /// - Returns: the other end.
    private func pass(_ bytes: [UInt8], descriptors count: Int, over channel: Channel) throws -> Int32 {
        var ends: [Int32] = [-1, -1]
        try #require(clinux_socket_pair(&ends) == 0)
        defer { close(ends[1]) }
        // cmsg(3): length, SOL_SOCKET, SCM_RIGHTS, then the descriptors.
        let length = 16 + 4 * count
        let control = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 8)
        defer { control.deallocate() }
        control.storeBytes(of: length, as: Int.self)
        control.storeBytes(of: 1, toByteOffset: 8, as: Int32.self)
        control.storeBytes(of: 1, toByteOffset: 12, as: Int32.self)
        for index in 0..<count { control.storeBytes(of: ends[1], toByteOffset: 16 + 4 * index, as: Int32.self) }
        var bytes = bytes
        let sent: Int = bytes.withUnsafeMutableBytes { buffer in
            var vector = iovec(iov_base: buffer.baseAddress, iov_len: buffer.count)
            return withUnsafeMutablePointer(to: &vector) { vector in
                var message = msghdr()
                message.msg_iov = vector
                message.msg_iovlen = 1
                message.msg_control = control
                message.msg_controllen = length
                return sendmsg(channel.descriptor, &message, 0)
            }
        }
        #expect(sent == bytes.count)
        return ends[0]
    }

    private func isClosedElsewhere(_ end: Int32) -> Bool {
        var polled = pollfd(fd: end, events: 0, revents: 0)
        return poll(&polled, 1, 10_000) == 1 && Int32(polled.revents) & Int32(POLLHUP) != 0
    }

    @Test func takesAFrameAtTheLimitAndRefusesOneByteMore() throws {
        let limits = Frame.Limits(message: 16, bulk: 32)
        let (one, other) = pair(limits)
        try one.send(.message(Data(count: 16)))
        #expect(try other.receive()?.frame == .message(Data(count: 16)))
        try one.send(.message(Data(count: 17)))
        #expect(throws: WorkerError(.protocolViolation, "")) { try other.receive() }
    }

    @Test func aChannelOfMessagesTakesNoBulkFrameNotEvenAnEmptyOne() throws {
        let (one, other) = pair(.messagesOnly)
        try one.send(.message(Data(count: 1 << 10)))
        #expect(try other.receive()?.frame == .message(Data(count: 1 << 10)))
        try one.send(.bulk(Data()))
        #expect(throws: WorkerError(.protocolViolation, "")) { try other.receive() }
    }

    @Test func refusesAnUnknownKindOfFrame() throws {
        let (one, other) = pair()
        let bytes: [UInt8] = [0, 0, 0, 2, 9, 0]
        #expect(clinux_send(one.descriptor, bytes, bytes.count, -1) == bytes.count)
        #expect(throws: WorkerError(.protocolViolation, "")) { try other.receive() }
    }

    @Test func saysWhenTheOtherEndClosesWithinAFrame() throws {
        let (one, other) = pair()
        let bytes: [UInt8] = [0, 0, 0, 9, 1, 0]
        #expect(clinux_send(one.descriptor, bytes, bytes.count, -1) == bytes.count)
        one.close()
        #expect(throws: WorkerError(.closed, "")) { try other.receive() }
    }

    private let title = AETitle("TEST")!
    private var peer: RemotePeer { RemotePeer(aeTitle: title, host: "127.0.0.1", port: 104) }
}

@Suite struct WorkerProcessTests {
    @Test func aProgramThatIsNotThereSaysSo() {
        #expect(throws: WorkerError(.start, "")) { _ = try WorkerProcess(.init(path: "/nonexistent", arguments: [])) }
    }

    @Test func aProgramThatEndsBeforeItsHelloIsAnError() async throws {
        let worker = try WorkerProcess(.init(path: "/bin/true", arguments: []))
        await #expect(throws: WorkerError(.closed, "")) { try await worker.start() }
        #expect(await worker.ended() == .exited(code: 0))
    }

    @Test func aProgramThatNeverSaysHelloIsKilledAtTheDeadline() async throws {
        let worker = try WorkerProcess(.init(path: "/bin/sleep", arguments: ["60"]))
        await #expect(throws: WorkerError(.deadline, "")) { try await worker.start(within: .milliseconds(200)) }
        #expect(await worker.ended() == .signalled(SIGKILL))
    }

    @Test func stoppingKillsWhoDoesNotEnd() async throws {
        let worker = try WorkerProcess(.init(path: "/bin/sleep", arguments: ["60"]))
        #expect(await worker.stop(patience: .milliseconds(100)) == .signalled(SIGKILL))
    }

    @Test(.timeLimit(.minutes(1)))
    func whoSaysMoreThanIsTakenWaitsAndNothingIsLost() async throws {
        let (worker, file) = try talkative()
        defer { try? FileManager.default.removeItem(at: file) }
        try await untilFull(worker)
        #expect(worker.frames.backlog.frames == FrameBacklog.mostFrames)
        var numbers: [UInt8] = []
        for try await frame in worker.frames {
            #expect(worker.frames.backlog.frames <= FrameBacklog.mostFrames)
            guard case .message(let payload) = frame, payload.count == Self.frameBytes else { break }
            numbers.append(payload[0])
        }
        #expect(numbers == (0..<Self.frames).map { UInt8(truncatingIfNeeded: $0) })
        #expect(await worker.ended() == .exited(code: 0))
    }

    @Test(.timeLimit(.minutes(1)))
    func whoWaitsToBeHeardCanBeKilled() async throws {
        let (worker, file) = try talkative()
        defer { try? FileManager.default.removeItem(at: file) }
        try await untilFull(worker)
        worker.kill()
        #expect(await worker.ended() == .signalled(SIGKILL))
    }

    @Test(.timeLimit(.minutes(1)))
    func whoWaitsToBeHeardCanBeStopped() async throws {
        let (worker, file) = try talkative()
        defer { try? FileManager.default.removeItem(at: file) }
        try await untilFull(worker)
        await worker.stop()
        #expect(!worker.isRunning)
    }

    private static let frames = 10_000
    private static let frameBytes = 1024

    /// A child that says more at once than the socket holds.
    private func talkative() throws -> (worker: WorkerProcess, file: URL) {
        func wire(_ frame: Frame) -> Data { Data(frame.header()) + frame.payload }
        var bytes = wire(.message(try JSONEncoder().encode(Hello(verb: "test", confinement: .init()))))
        for number in 0..<Self.frames {
            let payload = Data(repeating: UInt8(truncatingIfNeeded: number), count: Self.frameBytes)
            bytes += wire(.message(payload))
        }
        let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try bytes.write(to: file)
        let arguments = ["-c", "exec cat \"$0\" >&3", file.path]
        return (try WorkerProcess(.init(path: "/bin/sh", arguments: arguments)), file)
    }

    private func untilFull(_ worker: WorkerProcess) async throws {
        while worker.frames.backlog.frames < FrameBacklog.mostFrames { try await Task.sleep(for: .milliseconds(2)) }
    }
}
