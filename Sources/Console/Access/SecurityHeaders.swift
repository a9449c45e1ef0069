internal import HTTPTypes

/// What browsers have to know of every response (OWASP ASVS 4.0 §14.4).
enum SecurityHeaders {
    private static let policy = """
        default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
        form-action 'self'; frame-ancestors 'none'; base-uri 'none'
        """

    private static let always: [(String, String)] = [
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        // Not no-referrer: browsers then name no origin with the forms of the console itself.
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
        // Unless the handler says otherwise: pages hold patients.
        ("Cache-Control", "no-store"),
    ]

    /// Leaves alone what is there.
    static func add(to fields: inout HTTPFields, isSecure: Bool) {
        let secure = isSecure ? [("Strict-Transport-Security", "max-age=31536000")] : []
        for (text, value) in always + secure {
            guard let name = HTTPField.Name(text), fields[name] == nil else { continue }
            fields[name] = value
        }
    }
}

extension HTTPField.Name {
    static let xForwardedFor = constant("X-Forwarded-For")
    static let secFetchSite = constant("Sec-Fetch-Site")
    static let csrfToken = constant("X-CSRF-Token")
    /// Of requests that a script makes by itself: they are no use of the session.
    static let background = constant("X-Background")

    static func constant(_ text: String) -> HTTPField.Name {
        guard let name = HTTPField.Name(text) else { preconditionFailure("\(text) is a field name") }
        return name
    }
}
