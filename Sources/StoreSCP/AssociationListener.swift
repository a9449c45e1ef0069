internal import CLinux
internal import Foundation
internal import Ledger
public import Logging
internal import Metrics
internal import WorkerProtocol

#if canImport(Glibc)
internal import Glibc
#endif

/// What a port speaks.
public enum Transport: CaseIterable, Sendable, Hashable {
    case plain
    case tls
}

/// A connection whose A-ASSOCIATE-RQ (or TLS hello) is complete, still unread in the socket, and admitted. Owns the
/// descriptor and its place.
public struct AdmittedConnection: Sendable {
    public let descriptor: Int32
    public let transport: Transport
    public let peerAddress: String
    /// As the request says; nil within TLS, where nobody has read it yet.
    public let callingAETitle: String?
    public let calledAETitle: String?
}

/// Ports that are bound, or are to be; nil: closed.
public struct DICOMPorts: Sendable, Equatable {
    public var plain: Int?
    public var tls: Int?
    public init(plain: Int?, tls: Int? = nil) {
        self.plain = plain
        self.tls = tls
    }
}

/// Accepts TCP connections, waits for whole association requests, refuses with a reason, admits. On the TLS port it
/// waits for a whole hello; the rest, where a reason can be given, is the worker's.
///
/// One thread with poll(2): idle sockets cost a few bytes, block nobody and time out. `@unchecked Sendable` is safe
/// because connection state is touched by that thread only; what others touch is guarded by `lock`.
public final class AssociationListener: @unchecked Sendable {
    private static let drainTime: TimeInterval = 2
    /// Between two turns of the loop.
    private static let mostPause: TimeInterval = 1
    private static let backlog: Int32 = 512
    /// POLLRDHUP, which Glibc's module does not have: the peer has finished sending.
    private static let peerFinished: Int16 = 0x2000

    private struct Waiting {
        enum Step: Equatable { case request, place(AssociationRequest?), drain }
        var step = Step.request
        var deadline: TimeInterval
        var peerAddress: String
        var transport: Transport
    }

    private let current: @Sendable () -> AdmissionRules
    /// As of now: they may change.
    private var rules: AdmissionRules { current() }
    private let logger: Logger
    private let admit: @Sendable (AdmittedConnection) -> Void
    private let audit: @Sendable (ReceptionEvent) -> Void
    private let book: AssociationBook
    private let listeners: [(descriptor: Int32, transport: Transport)]
    private let wakeRead: Int32
    private let wakeWrite: Int32
    private var waiting: [Int32: Waiting] = [:]
    private var peeked = [UInt8](repeating: 0, count: AssociationRequest.mostBytes)

    private let lock = NSLock()
    private var active: [String: Int] = [:]
    private var stopping = false
    private var refusalsLogged = RateLimit(perMinute: 60)
    private let refused = Counter(label: "ichnode_associations_refused_total")

    /// The TCP ports that were bound (of use when 0 was asked for).
    public let ports: DICOMPorts
    let pulse = Pulse()

    /// Binds and listens; accepts nothing until `run`.
    /// - Parameters:
    ///   - rules: asked for at each decision.
    ///   - audit: is told of every refusal. Quick.
    ///   - book: as well.
    /// - Throws: `ListenError` naming address, port and cause.
    public init(
        addresses: [String], ports: DICOMPorts, rules: @escaping @autoclosure @Sendable () -> AdmissionRules,
        audit: @escaping @Sendable (ReceptionEvent) -> Void = { _ in }, book: AssociationBook = AssociationBook(),
        logger: Logger, admit: @escaping @Sendable (AdmittedConnection) -> Void
    ) throws {
        current = rules
        self.logger = logger
        self.admit = admit
        self.audit = audit
        self.book = book
        var bound: [(descriptor: Int32, transport: Transport)] = []
        var ports = ports
        func open(_ port: Int?, _ transport: Transport) throws -> Int? {
            guard var port else { return nil }
            for address in addresses {
                let (descriptor, used) = try Self.listen(on: address, port: port)
                bound.append((descriptor, transport))
                port = used
            }
            return port
        }
        ports.plain = try open(ports.plain, .plain)
        ports.tls = try open(ports.tls, .tls)
        listeners = bound
        self.ports = ports
        var pair: [Int32] = [-1, -1]
        guard clinux_socket_pair(&pair) == 0 else { throw ListenError("cannot make a socket pair: \(Errno.text)") }
        pair.forEach(Self.doNotBlock)
        (wakeRead, wakeWrite) = (pair[0], pair[1])
    }

    /// Serves until `stop`. On a thread of its own.
    public func start() -> Task<Void, Never> {
        let (ended, continuation) = AsyncStream<Void>.makeStream()
        let thread = Thread { [self] in
            loop()
            continuation.finish()
        }
        thread.name = "listener"
        thread.start()
        return Task { for await _ in ended {} }
    }

    /// No new associations; connections that wait are rejected transiently.
    public func stop() {
        lock.withLock { stopping = true }
        wake()
    }

    /// Admitted connections that have not ended.
    var openCount: Int { lock.withLock { active.values.reduce(0, +) } }

    /// Gives back the place of an admitted connection.
    func release(_ connection: AdmittedConnection) {
        lock.withLock {
            let left = active[connection.peerAddress, default: 1] - 1
            active[connection.peerAddress] = left > 0 ? left : nil
        }
        wake()
    }

    private func wake() {
        var byte: UInt8 = 1
        _ = write(wakeWrite, &byte, 1)
    }

    // MARK: The loop

    private func loop() {
        while !lock.withLock({ stopping }) {
            pulse.beat()
            var polled = [pollfd(fd: wakeRead, events: Int16(POLLIN), revents: 0)]
            polled += listeners.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
            polled += waiting.map { descriptor, state in
                // Who waits for a place has sent all it has to: only its leaving counts.
                let events = if case .place = state.step { Int16(0) } else { Int16(POLLIN) | Self.peerFinished }
                return pollfd(fd: descriptor, events: events, revents: 0)
            }
            let now = Self.now()
            let next = waiting.values.map(\.deadline).min() ?? now + Self.mostPause
            let pause = max(0, min(Self.mostPause, next - now))
            _ = poll(&polled, nfds_t(polled.count), Int32(pause * 1000) + 1)
            if polled[0].revents != 0 { drainWakePipe() }
            for entry in polled.dropFirst(1 + listeners.count) where entry.revents != 0 {
                advance(entry.fd, hasAll: entry.revents & Self.peerFinished != 0)
            }
            // Last: a new connection may have the number of one that was closed, of which poll(2) says something else.
            for (entry, listener) in zip(polled.dropFirst(), listeners) where entry.revents != 0 {
                acceptAll(entry.fd, listener.transport)
            }
            admitWaiting()
            expire()
        }
        for listener in listeners { close(listener.descriptor) }
        for (descriptor, state) in waiting {
            if state.step != .drain && state.transport == .plain { send(Rejection.stopping.pdu, to: descriptor) }
            close(descriptor)
        }
        waiting = [:]
    }

    private func acceptAll(_ listener: Int32, _ transport: Transport) {
        while true {
            var address = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let descriptor = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    accept(listener, $0, &length)
                }
            }
            guard descriptor >= 0 else {
                // Out of descriptors: everyone waits a moment instead of the loop spinning.
                if errno == EMFILE || errno == ENFILE { usleep(50_000) }
                return
            }
            Self.doNotBlock(descriptor)
            let peer = Self.numericHost(&address, length)
            let rules = rules
            guard rules.allowedNetworks.contains(where: { $0.contains(peer) }) else {
                refuse("address is in no allowed network: add it to dicom.allowed_networks", peer, transport)
                close(descriptor)
                continue
            }
            if waiting.count >= rules.mostWaiting, let (oldest, busiest) = oldestOfTheBusiest() {
                refuse("too many connections without a request; its oldest closed", busiest, transport)
                forget(oldest)
            }
            waiting[descriptor] = Waiting(
                deadline: Self.now() + rules.requestDeadline.inSeconds, peerAddress: peer, transport: transport)
        }
    }

    /// A flood from one address costs that address its connections, and nobody else's.
    private func oldestOfTheBusiest() -> (descriptor: Int32, peer: String)? {
        let connections = Dictionary(grouping: waiting) { $0.value.peerAddress }
        guard let busiest = connections.max(by: { $0.value.count < $1.value.count }),
            let oldest = busiest.value.min(by: { $0.value.deadline < $1.value.deadline })
        else { return nil }
        return (oldest.key, busiest.key)
    }

    /// - Parameter hasAll: the peer has finished sending: what is there now is all that there will be.
    private func advance(_ descriptor: Int32, hasAll: Bool = false) {
        guard let state = waiting[descriptor] else { return }
        switch state.step {
        case .request: readFirst(descriptor, state, hasAll: hasAll)
        case .place:
            refuse("peer left while it waited for a place", state)
            forget(descriptor)
        case .drain:
            var sink = [UInt8](repeating: 0, count: 16_384)
            let count = recv(descriptor, &sink, sink.count, 0)
            if count == 0 || (count < 0 && errno != EAGAIN) { forget(descriptor) }
        }
    }

    private func readFirst(_ descriptor: Int32, _ state: Waiting, hasAll: Bool) {
        let count = recv(descriptor, &peeked, AssociationRequest.mostBytes, Int32(MSG_PEEK))
        guard count > 0 else {
            if count < 0 && errno == EAGAIN { return }
            return forget(descriptor)
        }
        switch state.transport {
        case .plain: readRequest(peeked.prefix(count), descriptor, state, hasAll: hasAll)
        case .tls: readHello(peeked.prefix(count), descriptor, state, hasAll: hasAll)
        }
    }

    private func readRequest(_ bytes: ArraySlice<UInt8>, _ descriptor: Int32, _ state: Waiting, hasAll: Bool) {
        do throws(AssociationRequest.Problem) {
            guard bytes.count >= AssociationRequest.headerBytes else {
                // Wait for the rest of the header, unless the first byte says enough.
                if bytes[0] != 0x01 { throw .notDICOM("not DICOM") }
                return waitForRest(AssociationRequest.headerBytes, descriptor, state, hasAll: hasAll)
            }
            let length = try AssociationRequest.length(header: bytes.prefix(AssociationRequest.headerBytes))
            guard bytes.count >= length else { return waitForRest(length, descriptor, state, hasAll: hasAll) }
            let request = try AssociationRequest(pdu: Array(bytes.prefix(length)))
            if let rejection = rules.rejection(of: request) { return reject(rejection, request, descriptor, state) }
            waitForPlace(descriptor, request)
        } catch {
            refuse("\(error.text)\(advice(plain: bytes[0]))", state)
            if bytes[0] == AssociationAbort.type { return forget(descriptor) }
            answer(AssociationAbort.pdu, descriptor)
        }
    }

    private func readHello(_ bytes: ArraySlice<UInt8>, _ descriptor: Int32, _ state: Waiting, hasAll: Bool) {
        do throws(TLSHello.Problem) {
            let length = try TLSHello.length(bytes) ?? TLSHello.headerBytes
            guard bytes.count >= length else { return waitForRest(length, descriptor, state, hasAll: hasAll) }
            waitForPlace(descriptor, nil)
        } catch {
            let port = error == .plainDICOM ? ports.plain.map { ", or send to port \($0)" } : nil
            refuse("\(error)\(port ?? "")", state)
            forget(descriptor)
        }
    }

    /// Which port to send to instead, where the first byte is that of a TLS hello.
    private func advice(plain first: UInt8) -> String {
        guard first == 0x16 else { return "" }
        return ports.tls.map { " (\($0))" } ?? "; this node has none, see tls in its configuration"
    }

    private func waitForPlace(_ descriptor: Int32, _ request: AssociationRequest?) {
        waiting[descriptor]?.step = .place(request)
        waiting[descriptor]?.deadline = Self.now() + rules.queueTime.inSeconds
    }

    /// The end of a stream is readable whatever the mark: who has finished sending would keep the loop spinning.
    private func waitForRest(_ count: Int, _ descriptor: Int32, _ state: Waiting, hasAll: Bool) {
        guard !hasAll else {
            let what = state.transport == .plain ? "association request" : "TLS hello"
            refuse("peer left within its \(what)", state)
            return forget(descriptor)
        }
        waitFor(count, descriptor)
    }

    /// poll(2) reports the socket readable only when that many bytes are there.
    private func waitFor(_ count: Int, _ descriptor: Int32) {
        var mark = Int32(count)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVLOWAT, &mark, socklen_t(MemoryLayout<Int32>.size))
    }

    private func admitWaiting() {
        let rules = rules
        let ordered = waiting.sorted { $0.value.deadline < $1.value.deadline }
        for (descriptor, state) in ordered {
            guard case .place(let request) = state.step, takePlace(state.peerAddress, rules) else { continue }
            waiting[descriptor] = nil
            waitFor(1, descriptor)
            let flags = fcntl(descriptor, F_GETFL)
            _ = fcntl(descriptor, F_SETFL, flags & ~Int32(O_NONBLOCK))
            clinux_tcp_tune(descriptor)
            admit(
                AdmittedConnection(
                    descriptor: descriptor, transport: state.transport, peerAddress: state.peerAddress,
                    callingAETitle: request?.callingAETitle, calledAETitle: request?.calledAETitle))
        }
    }

    private func takePlace(_ peer: String, _ rules: AdmissionRules) -> Bool {
        lock.withLock {
            let total = active.values.reduce(0, +)
            guard total < rules.mostAssociations, active[peer, default: 0] < rules.mostAssociationsPerPeer else {
                return false
            }
            active[peer, default: 0] += 1
            return true
        }
    }

    private func expire() {
        let now = Self.now()
        for (descriptor, state) in waiting where state.deadline <= now {
            switch state.step {
            case .request:
                let what = state.transport == .plain ? "association request" : "TLS hello"
                refuse("no complete \(what) in time", state)
                forget(descriptor)
            case .place(let request?): reject(.full, request, descriptor, state)
            case .place(nil):
                // Within TLS a reason could be given, at the price of a handshake: what there is too much of.
                refuse("\(Rejection.full.text); closed, since it speaks TLS", state)
                forget(descriptor)
            case .drain: forget(descriptor)
            }
        }
    }

    // MARK: Refusing

    private func reject(
        _ rejection: Rejection, _ request: AssociationRequest, _ descriptor: Int32, _ state: Waiting
    ) {
        let reason = rules.associationRules.advised(rejection, on: request)
        refuse(reason, state.peerAddress, state.transport, request)
        answer(rejection.pdu, descriptor)
    }

    /// Answers and drains, so that the peer sees the reason and not a reset.
    private func answer(_ pdu: [UInt8], _ descriptor: Int32) {
        waitFor(1, descriptor)
        send(pdu, to: descriptor)
        waiting[descriptor]?.step = .drain
        waiting[descriptor]?.deadline = Self.now() + Self.drainTime
        advance(descriptor)
    }

    private func send(_ pdu: [UInt8], to descriptor: Int32) {
        _ = pdu.withUnsafeBytes { clinux_send(descriptor, $0.baseAddress, $0.count, -1) }
        shutdown(descriptor, Int32(SHUT_WR))
    }

    private func refuse(_ reason: String, _ state: Waiting) {
        let request: AssociationRequest? = if case .place(let request) = state.step { request } else { nil }
        refuse(reason, state.peerAddress, state.transport, request)
    }

    private func refuse(
        _ reason: String, _ peer: String, _ transport: Transport, _ request: AssociationRequest? = nil
    ) {
        refused.increment()
        audit(.refused(peerAddress: peer, reason: reason))
        book.refused(peer, transport, request, reason)
        guard refusalsLogged.allows(at: Self.now()) else { return }
        logger.warning("connection refused", metadata: ["peer.address": "\(peer)", "reason": "\(reason)"])
    }

    private func forget(_ descriptor: Int32) {
        waiting[descriptor] = nil
        close(descriptor)
    }

    private func drainWakePipe() {
        var sink = [UInt8](repeating: 0, count: 256)
        while read(wakeRead, &sink, sink.count) > 0 {}
    }

    // MARK: Sockets

    private static func listen(on address: String, port: Int) throws -> (descriptor: Int32, port: Int) {
        var hints = addrinfo()
        hints.ai_flags = AI_PASSIVE | AI_NUMERICHOST
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(address, String(port), &hints, &found) == 0, let info = found else {
            throw ListenError("\(address) is not an IP address: name an address of this machine, 0.0.0.0 or ::")
        }
        defer { freeaddrinfo(found) }
        let kind = info.pointee.ai_socktype | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(info.pointee.ai_family, kind, 0)
        guard descriptor >= 0 else { throw ListenError("cannot make a socket for \(address): \(Errno.text)") }
        var on: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, size)
        // 0.0.0.0 has a socket of its own.
        if info.pointee.ai_family == AF_INET6 { setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &on, size) }
        guard bind(descriptor, info.pointee.ai_addr, info.pointee.ai_addrlen) == 0,
            Glibc.listen(descriptor, backlog) == 0
        else {
            let cause = Errno.text
            close(descriptor)
            throw ListenError("cannot listen on \(address) port \(port): \(cause)")
        }
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(descriptor, $0, &length) }
        }
        // Port has the same place in sockaddr_in and sockaddr_in6.
        let used = withUnsafeBytes(of: &name) { Int($0[2]) << 8 | Int($0[3]) }
        return (descriptor, used)
    }

    private static func numericHost(_ address: inout sockaddr_storage, _ length: socklen_t) -> String {
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getnameinfo($0, length, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST)
            }
        }
        guard result == 0 else { return "unknown" }
        let text = String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.hasPrefix("::ffff:") ? String(text.dropFirst("::ffff:".count)) : text
    }

    private static func doNotBlock(_ descriptor: Int32) {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | Int32(O_NONBLOCK))
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    }

    private static func now() -> TimeInterval { ProcessInfo.processInfo.systemUptime }
}

/// A port cannot be opened; says which and why.
public struct ListenError: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// At most so many events a minute; the rest is counted elsewhere.
struct RateLimit {
    let perMinute: Int
    private var minute = -1
    private var used = 0

    init(perMinute: Int) { self.perMinute = perMinute }

    mutating func allows(at seconds: TimeInterval) -> Bool {
        if minute != Int(seconds / 60) { (minute, used) = (Int(seconds / 60), 0) }
        used += 1
        return used <= perMinute
    }
}
