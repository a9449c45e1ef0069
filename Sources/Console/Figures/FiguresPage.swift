internal import Foundation
internal import Hummingbird
internal import Ledger

/// How much comes, what becomes of it and how long that takes.
struct FiguresPage {
    private let clock: WallClock
    private let figures: Cached<StudyFigures>
    private static let dayCount = 30
    private static let age: TimeInterval = 60

    init(parts: ConsoleServer.Parts, calendar: Calendar = .autoupdatingCurrent) {
        clock = parts.clock
        figures = Cached(atMost: Self.age, clock: parts.clock) {
            let days = StudyFigures.days(Self.dayCount, until: parts.clock.now(), in: calendar)
            return try await parts.ledger.figures(ofDays: days)
        }
    }

    var routes: [ConsoleRoute] {
        [
            .get("/figures", .overview) { _, context in
                var page = Page(
                    title: "Figures", area: .figures, visitor: context.visitor, styles: [SystemStyle.name], content: "")
                do {
                    let found = try await figures.value()
                    page.content = FiguresText(figures: found.value, at: found.at).content
                } catch let error as LedgerBusy { throw error } catch {
                    page.content = """
                        <h1>Figures</h1><div class="notice error" role="alert">The ledger cannot be read, so there are \
                        no figures to show: \("\(error)"). Look at the disk and at the log of the node.</div>
                        """
                    return page.response(.internalServerError)
                }
                return page.response()
            }
        ]
    }
}
