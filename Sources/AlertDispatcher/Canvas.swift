/// Linear-light-free 8-bit colour, components 0…1.
package struct Colour: Equatable, Sendable {
    package var red: Float
    package var green: Float
    package var blue: Float
    package init(_ red: Float, _ green: Float, _ blue: Float) { (self.red, self.green, self.blue) = (red, green, blue) }
    package init(grey: Float) { self.init(grey, grey, grey) }
}

/// RGB pixels, 8 bits a sample.
package struct Canvas {
    package let rows: Int
    package let columns: Int
    /// [row][column][R,G,B]
    package private(set) var pixels: [UInt8]

    package init(rows: Int, columns: Int) {
        self.rows = rows
        self.columns = columns
        pixels = [UInt8](repeating: 0, count: rows * columns * 3)
    }

    package mutating func set(_ index: Int, _ colour: Colour) { blend(index, colour, 1) }

    package mutating func blend(_ index: Int, _ colour: Colour, _ opacity: Float) {
        let components = (colour.red, colour.green, colour.blue)
        func mix(_ old: UInt8, _ new: Float) -> UInt8 {
            UInt8((Float(old) * (1 - opacity) + new * 255 * opacity).rounded())
        }
        pixels[index * 3] = mix(pixels[index * 3], components.0)
        pixels[index * 3 + 1] = mix(pixels[index * 3 + 1], components.1)
        pixels[index * 3 + 2] = mix(pixels[index * 3 + 2], components.2)
    }

    package mutating func fill(rows: Range<Int>, columns: Range<Int>, _ colour: Colour) {
        for row in rows.clamped(to: 0..<self.rows) {
            for column in columns.clamped(to: 0..<self.columns) { set(row * self.columns + column, colour) }
        }
    }

    /// Another picture with its upper left pixel here; all of it has to fit.
    package mutating func draw(_ picture: Canvas, row: Int, column: Int) {
        let width = picture.columns * 3
        for y in 0..<picture.rows {
            let start = ((row + y) * columns + column) * 3
            pixels.replaceSubrange(start..<start + width, with: picture.pixels[y * width..<(y + 1) * width])
        }
    }

    package func cropped(rows: Range<Int>, columns: Range<Int>) -> Canvas {
        var result = Canvas(rows: rows.count, columns: columns.count)
        result.pixels = rows.flatMap { row in
            pixels[(row * self.columns + columns.lowerBound) * 3..<(row * self.columns + columns.upperBound) * 3]
        }
        return result
    }

    /// Interpolated where it grows, averaged where it shrinks.
    package func resampled(rows: Int, columns: Int) -> Canvas {
        var result = Canvas(rows: rows, columns: columns)
        let across = Taps.line(from: self.columns, to: columns)
        var narrow = [Float](repeating: 0, count: self.rows * columns * 3)
        for row in 0..<self.rows {
            for (column, taps) in across.enumerated() {
                for component in 0..<3 {
                    narrow[(row * columns + column) * 3 + component] = taps.sum {
                        Float(pixels[(row * self.columns + $0) * 3 + component])
                    }
                }
            }
        }
        let stride = columns * 3
        for (row, taps) in Taps.line(from: self.rows, to: rows).enumerated() {
            for sample in 0..<stride {
                result.pixels[row * stride + sample] = UInt8(taps.sum { narrow[$0 * stride + sample] }.rounded())
            }
        }
        return result
    }

    /// On a darkened ground, so that it reads over bone. What does not fit is cut off.
    /// - Parameter ground: how much of what is there is darkened away, 0…1.
    package mutating func write(
        _ text: String, row: Int, column: Int, scale: Int, colour: Colour = Colour(grey: 1), ground: Float = 0.6
    ) {
        let width = text.count * BitmapFont.advance * scale
        for y in max(0, row - scale)..<max(0, row - scale, min(rows, row + (BitmapFont.height + 1) * scale)) {
            for x in max(0, column - scale)..<max(0, column - scale, min(columns, column + width)) {
                blend(y * columns + x, Colour(grey: 0), ground)
            }
        }
        for (position, character) in text.enumerated() {
            let left = column + position * BitmapFont.advance * scale
            for (dx, dy) in BitmapFont.dots(of: character) {
                for y in 0..<scale {
                    for x in 0..<scale {
                        let (row, column) = (row + dy * scale + y, left + dx * scale + x)
                        guard row >= 0, row < rows, column >= 0, column < columns else { continue }
                        set(row * columns + column, colour)
                    }
                }
            }
        }
    }
}

/// Which pixels of a line make up one of a longer or shorter line: a triangle as wide as the coarser line's pixels.
private struct Taps {
    private let first: Int
    private let weights: [Float]

    static func line(from: Int, to: Int) -> [Taps] {
        let step = Float(from) / Float(to)
        let reach = max(1, step)
        return (0..<to).map { position in
            let centre = (Float(position) + 0.5) * step - 0.5
            let first = max(0, Int((centre - reach).rounded(.up)))
            let last = min(from - 1, Int((centre + reach).rounded(.down)))
            let weights = (first...last).map { max(0, 1 - abs(Float($0) - centre) / reach) }
            let total = weights.reduce(0, +)
            return Taps(first: first, weights: weights.map { $0 / total })
        }
    }

    func sum(_ value: (Int) -> Float) -> Float {
        var sum: Float = 0
        for (offset, weight) in weights.enumerated() { sum += weight * value(first + offset) }
        return min(sum, 255)
    }
}
