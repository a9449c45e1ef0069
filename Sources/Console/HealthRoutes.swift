internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// For systemd, load balancers and Prometheus; without anything of any study.
struct HealthRoutes {
    let parts: ConsoleServer.Parts

    var routes: [ConsoleRoute] {
        let gauges = LedgerGauges(parts: parts)
        return [
            .get("/health/live", .open) { [parts] _, _ in
                if let still = parts.standstill() {
                    return Self.text("standing still: \(still)\n", .serviceUnavailable)
                }
                return Self.text("live\n", .ok)
            },
            .get("/health/ready", .open) { [parts] _, _ in
                if let missing = await parts.notReady() {
                    return Self.text("not ready: \(missing)\n", .serviceUnavailable)
                }
                return Self.text("ready\n", .ok)
            },
            .get("/metrics", .open) { [parts] _, _ in
                await gauges.refresh()
                return Self.text(parts.registry.prometheusText(), .ok, type: "text/plain; version=0.0.4; charset=utf-8")
            },
        ]
    }

    private static func text(
        _ body: String, _ status: HTTPResponse.Status, type: String = "text/plain; charset=utf-8"
    ) -> Response {
        Response(
            status: status, headers: [.contentType: type, .cacheControl: "no-store"],
            body: .init(byteBuffer: ByteBuffer(string: body)))
    }
}
