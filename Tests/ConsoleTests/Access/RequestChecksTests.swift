import HTTPTypes
import Hummingbird
import NIOCore
import Testing

@testable import Console

@Suite struct RequestChecksTests {
    private func request(_ authority: String?, _ headers: HTTPFields = [:]) -> Request {
        Request(
            head: HTTPRequest(method: .post, scheme: "http", authority: authority, path: "/", headerFields: headers),
            body: .init(buffer: ByteBuffer()))
    }

    @Test(arguments: [
        ("/studies/1.2?x=1", "/studies/1.2?x=1"), ("/", "/"), (nil, "/"), ("", "/"), ("https://evil.example/", "/"),
        ("//evil.example", "/"), ("/\\evil.example", "/"), ("\\\\evil.example", "/"), ("/\t/evil.example", "/"),
        ("/a\r\nSet-Cookie: x", "/"), ("javascript:alert(1)", "/"), ("/%2f/evil.example", "/%2f/evil.example"),
        ("/sign-out", "/"), ("/sign-in?next=/", "/"), ("/é", "/"), (" /", "/"),
        ("/" + String(repeating: "x", count: 1024), "/"),
    ])
    func redirectsStayHere(next: String?, expected: String) { #expect(RequestChecks.localPath(next) == expected) }

    @Test(arguments: [
        ("localhost:8080", true), ("127.0.0.1", true), ("127.0.0.1:1", true), ("[::1]:8080", true), ("[::1]", true),
        ("LOCALHOST", true), ("node.hospital.example", true), (nil, true), ("evil.example", false),
        ("localhost.evil.example", false), ("127.0.0.1.evil.example:8080", false), ("[::2]", false),
        ("evil.example:localhost", false),
    ])
    func aNameThatIsNotOursIsRefusedOnLoopback(authority: String?, isOurs: Bool) {
        var settings = ConsoleSettings()
        settings.hostNames = ["Node.hospital.example"]
        #expect(RequestChecks.isForUs(request(authority), settings) == isOurs)
        settings.host = "0.0.0.0"
        #expect(RequestChecks.isForUs(request(authority), settings))
    }

    private static let fields: [(HTTPFields, Bool)] = [
        ([:], false), ([.origin: "http://localhost:8080"], false), ([.origin: "https://localhost"], false),
        ([.origin: "http://evil.example"], true), ([.origin: "null"], true), ([.origin: ""], true),
        ([.origin: "http://localhost.evil.example:8080"], true), ([.secFetchSite: "same-origin"], false),
        ([.secFetchSite: "none"], false),
        ([.secFetchSite: "same-origin", .origin: "null"], false),
        ([.secFetchSite: "cross-site", .origin: "null"], true), ([.secFetchSite: "same-site"], true),
        ([.secFetchSite: "cross-site"], true),
    ]

    @Test(arguments: fields)
    func knowsWhatAnotherSiteSent(headers: HTTPFields, isFromElsewhere: Bool) {
        #expect(RequestChecks.isFromElsewhere(request("localhost:8080", headers)) == isFromElsewhere)
    }

    @Test(arguments: [
        (nil, false, "10.0.0.1"), ("192.0.2.7", false, "10.0.0.1"), ("192.0.2.7", true, "192.0.2.7"),
        ("evil, 192.0.2.7", true, "192.0.2.7"), ("192.0.2.7, evil", true, "10.0.0.1"), (nil, true, "10.0.0.1"),
        ("192.0.2.7:5678", true, "192.0.2.7"), ("[::1]:1234", true, "::1"), ("192.0.2:80", true, "10.0.0.1"),
        ("[2001:db8::1]", true, "2001:db8::1"), ("2001:db8::1", true, "2001:db8::1"),
    ])
    func onlyAProxyIsBelieved(forwarded: String?, isBehindProxy: Bool, expected: String) throws {
        let headers: HTTPFields = forwarded.map { [.xForwardedFor: $0] } ?? [:]
        let peer = try SocketAddress(ipAddress: "10.0.0.1", port: 4711)
        #expect(ClientAddress.of(request("x", headers), peer: peer, isBehindProxy: isBehindProxy) == expected)
    }
}
