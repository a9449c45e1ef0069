import AlertDispatcher
import Foundation

/// A chart whose axes both go from 0 to 1.
struct UnitChart {
    struct Point {
        var x: Double
        var y: Double
    }

    /// Dark on white, distinguishable without colour vision.
    enum Ink {
        static let text = Colour(grey: 0.1)
        static let grid = Colour(grey: 0.88)
        static let reference = Colour(grey: 0.55)
        static let curve = Colour(0.10, 0.32, 0.65)
        static let mark = Colour(0.80, 0.27, 0.10)
    }

    private static let side = 640
    private static let (left, top, right, bottom) = (110, 100, 50, 100)
    private static let textScale = 2

    private var canvas: Canvas

    /// - Parameter heading: lines above the chart, the first the title; one or two.
    init(heading: [String], xTitle: String, yTitle: String) {
        canvas = Canvas(rows: Self.top + Self.side + Self.bottom, columns: Self.left + Self.side + Self.right)
        for index in 0..<(canvas.rows * canvas.columns) { canvas.set(index, Colour(grey: 1)) }
        drawAxes()
        for (line, text) in heading.enumerated() { write(text, column: Self.left, row: 24 + 30 * line) }
        let height = BitmapFont.height * Self.textScale
        write(
            xTitle, column: Self.left + (Self.side - Self.width(xTitle)) / 2,
            row: Self.top + Self.side + Self.bottom - height - 22)
        writeUpwards(yTitle, column: 22, row: Self.top + (Self.side + Self.width(yTitle)) / 2)
    }

    func png() throws -> Data {
        try PNGImage.encode(rows: canvas.rows, columns: canvas.columns, pixels: canvas.pixels)
    }

    // MARK: Marks

    /// Joins the points.
    mutating func line(_ points: [Point], _ colour: Colour, width: Double = 3, isDashed: Bool = false) {
        var travelled = 0.0
        for (from, to) in zip(points, points.dropFirst()) {
            let (start, end) = (Self.place(from), Self.place(to))
            let length = hypot(end.x - start.x, end.y - start.y)
            stroke(start, end, colour, width: width, dash: isDashed ? travelled : nil)
            travelled += length
        }
    }

    mutating func dot(_ point: Point, _ colour: Colour, radius: Double = 6) {
        let centre = Self.place(point)
        stroke(centre, centre, colour, width: 2 * radius, dash: nil)
    }

    /// An upright interval with short bars at its ends.
    mutating func interval(x: Double, low: Double, high: Double, _ colour: Colour) {
        line([Point(x: x, y: low), Point(x: x, y: high)], colour, width: 2)
        for y in [low, high] { line([Point(x: x - 0.008, y: y), Point(x: x + 0.008, y: y)], colour, width: 2) }
    }

    /// Dots with their names beside them; names that would lie over each other move down.
    mutating func named(_ points: [(name: String, point: Point)], _ colour: Colour) {
        let line = BitmapFont.height * Self.textScale + 8
        var lowest = 0
        for (name, point) in points.sorted(by: { $0.point.y > $1.point.y }) {
            dot(point, colour)
            let place = Self.place(point)
            let row = max(Int(place.y) + 12, lowest)
            lowest = row + line
            write(name, column: Int(place.x) + 12, row: min(row, Self.top + Self.side - line))
        }
    }

    /// Text lines in the lower right corner, with a stroke of its colour before each.
    mutating func legend(_ entries: [(text: String, colour: Colour, isDashed: Bool)]) {
        let longest = entries.map { Self.width($0.text) }.max() ?? 0
        let column = Self.left + Self.side - longest - 70
        for (place, entry) in entries.enumerated() {
            let row = Self.top + Self.side - 20 - (entries.count - place) * 26
            let middle = Double(row + BitmapFont.height)
            stroke(
                (Double(column), middle), (Double(column + 40), middle), entry.colour, width: 3,
                dash: entry.isDashed ? 0 : nil)
            write(entry.text, column: column + 52, row: row)
        }
    }

    // MARK: Parts

    private mutating func drawAxes() {
        for tick in 0...5 {
            let value = Double(tick) / 5
            line([Point(x: value, y: 0), Point(x: value, y: 1)], Ink.grid, width: 1)
            line([Point(x: 0, y: value), Point(x: 1, y: value)], Ink.grid, width: 1)
        }
        for tick in 0...5 {
            let value = Double(tick) / 5
            let text = String(format: "%.1f", value)
            let place = Self.place(Point(x: value, y: value))
            let base = Self.place(Point(x: 0, y: 0))
            stroke((place.x, base.y), (place.x, base.y + 7), Ink.text, width: 2, dash: nil)
            stroke((base.x - 7, place.y), (base.x, place.y), Ink.text, width: 2, dash: nil)
            write(text, column: Int(place.x) - Self.width(text) / 2, row: Int(base.y) + 14)
            write(
                text, column: Int(base.x) - Self.width(text) - 12,
                row: Int(place.y) - BitmapFont.height * Self.textScale / 2)
        }
        let corners = [(0.0, 0.0), (1, 0), (1, 1), (0, 1), (0, 0)].map { Point(x: $0.0, y: $0.1) }
        line(corners, Ink.text, width: 2)
    }

    private static func place(_ point: Point) -> (x: Double, y: Double) {
        (Double(left) + point.x * Double(side), Double(top) + (1 - point.y) * Double(side))
    }

    private static func width(_ text: String) -> Int { (text.count * BitmapFont.advance - 1) * textScale }

    /// A stroke with round ends and soft edges.
    /// - Parameter dash: how far the line has come, for the rhythm of a dashed one.
    private mutating func stroke(
        _ start: (x: Double, y: Double), _ end: (x: Double, y: Double), _ colour: Colour, width: Double, dash: Double?
    ) {
        let (dx, dy) = (end.x - start.x, end.y - start.y)
        let length = hypot(dx, dy)
        let reach = width / 2 + 1
        let rows = clamp(min(start.y, end.y) - reach, max(start.y, end.y) + reach, canvas.rows)
        let columns = clamp(min(start.x, end.x) - reach, max(start.x, end.x) + reach, canvas.columns)
        for row in rows {
            for column in columns {
                let (x, y) = (Double(column) - start.x, Double(row) - start.y)
                let along = length > 0 ? min(max((x * dx + y * dy) / length, 0), length) : 0
                if let dash, (dash + along).truncatingRemainder(dividingBy: 14) > 8 { continue }
                let share = length > 0 ? along / length : 0
                let coverage = width / 2 + 0.5 - hypot(x - share * dx, y - share * dy)
                guard coverage > 0 else { continue }
                canvas.blend(row * canvas.columns + column, colour, Float(min(1, coverage)))
            }
        }
    }

    private func clamp(_ low: Double, _ high: Double, _ count: Int) -> Range<Int> {
        let first = min(max(0, Int(low.rounded(.down))), count)
        return first..<max(first, min(count, Int(high.rounded(.up)) + 1))
    }

    private mutating func write(_ text: String, column: Int, row: Int, colour: Colour = Ink.text) {
        dots(text) { x, y in (column + x, row + y) }.forEach { paint($0.0, $0.1, colour) }
    }

    /// Turned a quarter to the left; begins at the given row and goes up.
    private mutating func writeUpwards(_ text: String, column: Int, row: Int) {
        dots(text) { x, y in (column + y, row - x) }.forEach { paint($0.0, $0.1, Ink.text) }
    }

    private func dots(_ text: String, _ place: (Int, Int) -> (Int, Int)) -> [(Int, Int)] {
        text.enumerated().flatMap { index, character in
            BitmapFont.dots(of: character).flatMap { dot in
                (0..<Self.textScale).flatMap { y in
                    (0..<Self.textScale).map { x in
                        place(
                            (index * BitmapFont.advance + dot.column) * Self.textScale + x,
                            dot.row * Self.textScale + y)
                    }
                }
            }
        }
    }

    private mutating func paint(_ column: Int, _ row: Int, _ colour: Colour) {
        guard (0..<canvas.columns).contains(column), (0..<canvas.rows).contains(row) else { return }
        canvas.set(row * canvas.columns + column, colour)
    }
}
