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

    /// White on a darkened ground, so that it reads over bone. What does not fit is cut off.
    package mutating func write(_ text: String, row: Int, column: Int, scale: Int) {
        let width = text.count * BitmapFont.advance * scale
        for y in max(0, row - scale)..<max(0, row - scale, min(rows, row + (BitmapFont.height + 1) * scale)) {
            for x in max(0, column - scale)..<max(0, column - scale, min(columns, column + width)) {
                blend(y * columns + x, Colour(grey: 0), 0.6)
            }
        }
        for (position, character) in text.enumerated() {
            let left = column + position * BitmapFont.advance * scale
            for (dx, dy) in BitmapFont.dots(of: character) {
                for y in 0..<scale {
                    for x in 0..<scale {
                        let (row, column) = (row + dy * scale + y, left + dx * scale + x)
                        guard row >= 0, row < rows, column >= 0, column < columns else { continue }
                        set(row * columns + column, Colour(grey: 1))
                    }
                }
            }
        }
    }
}
