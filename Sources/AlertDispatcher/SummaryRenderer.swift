internal import Foundation

/// What a summary says above its slices.
struct SummaryText {
    var title: String
    var lines: [String]
    /// What a slice is called: "image", or "frame".
    var noun: String
}

/// Draws one picture of a study that a viewer shows as a thumbnail: the most suspicious slices with their activation
/// and probability, and above them what was found, by which model, and how complete the study was.
struct SummaryRenderer: Sendable {
    /// Rows and columns have at most this many pixels.
    static let side = 1024
    static let mostSlices = 9
    /// Lines that a sentence may take.
    private static let mostLines = 2

    private static let margin = 12
    private static let titleScale = 3
    private static let scale = 2
    private static let lineHeight = (BitmapFont.height + 3) * scale
    /// Amber and black: told apart by lightness alone.
    private static let mark = Colour(1, 0.76, 0.03)

    private let renderer = HeatmapRenderer()

    func render(_ slices: [HeatmapSlice], text: SummaryText) -> Canvas {
        precondition((1...Self.mostSlices).contains(slices.count), "a summary shows 1 to \(Self.mostSlices) slices")
        let lines = text.lines.flatMap(Self.wrapped)
        let top = Self.margin + Self.titleHeight + lines.count * Self.lineHeight + Self.margin / 2 + Self.markHeight
        let crop = Crop(around: slices)
        let pictures = slices.map { crop.applied(to: renderer.overlay($0)) }
        let grid = Grid(pictures, height: Self.side - top - Self.footerHeight)
        var canvas = Canvas(rows: top + grid.height + Self.footerHeight, columns: Self.side)
        drawHeader(text.title, lines, on: &canvas)
        for (index, (slice, picture)) in zip(slices, pictures).enumerated() {
            let place = grid.place(of: index)
            let size = grid.size(of: picture)
            let (row, column) = (top + place.row, place.column + (grid.cellWidth - size.columns) / 2)
            canvas.write(
                "\(text.noun.uppercased()) \(slice.instanceNumber)  P \(String(format: "%.2f", slice.probability))",
                row: row + Grid.labelGap, column: column, scale: Self.scale)
            canvas.draw(
                picture.resampled(rows: size.rows, columns: size.columns), row: row + Grid.labelHeight, column: column)
        }
        drawFooter(on: &canvas)
        return canvas
    }

    // MARK: Text

    private static let titleHeight = (BitmapFont.height + 4) * titleScale
    private static let markHeight = lineHeight + 6
    private static let footerHeight = lineHeight + margin

    private func drawHeader(_ title: String, _ lines: [String], on canvas: inout Canvas) {
        var row = Self.margin
        canvas.write(Self.printable(title), row: row, column: Self.margin, scale: Self.titleScale)
        row += Self.titleHeight
        for line in lines {
            canvas.write(line, row: row, column: Self.margin, scale: Self.scale, colour: Colour(grey: 0.9))
            row += Self.lineHeight
        }
        row += Self.margin / 2
        canvas.fill(rows: row..<row + Self.markHeight, columns: 0..<canvas.columns, Self.mark)
        let text = "RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE"
        canvas.write(
            text, row: row + (Self.markHeight - BitmapFont.height * Self.scale) / 2,
            column: (canvas.columns - text.count * BitmapFont.advance * Self.scale) / 2, scale: Self.scale,
            colour: Colour(grey: 0), ground: 0)
    }

    /// The colour map, and what the labels mean.
    private func drawFooter(on canvas: inout Canvas) {
        let row = canvas.rows - Self.footerHeight + Self.margin / 2
        var column = Self.margin
        func write(_ text: String) {
            canvas.write(text, row: row, column: column, scale: Self.scale)
            column += text.count * BitmapFont.advance * Self.scale
        }
        write("Class activation 0 ")
        let width = 120
        for step in 0..<width {
            let colour = ColourMap.heat.colour(at: Float(step) / Float(width - 1))
            canvas.fill(
                rows: row..<row + BitmapFont.height * Self.scale, columns: column + step..<column + step + 1, colour)
        }
        column += width
        write(" 1   P: probability of the slice   W80 L40")
    }

    /// What the font lacks becomes a question mark.
    private static func printable(_ text: String) -> String {
        String(text.map { BitmapFont.has($0) ? $0 : "?" })
    }

    /// Broken between words where it can be; ends in dots where it does not fit.
    static func wrapped(_ text: String) -> [String] {
        let width = (side - 2 * margin) / (BitmapFont.advance * scale)
        var lines: [String] = []
        var rest = printable(text)[...]
        while !rest.isEmpty {
            if rest.count <= width { return lines + [String(rest)] }
            let line = rest.prefix(width)
            if lines.count == mostLines - 1 { return lines + [line.dropLast(2) + ".."] }
            let half = line.index(line.startIndex, offsetBy: width / 2)
            let end = line.lastIndex(of: " ").flatMap { $0 > half ? $0 : nil } ?? line.endIndex
            lines.append(String(rest[..<end]))
            rest = rest[end...].drop { $0 == " " }
        }
        return lines
    }
}

/// The part of all slices that shows the head, so that it is as large as can be; one for all, so that they compare.
private struct Crop {
    private let rows: Range<Int>
    private let columns: Range<Int>
    /// HU of soft tissue. Lines with less of it than this share show air, a table, or the very edge.
    private static let tissue: ClosedRange<Int16> = 0...80
    private static let leastShare = 0.04
    /// Around it, as a share of the slice.
    private static let margin = 0.03

    init(around slices: [HeatmapSlice]) {
        let (rows, columns) = (slices[0].rows, slices[0].columns)
        guard slices.allSatisfy({ $0.rows == rows && $0.columns == columns }) else {
            (self.rows, self.columns) = (0..<Int.max, 0..<Int.max)
            return
        }
        var inRows = [Bool](repeating: false, count: rows)
        var inColumns = [Bool](repeating: false, count: columns)
        for slice in slices {
            var rowCounts = [Int](repeating: 0, count: rows)
            var columnCounts = [Int](repeating: 0, count: columns)
            for index in slice.hounsfield.indices {
                let (row, column) = (index / columns, index % columns)
                if slice.activation[index] > HeatmapRenderer.floor { (inRows[row], inColumns[column]) = (true, true) }
                guard Self.tissue.contains(slice.hounsfield[index]) else { continue }
                rowCounts[row] += 1
                columnCounts[column] += 1
            }
            for row in 0..<rows where Double(rowCounts[row]) > Self.leastShare * Double(columns) { inRows[row] = true }
            for column in 0..<columns where Double(columnCounts[column]) > Self.leastShare * Double(rows) {
                inColumns[column] = true
            }
        }
        (self.rows, self.columns) = (Self.extent(inRows), Self.extent(inColumns))
    }

    func applied(to picture: Canvas) -> Canvas {
        picture.cropped(rows: rows.clamped(to: 0..<picture.rows), columns: columns.clamped(to: 0..<picture.columns))
    }

    /// All where nothing is in.
    private static func extent(_ isIn: [Bool]) -> Range<Int> {
        guard let first = isIn.firstIndex(of: true), let last = isIn.lastIndex(of: true) else { return 0..<isIn.count }
        let margin = Int(Double(isIn.count) * margin)
        return first - margin..<last + 1 + margin
    }
}

/// Where slices of a summary lie: side by side, each as large as fits, under a label.
private struct Grid {
    static let labelGap = 8
    static let labelHeight = labelGap + (BitmapFont.height + 2) * 2
    private static let gap = 8
    /// More would be narrower than a label with a number of ten digits.
    private static let mostColumns = 3

    private let columns: Int
    private let cellHeight: Int
    private let pictureHeight: Int
    let cellWidth: Int
    let height: Int

    /// As many columns as make the pictures largest.
    /// - Parameter height: pixels that are there for all.
    init(_ pictures: [Canvas], height most: Int) {
        let grids = (1...min(Self.mostColumns, pictures.count)).map { Grid(pictures, columns: $0, height: most) }
        func area(_ grid: Grid) -> Int { pictures.map(grid.size(of:)).map { $0.rows * $0.columns }.reduce(0, +) }
        self = grids.max { area($0) < area($1) } ?? grids[0]
    }

    private init(_ pictures: [Canvas], columns: Int, height most: Int) {
        let rows = (pictures.count + columns - 1) / columns
        let width = (SummaryRenderer.side - Self.gap * (columns + 1)) / columns
        let limit = most / rows - Self.labelHeight
        self.columns = columns
        cellWidth = width
        pictureHeight = pictures.map { Self.size(of: $0, width: width, height: limit).rows }.max() ?? 1
        cellHeight = pictureHeight + Self.labelHeight
        height = rows * cellHeight
    }

    func place(of index: Int) -> (row: Int, column: Int) {
        (index / columns * cellHeight, Self.gap + index % columns * (cellWidth + Self.gap))
    }

    /// Pixels that a picture gets; its own are taken to be square.
    func size(of picture: Canvas) -> (rows: Int, columns: Int) {
        Self.size(of: picture, width: cellWidth, height: pictureHeight)
    }

    private static func size(of picture: Canvas, width: Int, height: Int) -> (rows: Int, columns: Int) {
        let factor = min(Double(width) / Double(picture.columns), Double(height) / Double(picture.rows))
        return (
            max(1, min(height, Int(Double(picture.rows) * factor))),
            max(1, min(width, Int(Double(picture.columns) * factor)))
        )
    }
}
