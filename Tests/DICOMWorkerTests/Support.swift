import CLinux
import Foundation
import Synchronization
import TestPrograms
import Testing
import WorkerProtocol

#if canImport(Glibc)
import Glibc
#endif

/// Where things are that tests need and may lack.
enum Surroundings {
    /// The worker program, built beside the tests.
    static let worker: String = {
        let arguments = CommandLine.arguments.first.map { [$0] } ?? []
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")).map { [$0] } ?? []
        let folders = (own + arguments + [Bundle.main.bundlePath + "/x"]).map {
            URL(fileURLWithPath: $0).deletingLastPathComponent()
        }
        let candidates = folders.map { $0.appendingPathComponent("ichnode-dicom").path }
        return candidates.first { FileManager.default.isExecutableFile(atPath: $0) } ?? "ichnode-dicom"
    }()

    private static let package = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// DICOM objects that are no part of the repository.
    static let sharedDICOM: String? = {
        let root =
            ProcessInfo.processInfo.environment["ICHNODE_SHARED_DATA"]
            ?? package.deletingLastPathComponent().appendingPathComponent("shared/data").path
        let path = root + "/dicom"
        return FileManager.default.fileExists(atPath: path) ? path : nil
    }()

    static func tool(_ name: String) -> String? {
        ["/usr/bin", "/usr/local/bin", "/usr/sbin"].map { "\($0)/\(name)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    static let hasTools = ["storescu", "echoscu", "dcmsend", "storescp", "dcmdump", "dump2dcm"].allSatisfy {
        tool($0) != nil
    }

    static func files(_ folder: String) -> [String] {
        guard let sharedDICOM else { return [] }
        let path = "\(sharedDICOM)/\(folder)"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        return names.sorted().filter { $0 != "LICENSE" }.map { "\(path)/\($0)" }
    }
}

/// A folder that goes away with the value.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        let base = FileManager.default.temporaryDirectory.resolvingSymlinksInPath().path
        path = "\(base)/ichnode-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func make(_ name: String) throws -> String {
        let folder = "\(path)/\(name)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        return folder
    }

    /// Paths of all files below a folder.
    func files(_ name: String) -> [String] {
        let folder = "\(path)/\(name)"
        return (FileManager.default.subpaths(atPath: folder) ?? []).sorted().map { "\(folder)/\($0)" }.filter {
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: $0, isDirectory: &isFolder) && !isFolder.boolValue
        }
    }
}

/// Runs blocking work on a thread of its own: tests share a small pool of threads.
func onThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await withCheckedThrowingContinuation { continuation in
        let thread = Thread { continuation.resume(with: Result { try body() }) }
        thread.start()
    }
}

/// Runs a program to its end.
@discardableResult
func run(_ tool: String, _ arguments: [String]) async throws -> (status: Int32, output: String) {
    let path = try #require(tool.hasPrefix("/") ? tool : Surroundings.tool(tool))
    return try await onThread { try TestProgram.run(path, arguments) }
}

/// A listening socket on the loopback address, port chosen by the system.
final class Listener: @unchecked Sendable {
    let port: UInt16
    private let descriptor: Int32

    /// - Parameter port: 0: one that the system chooses.
    init(port: UInt16 = 0) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.descriptor = descriptor
        var address = Self.loopback(port: port)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, length) == 0 && listen(descriptor, 64) == 0
                    && getsockname(descriptor, address, &length) == 0
            }
        }
        guard bound else {
            close(descriptor)
            throw WorkerError(.system, "cannot listen: \(Errno.text)")
        }
        self.port = UInt16(bigEndian: address.sin_port)
    }

    deinit { close(descriptor) }

    func accept() async throws -> Int32 {
        try await onThread { [descriptor] in
            let connection = Glibc.accept(descriptor, nil, nil)
            guard connection >= 0 else { throw WorkerError(.system, "cannot accept: \(Errno.text)") }
            return connection
        }
    }

    static func loopback(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }

    /// A port at which nobody listens; for whoever is to listen there later. Each once, and none that the system gives
    /// to other sockets meanwhile.
    static func freePort() throws -> UInt16 {
        for _ in 0..<1000 {
            let port = nextPort.withLock { next in
                defer { next = next == belowSystemsPorts.upperBound ? belowSystemsPorts.lowerBound : next + 1 }
                return next
            }
            if (try? Listener(port: port)) != nil { return port }
        }
        throw WorkerError(.system, "no port is free")
    }

    private static let belowSystemsPorts: ClosedRange<UInt16> = 20000...32000
    private static let nextPort = Mutex(UInt16.random(in: belowSystemsPorts))
}

extension WorkerProcess {
    /// The messages to the end, in order; bulk frames are left out.
    func messages<Message: Decodable & Sendable>(_ type: Message.Type) async throws -> [Message] {
        var messages: [Message] = []
        for try await frame in frames {
            if case .message(let payload) = frame { messages.append(try JSONDecoder().decode(type, from: payload)) }
        }
        return messages
    }
}
