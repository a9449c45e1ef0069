import HTTPTypes
import Testing

@testable import Console

@Suite struct ConsoleServerTests {
    @Test func answersHealthAndAssets() async throws {
        let fixture = try ConsoleFixture()
        #expect(try await fixture.get("/health/live").body == "live\n")
        #expect(try await fixture.get("/health/ready").status == .ok)
        #expect(try await fixture.get(ConsoleAssets.path("console.css")).status == .ok)
        #expect(try await fixture.get("/assets/0000000000000000/console.css").status == .notFound)
        #expect(try await fixture.get("/nothing").status == .notFound)
    }

    @Test func escapesWhatIsInterpolated() {
        let name = "<script>alert(\"1\") & 'x'</script>"
        let html: HTML = "<p title=\"\(name)\">\(name) \(3) \(nil as HTML?)\(["<b>" as HTML, "</b>"])</p>"
        let escaped = "&lt;script&gt;alert(&quot;1&quot;) &amp; &#39;x&#39;&lt;/script&gt;"
        #expect(html.text == "<p title=\"\(escaped)\">\(escaped) 3 <b></b></p>")
    }

    @Test(arguments: [(0.84, "0.8 s"), (42.4, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")])
    func writesSpans(seconds: Double, text: String) { #expect(Words.span(seconds) == text) }
}
