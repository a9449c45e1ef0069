internal import Hummingbird

/// The parts of the console, as its navigation names them.
enum ConsoleArea: String, CaseIterable {
    case worklist, deliveries, alerts, peers, figures, system, model, configuration, about

    var title: String {
        switch self {
        case .worklist: "Worklist"
        case .deliveries: "Deliveries"
        case .alerts: "Alerts"
        case .peers: "Peers"
        case .figures: "Figures"
        case .system: "System"
        case .model: "Model"
        case .configuration: "Configuration"
        case .about: "About"
        }
    }
    var path: String { self == .worklist ? "/" : "/\(rawValue)" }
    /// In the order of the navigation.
    static let navigated: [ConsoleArea] = [
        .worklist, .deliveries, .alerts, .peers, .figures, .system, .model, .configuration,
    ]
}

/// A whole page around what an area shows.
struct Page {
    var title: String
    /// nil: outside the navigation, such as signing in.
    var area: ConsoleArea?
    var visitor: Visitor
    /// File names of sheets and scripts beside the common ones.
    var styles: [String] = []
    var scripts: [String] = []
    var content: HTML

    var html: HTML {
        """
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta name="csrf-token" content="\(visitor.csrfToken)">
        <title>\(title) – ICHNode</title>
        <link rel="icon" href="\(ConsoleAssets.path("icon.svg"))" type="image/svg+xml">
        <link rel="stylesheet" href="\(ConsoleAssets.path("console.css"))">
        \(styles.map { "<link rel=\"stylesheet\" href=\"\(ConsoleAssets.path($0))\">\n" as HTML })\
        <script src="\(ConsoleAssets.path("theme.js"))"></script>
        <script src="\(ConsoleAssets.path("console.js"))" defer></script>
        \(scripts.map { "<script src=\"\(ConsoleAssets.path($0))\" defer></script>\n" as HTML })</head>
        <body>
        <a class="skip" href="#content">To the content</a>
        \(header)
        <main id="content">
        \(content)
        </main>
        <footer class="foot">Research use – not for diagnosis. No finding here is no proof that nothing bleeds.</footer>
        </body>
        </html>
        """
    }

    func response(_ status: HTTPResponse.Status = .ok) -> Response { html.response(status) }

    private var header: HTML {
        """
        <header class="bar">
        <a class="brand" href="/">ICHNode</a>
        <nav class="areas" aria-label="Areas">
        \(ConsoleArea.navigated.map(link))</nav>
        <div class="visitor">
        <button type="button" class="quiet" id="theme" aria-label="Light or dark">◐</button>
        \(signing)</div>
        </header>
        """
    }

    private func link(_ each: ConsoleArea) -> HTML {
        let current: HTML = each == area ? " aria-current=\"page\"" : ""
        return "<a href=\"\(each.path)\"\(current)>\(each.title)</a>\n"
    }

    private var signing: HTML {
        guard let user = visitor.user else { return "<a href=\"/sign-in\">Sign in</a>" }
        return """
            <span class="user">\(user) <small>\(visitor.role?.rawValue ?? "")</small></span>
            <form method="post" action="/sign-out">\(csrfField)<button class="quiet">Sign out</button></form>
            """
    }

    private var csrfField: HTML { visitor.csrfField }
}

extension Visitor {
    /// Belongs into every form that posts.
    var csrfField: HTML { "<input type=\"hidden\" name=\"csrf\" value=\"\(csrfToken)\">" }
}

extension HTML {
    /// Never kept by a browser or a proxy: pages hold patients.
    func response(_ status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status, headers: [.contentType: "text/html; charset=utf-8", .cacheControl: "no-store"],
            body: .init(byteBuffer: ByteBuffer(string: text)))
    }
}
