/// A long list in pages, by number from 1.
struct Paging {
    static let size = 50
    var number: Int
    var total: Int

    var count: Int { max(1, (total + Self.size - 1) / Self.size) }
    static func offset(_ number: Int) -> Int { (number - 1) * size }

    /// The page that is asked for; no list is longer than the last.
    static func number(_ text: (some StringProtocol)?) -> Int {
        min(max(1, text.flatMap { Int($0) } ?? 1), 1_000_000)
    }

    /// - Parameter link: where another page is.
    func navigation(_ link: (Int) -> String) -> HTML? {
        guard count > 1 else { return nil }
        func step(_ to: Int, _ text: String, _ relation: String) -> HTML? {
            guard (1...count).contains(to) else { return nil }
            return "<a class=\"button\" rel=\"\(relation)\" href=\"\(link(to))\">\(text)</a>"
        }
        return """
            <nav class="row paging" aria-label="Pages">
            \(step(number - 1, "Newer", "prev"))<span class="soft">Page \(number) of \(count), \(total) in all</span>\
            \(step(number + 1, "Older", "next"))
            </nav>
            """
    }
}
