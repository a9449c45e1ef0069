internal import Foundation
internal import Hummingbird

/// What was done or refused, kept for the page that the browser is sent to afterwards. Nobody can make a page show
/// another text: only its key travels.
actor ActionOutcomes {
    private static let most = 100
    private static let mostCharacters = 600

    private var kept: [(key: String, notice: HTML)] = []

    func keep(_ text: String, isDone: Bool) -> String {
        let key = UUID().uuidString
        let text = Words.bounded(text, Self.mostCharacters)
        let notice: HTML =
            isDone
            ? "<div class=\"notice good\" role=\"status\">\(text)</div>"
            : "<div class=\"notice error\" role=\"alert\">Not done: \(text)</div>"
        kept.append((key, notice))
        if kept.count > Self.most { kept.removeFirst() }
        return key
    }

    func notice(_ request: Request) -> HTML? {
        let key = request.uri.queryParameters["told"].map(String.init)
        return kept.first { $0.key == key }?.notice
    }
}

extension Page {
    /// The heading of a page that follows the node, and of when it is.
    static func liveHead(_ title: String, _ now: Date) -> HTML {
        """
        <div class="head"><h1>\(title)</h1><span id="live-state" class="soft">as of \(Words.time(now)): reload for \
        news</span></div>
        """
    }
}

extension Response {
    /// After something was done: another look, which a browser may reload.
    static func seeOther(_ path: String) -> Response {
        Response(status: .seeOther, headers: [.location: path, .cacheControl: "no-store"])
    }
}

extension Words {
    static func bounded(_ text: String, _ most: Int) -> String {
        text.count > most ? "\(text.prefix(most))…" : text
    }

    /// "1 object", "2 objects".
    static func count(_ number: Int, _ singular: String, _ plural: String? = nil) -> String {
        "\(number) \(number == 1 ? singular : plural ?? singular + "s")"
    }
}
