internal import Hummingbird
internal import WorkerProtocol

/// Style sheets, scripts and the icon: part of the executable, named with a digest of their bytes so that a browser may
/// keep them for ever and never mixes versions.
enum ConsoleAssets {
    struct Asset: Sendable {
        var bytes: [UInt8]
        var type: String
        var digest: String
    }

    static let all: [String: Asset] = [
        "console.css": asset(PackageResources.console_css, "text/css; charset=utf-8"),
        "console.js": asset(PackageResources.console_js, "text/javascript; charset=utf-8"),
        "sign-in.css": asset(PackageResources.sign_in_css, "text/css; charset=utf-8"),
        "theme.js": asset(PackageResources.theme_js, "text/javascript; charset=utf-8"),
        "exchange.css": asset(PackageResources.exchange_css, "text/css; charset=utf-8"),
        "live.js": asset(PackageResources.live_js, "text/javascript; charset=utf-8"),
        "worklist.css": asset(PackageResources.worklist_css, "text/css; charset=utf-8"),
        "worklist.js": asset(PackageResources.worklist_js, "text/javascript; charset=utf-8"),
        "viewer.css": asset(PackageResources.viewer_css, "text/css; charset=utf-8"),
        "viewer.js": asset(PackageResources.viewer_js, "text/javascript; charset=utf-8"),
        "icon.svg": asset(PackageResources.icon_svg, "image/svg+xml"),
    ]

    private static func asset(_ bytes: [UInt8], _ type: String) -> Asset {
        let text = String(decoding: bytes, as: UTF8.self)
        return Asset(bytes: bytes, type: type, digest: String(SHA256Digest.hex(of: [text]).prefix(16)))
    }

    /// Where a page finds it.
    static func path(_ name: String) -> String {
        guard let asset = all[name] else { preconditionFailure("no asset is named \(name)") }
        return "/assets/\(asset.digest)/\(name)"
    }

    static let route = ConsoleRoute.get("/assets/{digest}/{name}", .open) { _, context in
        guard let name = context.parameters.get("name"), let asset = all[name],
            context.parameters.get("digest") == asset.digest
        else { throw HTTPError(.notFound) }
        return Response(
            status: .ok,
            headers: [.contentType: asset.type, .cacheControl: "public, max-age=31536000, immutable"],
            body: .init(byteBuffer: ByteBuffer(bytes: asset.bytes)))
    }
}
